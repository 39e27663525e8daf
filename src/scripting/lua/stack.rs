//! The stack of a Lua state: reads and pushes values, and accesses tables.
//!
//! Positions are counted as in Lua: 1 is the first value of the running function, -1 the topmost one. Methods that need
//! a value at a position panic if there is none, and those that need a table panic if the value is not one, since that
//! is a bug in this room.
#![allow(unsafe_code)]

use std::ffi::c_int;
use std::{ptr, slice};

use mlua_sys::lua51 as sys;

use super::ffi::{Lua, Native, Reference, shell};

/// Pseudo-position of the registry.
const REGISTRY: c_int = sys::LUA_REGISTRYINDEX;

/// Kind of the value at a stack position.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Past the end of the stack.
    None,
    Nil,
    Boolean,
    /// A light userdata. The only one is `cjson.null`.
    Pointer,
    Number,
    String,
    Table,
    Function,
    Userdata,
    Thread,
}

impl Kind {
    /// Name of the kind as Lua's `type` returns it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::None => "no value",
            Kind::Nil => "nil",
            Kind::Boolean => "boolean",
            Kind::Pointer | Kind::Userdata => "userdata",
            Kind::Number => "number",
            Kind::String => "string",
            Kind::Table => "table",
            Kind::Function => "function",
            Kind::Thread => "thread",
        }
    }
}
/// Largest number of values in one stack frame, Lua's `LUAI_MAXCSTACK`.
pub const LARGEST_FRAME: i32 = 8000;
/// Largest string in bytes, LuaJIT's `LJ_MAX_STR`.
pub const LARGEST_STRING: usize = 0x7fff_ff00;
/// Largest number of items that Rust code stores in a table; LuaJIT allows twice as many.
pub const MOST_ITEMS: usize = 1 << 26;

impl Lua<'_> {
    /// Number of values on the stack.
    #[inline]
    pub fn top(&self) -> i32 {
        // SAFETY: the state is alive.
        unsafe { sys::lua_gettop(self.raw) }
    }

    /// Checks that `at` is a position that may be read. Positions above the top may be read: they have no value.
    #[inline]
    pub(super) fn readable(&self, at: i32) -> c_int {
        assert!(at > 0 || (at < 0 && -at <= self.top()), "no such place on the stack");
        at
    }

    /// Checks that there is a value at `at`.
    #[inline]
    pub(super) fn place(&self, at: i32) -> c_int {
        let top = self.top();
        assert!((at > 0 && at <= top) || (at < 0 && -at <= top), "no such place on the stack");
        at
    }

    /// Checks that there is a table at `at`.
    #[inline]
    fn table(&self, at: i32) -> c_int {
        assert!(self.kind(at) == Kind::Table, "not a table");
        at
    }

    /// `at` as a position counted from the bottom.
    #[inline]
    pub fn absolute(&self, at: i32) -> i32 {
        if at > 0 { at } else { self.top() + 1 + at }
    }

    /// Truncates the stack to `top` values, or extends it with nils.
    #[inline]
    pub fn set_top(&mut self, top: i32) {
        assert!((0..LARGEST_FRAME).contains(&top), "no such height of the stack");
        if top > self.top() {
            self.reserve(top - self.top());
        }
        // SAFETY: `top` is a height of the stack, for which there is room.
        unsafe { sys::lua_settop(self.raw, top) };
    }

    /// Removes the topmost `n` values.
    #[inline]
    pub fn pop(&mut self, n: i32) {
        assert!((0..=self.top()).contains(&n), "fewer values on the stack");
        // SAFETY: there are `n` values.
        unsafe { sys::lua_settop(self.raw, -n - 1) };
    }

    /// Whether the stack frame, of at most 8,000 values, has space for `n` more values.
    #[inline]
    pub fn reserve(&mut self, n: i32) -> bool {
        // SAFETY: the state is alive; a failure to grow is caught inside.
        (0..LARGEST_FRAME).contains(&n) && unsafe { sys::lua_checkstack(self.raw, n) != 0 }
    }

    /// The kind of the value at `at`.
    #[inline]
    pub fn kind(&self, at: i32) -> Kind {
        // SAFETY: the place may be read.
        match unsafe { sys::lua_type(self.raw, self.readable(at)) } {
            sys::LUA_TNIL => Kind::Nil,
            sys::LUA_TBOOLEAN => Kind::Boolean,
            sys::LUA_TLIGHTUSERDATA => Kind::Pointer,
            sys::LUA_TNUMBER => Kind::Number,
            sys::LUA_TSTRING => Kind::String,
            sys::LUA_TTABLE => Kind::Table,
            sys::LUA_TFUNCTION => Kind::Function,
            sys::LUA_TTHREAD => Kind::Thread,
            sys::LUA_TNONE => Kind::None,
            _ => Kind::Userdata,
        }
    }

    /// The number at `at`, if the value is a number.
    #[inline]
    pub fn number(&self, at: i32) -> Option<f64> {
        // SAFETY: `kind` checked the place.
        (self.kind(at) == Kind::Number).then(|| unsafe { sys::lua_tonumber(self.raw, at) })
    }

    /// The number at `at`, if the value is a number or a string that can be converted to one.
    #[inline]
    pub fn to_number(&self, at: i32) -> Option<f64> {
        match self.kind(at) {
            // SAFETY: `kind` checked the place.
            Kind::Number => Some(unsafe { sys::lua_tonumber(self.raw, at) }),
            // SAFETY: as above.
            Kind::String if unsafe { sys::lua_isnumber(self.raw, at) } != 0 => {
                // SAFETY: as above.
                Some(unsafe { sys::lua_tonumber(self.raw, at) })
            }
            _ => None,
        }
    }

    /// Whether the value at `at` is true in a condition.
    #[inline]
    pub fn truth(&self, at: i32) -> bool {
        // SAFETY: the place may be read.
        unsafe { sys::lua_toboolean(self.raw, self.readable(at)) != 0 }
    }

    /// The string at `at`, if the value is a string. It is borrowed from the stack, which cannot change meanwhile.
    #[inline]
    pub fn bytes(&self, at: i32) -> Option<&[u8]> {
        if self.kind(at) != Kind::String {
            return None;
        }
        let mut len = 0;
        // SAFETY: the place holds a string; it lives while it is on the stack, and `self` is borrowed as long.
        unsafe {
            let start = sys::lua_tolstring(self.raw, at, &raw mut len);
            Some(slice::from_raw_parts(start.cast(), len))
        }
    }

    /// The string at `at`; a number there is first replaced by its string.
    #[inline]
    pub fn to_bytes(&mut self, at: i32) -> Option<&[u8]> {
        if let Some(number) = self.number(at) {
            if number.is_nan() {
                self.nan_to_text(at, number);
            } else {
                // SAFETY: the place holds a number, and no table is being walked by it: see `next`.
                unsafe { sys::lua_tolstring(self.raw, at, ptr::null_mut()) };
            }
        }
        self.bytes(at)
    }

    /// Replaces a NaN by its text. Unlike LuaJIT, this keeps the sign.
    #[cold]
    fn nan_to_text(&mut self, at: i32, number: f64) {
        let at = if at < 0 { self.top() + at + 1 } else { at };
        self.push_bytes(if number.is_sign_negative() { b"-nan" } else { b"nan" });
        self.replace(at);
    }

    /// Length of the string or table at `at`; 0 for other values. The length of a table is a border of its array.
    #[inline]
    pub fn raw_len(&self, at: i32) -> usize {
        if matches!(self.kind(at), Kind::String | Kind::Table) {
            // SAFETY: `kind` checked the place.
            unsafe { sys::lua_objlen(self.raw, at) }
        } else {
            0
        }
    }

    /// Whether the values at both positions are equal, without metamethods.
    #[inline]
    pub fn same(&self, a: i32, b: i32) -> bool {
        // SAFETY: both places may be read; no metamethod is called.
        unsafe { sys::lua_rawequal(self.raw, self.readable(a), self.readable(b)) != 0 }
    }

    /// Whether the value at `at` is `cjson.null`.
    #[inline]
    pub fn is_null(&self, at: i32) -> bool {
        // SAFETY: `kind` checked the place.
        self.kind(at) == Kind::Pointer && unsafe { sys::lua_touserdata(self.raw, at) }.is_null()
    }

    /// Address that identifies the value at `at` in messages.
    pub fn address(&self, at: i32) -> usize {
        // SAFETY: the place may be read.
        unsafe { sys::lua_topointer(self.raw, self.readable(at)) }.addr()
    }

    /// Pushes nil.
    #[inline]
    pub fn push_nil(&mut self) {
        // SAFETY: pushing grows the stack by itself, and no allocation fails while Rust code runs.
        unsafe { sys::lua_pushnil(self.raw) };
    }

    /// Pushes a boolean.
    #[inline]
    pub fn push_bool(&mut self, yes: bool) {
        // SAFETY: as in `push_nil`.
        unsafe { sys::lua_pushboolean(self.raw, c_int::from(yes)) };
    }

    /// Pushes a number.
    #[inline]
    pub fn push_number(&mut self, n: f64) {
        // SAFETY: as in `push_nil`.
        unsafe { sys::lua_pushnumber(self.raw, n) };
    }

    /// Pushes a string, truncated to 2,147,483,391 bytes, Lua's limit.
    #[inline]
    pub fn push_bytes(&mut self, bytes: &[u8]) {
        let len = bytes.len().min(LARGEST_STRING);
        // SAFETY: as in `push_nil`; the library copies the bytes.
        unsafe { sys::lua_pushlstring_(self.raw, bytes.as_ptr().cast(), len) };
    }

    /// Pushes a part of the string at `at`.
    #[inline]
    pub fn push_part(&mut self, at: i32, from: usize, to: usize) {
        let part = &self.bytes(at).unwrap_or_default()[from..to];
        let (start, len) = (part.as_ptr(), part.len());
        // SAFETY: as in `push_nil`; the string stays on the stack, so it lives until it is copied.
        unsafe { sys::lua_pushlstring_(self.raw, start.cast(), len) };
    }

    /// Pushes `cjson.null`.
    #[inline]
    pub fn push_null(&mut self) {
        // SAFETY: as in `push_nil`.
        unsafe { sys::lua_pushlightuserdata(self.raw, ptr::null_mut()) };
    }

    /// Pushes a native function; `F` is a function or a closure that captures nothing.
    pub fn push_function<F>(&mut self, _: F)
    where
        F: Fn(&mut Lua<'_>) -> Native + Copy + 'static,
    {
        // SAFETY: as in `push_nil`; `shell` keeps the rules for native functions.
        unsafe { sys::lua_pushcclosure(self.raw, shell::<F, true>, 0) };
    }

    /// As [`Lua::push_function`], for an error handler. It may exceed the memory limit, since otherwise it could not
    /// report that memory is short.
    pub fn push_handler<F>(&mut self, _: F)
    where
        F: Fn(&mut Lua<'_>) -> Native + Copy + 'static,
    {
        // SAFETY: as in `push_function`.
        unsafe { sys::lua_pushcclosure(self.raw, shell::<F, false>, 0) };
    }

    /// Pushes a copy of the value at `at`.
    #[inline]
    pub fn push_value(&mut self, at: i32) {
        let at = self.place(at);
        // SAFETY: as in `push_nil`; the place holds a value.
        unsafe { sys::lua_pushvalue(self.raw, at) };
    }

    /// Moves the topmost value to position `at` and shifts the values from there on up by one.
    pub fn insert(&mut self, at: i32) {
        let at = self.place(at);
        // SAFETY: the place holds a value.
        unsafe { sys::lua_insert(self.raw, at) };
    }

    /// Removes the value at `at`.
    pub fn remove(&mut self, at: i32) {
        let at = self.place(at);
        // SAFETY: the place holds a value.
        unsafe { sys::lua_remove(self.raw, at) };
    }

    /// Replaces the value at `at` by the topmost value, which is popped.
    pub fn replace(&mut self, at: i32) {
        let at = self.place(at);
        // SAFETY: the place holds a value.
        unsafe { sys::lua_replace(self.raw, at) };
    }

    /// Pushes a new table with space for `items` and `pairs`, each capped at 65,536.
    #[inline]
    pub fn new_table(&mut self, items: usize, pairs: usize) {
        // SAFETY: as in `push_nil`.
        unsafe { sys::lua_createtable(self.raw, items.min(1 << 16) as c_int, pairs.min(1 << 16) as c_int) };
    }

    /// Replaces the key on top of the stack by its value in the table at `at`, or nil. Calls no metamethod.
    #[inline]
    pub fn raw_get(&mut self, at: i32) {
        let at = self.table(at);
        // SAFETY: the place holds a table, and there is at least that one value.
        unsafe { sys::lua_rawget_(self.raw, at) };
    }

    /// Pushes item `i` of the table at `at`, or nil.
    #[inline]
    pub fn raw_get_index(&mut self, at: i32, i: i32) {
        let at = self.table(at);
        // SAFETY: the place holds a table.
        unsafe { sys::lua_rawgeti_(self.raw, at, i) };
    }

    /// Pushes the value of a field of the table at `at`, or nil.
    #[inline]
    pub fn raw_get_field(&mut self, at: i32, name: &str) {
        let at = self.absolute(self.table(at));
        self.push_bytes(name.as_bytes());
        self.raw_get(at);
    }

    /// Sets a pair of the table at `at` and pops it: the value is on top of the stack, the key below it. A pair whose
    /// key is nil or NaN is dropped.
    #[inline]
    pub fn raw_set(&mut self, at: i32) {
        let at = self.table(at);
        let valid = match self.kind(-2) {
            Kind::Nil | Kind::None => false,
            Kind::Number => self.number(-2).is_some_and(|n| !n.is_nan()),
            _ => true,
        };
        if valid {
            // SAFETY: the place holds a table, and key and value are on the stack. The key is one that tables take.
            unsafe { sys::lua_rawset(self.raw, at) };
        } else {
            self.pop(2);
        }
    }

    /// Sets item `i` of the table at `at` to the value on top of the stack and pops it. Items beyond [`MOST_ITEMS`] are
    /// dropped.
    #[inline]
    pub fn raw_set_index(&mut self, at: i32, i: usize) {
        let at = self.table(at);
        if i <= MOST_ITEMS {
            // SAFETY: the place holds a table, the value is on top, and the item fits.
            unsafe { sys::lua_rawseti_(self.raw, at, i as c_int) };
        } else {
            self.pop(1);
        }
    }

    /// Sets a field of the table at `at` to the value on top of the stack and pops it.
    pub fn raw_set_field(&mut self, at: i32, name: &str) {
        let at = self.absolute(self.table(at));
        self.push_bytes(name.as_bytes());
        self.insert(-2);
        self.raw_set(at);
    }

    /// Replaces the key on top of the stack by the next pair of the table at `at`. Returns false at the end, when the
    /// key has been popped. An iteration begins with nil, and the key must not be converted in between.
    #[inline]
    pub fn next(&mut self, at: i32) -> bool {
        let at = self.table(at);
        // SAFETY: the place holds a table. A key that is not of the table raises; that unwinds through frames of the
        // `C-unwind` convention, whose destructors run.
        unsafe { sys::lua_next(self.raw, at) != 0 }
    }

    /// Pushes the metatable of the value at `at`, if it has one.
    #[inline]
    pub fn push_metatable(&mut self, at: i32) -> bool {
        let at = self.place(at);
        // SAFETY: the place holds a value.
        unsafe { sys::lua_getmetatable(self.raw, at) != 0 }
    }

    /// Sets the metatable of the table or string at `at` to the table or nil on top of the stack, and pops it.
    pub fn set_metatable(&mut self, at: i32) {
        assert!(
            matches!(self.kind(at), Kind::Table | Kind::String)
                && matches!(self.kind(-1), Kind::Table | Kind::Nil)
        );
        // SAFETY: checked above.
        unsafe { sys::lua_setmetatable(self.raw, at) };
    }

    /// Pushes the table of globals, as Lua's own libraries filled it.
    pub fn push_globals(&mut self) {
        // SAFETY: as in `push_nil`.
        unsafe { sys::lua_pushvalue(self.raw, sys::LUA_GLOBALSINDEX) };
    }

    /// Makes the table on top of the stack the environment of functions loaded from now on, and pops it.
    pub fn set_globals(&mut self) {
        assert!(self.kind(-1) == Kind::Table);
        // SAFETY: a table is on top.
        unsafe { sys::lua_replace(self.raw, sys::LUA_GLOBALSINDEX) };
    }

    /// Makes the table on top of the stack the environment of the function at `at`, and pops it.
    #[inline]
    pub fn set_environment(&mut self, at: i32) {
        assert!(self.kind(-1) == Kind::Table && self.kind(at) == Kind::Function);
        // SAFETY: checked above.
        unsafe { sys::lua_setfenv(self.raw, at) };
    }

    /// Pops the value on top of the stack and stores it in the registry.
    pub fn keep(&mut self) -> Reference {
        self.place(-1);
        // SAFETY: there is a value on top; as in `push_nil`.
        Reference(unsafe { sys::luaL_ref(self.raw, REGISTRY) })
    }

    /// Pushes a value from the registry.
    #[inline]
    pub fn push_kept(&mut self, reference: &Reference) {
        // SAFETY: the registry is a table.
        unsafe { sys::lua_rawgeti_(self.raw, REGISTRY, reference.0) };
    }

    /// Removes a value from the registry.
    pub fn release(&mut self, reference: Reference) {
        // SAFETY: the registry is a table; the number came from `keep`, and is given back once.
        unsafe { sys::luaL_unref(self.raw, REGISTRY, reference.0) };
    }

    /// Calls `f` with the string at `at`, which stays alive whatever `f` does with the stack.
    #[inline]
    pub fn with_string<R>(&mut self, at: i32, f: impl FnOnce(&[u8], &mut Self) -> R) -> Option<R> {
        let bytes = self.bytes(at)?;
        let (start, len) = (bytes.as_ptr(), bytes.len());
        let mut copy = [0; 256];
        if let Some(copy) = copy.get_mut(..len) {
            // Copying a short string is faster than storing it in the registry.
            copy.copy_from_slice(bytes);
            return Some(f(copy, self));
        }
        self.push_value(at);
        let kept = self.keep();
        // SAFETY: the registry holds the string until `f` is done, and strings neither move nor change.
        let result = f(unsafe { slice::from_raw_parts(start, len) }, self);
        self.release(kept);
        Some(result)
    }
}

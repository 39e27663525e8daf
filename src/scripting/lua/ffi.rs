//! The Lua machine: a safe interface to LuaJIT's interpreter. The stack and its values are in `stack.rs`.
//!
//! Four rules make the interface safe:
//!
//! - **A Lua error crosses no frame that owns anything.** A native function is a Rust function that returns a `Result`;
//!   only [`shell`], which owns nothing, raises. Rust calls Lua functions only through `lua_pcall`.
//! - **Rust code does not run out of Lua memory.** While a native function runs, the allocator grants every request, so
//!   that pushing a value cannot raise. [`shell`] checks the limit when the function returns, and functions that make
//!   large values call [`Lua::room_for`] first. The allocator enforces the limit only while Lua code runs.
//! - **Stack positions are checked** before they reach the library, which does not check them. LuaJIT's push functions
//!   grow the stack by themselves.
//! - **No other code runs**: no finalizer can be set (there is no `newproxy`), and neither the JIT compiler nor the
//!   libraries `ffi`, `debug`, `io` and `package` are opened.
//!
//! LuaJIT is by Mike Pall. The idea of a shell that owns nothing is that of the crate mlua.
#![allow(unsafe_code)]

use std::ffi::{CStr, c_char, c_int, c_void};
use std::marker::PhantomData;
use std::ptr::{self, NonNull};

use mlua_sys::lua51 as sys;
use mlua_sys::lua51::lua_State;

use super::watch::Watch;
use crate::scripting::debugger;
use crate::scripting::host::Host;
use crate::scripting::run;
use crate::scripting::state::State;

/// Instructions between two calls of a permanent hook: about a third of a millisecond.
const HOOK_EVERY: c_int = 100_000;

/// An error is to be raised. Its value is on top of the stack.
#[derive(Debug)]
#[must_use = "the error's value is on the stack"]
pub struct Raise(());

/// Result of a native function: the number of its results on top of the stack.
pub type Native = Result<usize, Raise>;

/// A value in the registry, which keeps it alive.
#[derive(Debug, PartialEq, Eq)]
pub struct Reference(pub(super) c_int);

/// Data for the allocator and the hooks of a Lua state, at a fixed address for the life of the state.
struct Shared {
    used: usize,
    limit: usize,
    /// Whether the memory limit is enforced: true while Lua code runs.
    strict: bool,
    /// The host of the running script, if one runs and the host is not being called.
    host: Option<NonNull<dyn Host>>,
    watch: Watch,
    state: State,
}

/// A Lua state with its memory.
pub struct Machine {
    raw: *mut lua_State,
    shared: NonNull<Shared>,
}

/// The allocator: counts bytes, and refuses requests beyond the limit while Lua code runs.
///
/// # Safety
/// `ud` is the [`Shared`] of a live machine, and `block` one of `old` bytes that this function gave, or null.
unsafe extern "C" fn allocate(ud: *mut c_void, block: *mut c_void, old: usize, new: usize) -> *mut c_void {
    let shared = ud.cast::<Shared>();
    let old = if block.is_null() { 0 } else { old };
    // SAFETY: `ud` is the `Shared` that `Machine::new` made and frees after the state; the counters are touched by
    // nobody else while the library allocates. `block` came from here, so from this allocator.
    unsafe {
        if new == 0 {
            (*shared).used -= old;
            libc::free(block);
            return ptr::null_mut();
        }
        if new > old && (*shared).strict && (*shared).used + (new - old) > (*shared).limit {
            return ptr::null_mut();
        }
        let moved = libc::realloc(block, new);
        if moved.is_null() {
            if new <= old {
                return block;
            }
            if !(*shared).strict {
                std::process::abort();
            }
            return moved;
        }
        (*shared).used = (*shared).used - old + new;
        moved
    }
}

/// Called by Lua for an error outside any protected call.
///
/// # Safety
/// None: it looks at nothing.
unsafe extern "C-unwind" fn panicked(_: *mut lua_State) -> c_int {
    // No code of this crate raises outside a protected call.
    std::process::abort();
}

/// The shared data of the state `raw`, which is the allocator's argument.
#[inline]
fn shared_of(raw: *mut lua_State) -> *mut Shared {
    let mut ud = ptr::null_mut();
    // SAFETY: `raw` is a live state; the allocator's argument was given by `Machine::new`.
    unsafe { sys::lua_getallocf(raw, &raw mut ud) };
    ud.cast()
}

/// The C function that wraps the Rust function `F`. It owns nothing, so that an error may unwind through it.
///
/// # Safety
/// `raw` is the state of a live machine, which calls this function.
pub(super) unsafe extern "C-unwind" fn shell<F, const SETTLES: bool>(raw: *mut lua_State) -> c_int
where
    F: Fn(&mut Lua<'_>) -> Native + Copy,
{
    let results = run_native::<F, SETTLES>(raw);
    if results < 0 {
        // SAFETY: no value with a destructor lives in this frame, and the error's value is on the stack.
        unsafe { sys::lua_error(raw) };
    }
    results
}

#[inline]
fn run_native<F, const SETTLES: bool>(raw: *mut lua_State) -> c_int
where
    F: Fn(&mut Lua<'_>) -> Native + Copy,
{
    const { assert!(size_of::<F>() == 0) };
    // SAFETY: `F` has no bytes, and a value of it existed when `push_function` was called.
    let function: F = unsafe { NonNull::<F>::dangling().read() };
    let shared = shared_of(raw);
    // SAFETY: `shared` lives as long as the state; `Lua` borrows only what its methods name.
    unsafe { (*shared).strict = false };
    let mut lua = Lua { raw, shared, borrow: PhantomData };
    let results = match function(&mut lua) {
        Ok(results) => (results as c_int).min(lua.top()),
        Err(Raise(())) => -1,
    };
    // SAFETY: as above.
    let overdrawn = SETTLES && unsafe { (*shared).used > (*shared).limit };
    let results = if overdrawn { lua.settle(results) } else { results };
    // SAFETY: as above.
    unsafe { (*shared).strict = true };
    results
}

/// The hook: asks whether the script may continue, and tells the debugger about new lines.
///
/// # Safety
/// `raw` is the state of a live machine, which calls the hook with its record.
unsafe extern "C-unwind" fn hook(raw: *mut lua_State, record: *mut sys::lua_Debug) {
    let shared = shared_of(raw);
    // SAFETY: as in `run_native`; the library fills the record of the event.
    let (event, line) = unsafe {
        (*shared).watch.end();
        (*shared).strict = false;
        ((*record).event, i64::from((*record).currentline))
    };
    let raise = {
        let mut lua = Lua { raw, shared, borrow: PhantomData };
        if event == sys::LUA_HOOKLINE {
            debugger::on_line(&mut lua, line).is_err()
        } else if lua.state().debugger.is_some() {
            debugger::on_time(&mut lua).is_err()
        } else if run::on_hook(&mut lua).is_err() {
            true
        } else {
            lua.hook_again();
            false
        }
    };
    // SAFETY: as in `run_native`.
    unsafe { (*shared).strict = true };
    if raise {
        // SAFETY: no value with a destructor lives in this frame, and the error's value is on the stack.
        unsafe { sys::lua_error(raw) };
    }
}

/// Sets the hook for the next instruction, unless one is set. The hook removes itself when called.
///
/// # Safety
/// `raw` is the state of a live machine. The call may interrupt any code but that which sets hooks.
pub(super) unsafe fn hook_from_signal(raw: *mut lua_State) {
    // SAFETY: the first only reads; the library allows the second in a signal handler, and `hook` keeps the rules for hooks.
    unsafe {
        if sys::lua_gethookmask(raw) == 0 {
            sys::lua_sethook(raw, Some(hook), sys::LUA_MASKCOUNT, 1);
        }
    }
}

impl Machine {
    /// A state with Lua's base, table, string, math and bit libraries, which may use `limit` bytes.
    ///
    /// # Panics
    /// If memory is short.
    pub fn new(limit: usize, state: State) -> Machine {
        let shared =
            Box::new(Shared { used: 0, limit, strict: false, host: None, watch: Watch::new(), state });
        let shared = NonNull::from(Box::leak(shared));
        // SAFETY: `allocate` is an allocator, and its argument outlives the state: see `drop`.
        let raw = unsafe { sys::lua_newstate(allocate, shared.as_ptr().cast()) };
        assert!(!raw.is_null(), "no memory for a Lua state");
        // SAFETY: the state is new. While `strict` is false no allocation fails, so that nothing here raises.
        unsafe {
            sys::lua_atpanic(raw, panicked);
            for open in [
                sys::luaopen_base as sys::lua_CFunction,
                sys::luaopen_table,
                sys::luaopen_string,
                sys::luaopen_math,
                sys::luaopen_bit,
            ] {
                sys::lua_pushcclosure(raw, open, 0);
                sys::lua_call(raw, 0, 0);
            }
            sys::lua_settop(raw, 0);
        }
        Machine { raw, shared }
    }

    /// Access to the state and its stack. O(1).
    #[inline]
    pub fn lua(&mut self) -> Lua<'_> {
        Lua { raw: self.raw, shared: self.shared.as_ptr(), borrow: PhantomData }
    }

    /// Bytes that the state has allocated.
    pub fn used(&self) -> usize {
        // SAFETY: the context lives as long as `self`.
        unsafe { (*self.shared.as_ptr()).used }
    }

    /// Changes the memory limit of scripts, in bytes.
    pub fn set_limit(&mut self, limit: usize) {
        // SAFETY: the context lives as long as `self`.
        unsafe { (*self.shared.as_ptr()).limit = limit };
    }

    /// Calls `f`, during which scripts can call `host`.
    pub fn with_host<R>(&mut self, host: &mut dyn Host, f: impl FnOnce(&mut Lua<'_>) -> R) -> R {
        struct Leave(*mut Shared);
        impl Drop for Leave {
            fn drop(&mut self) {
                // SAFETY: the context outlives the call of `with_host`.
                unsafe { (*self.0).host = None };
            }
        }
        // SAFETY: only the lifetime changes. The pointer is taken away again before `host` ends, by `Leave`.
        let host: NonNull<dyn Host> =
            unsafe { std::mem::transmute::<NonNull<dyn Host + '_>, NonNull<dyn Host>>(NonNull::from(host)) };
        let shared = self.shared.as_ptr();
        // SAFETY: the context lives as long as `self`.
        unsafe { (*shared).host = Some(host) };
        let _leave = Leave(shared);
        f(&mut self.lua())
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // SAFETY: `self` owns the state and the context, and nobody has either any more.
        unsafe {
            (*self.shared.as_ptr()).watch.end();
            sys::lua_close(self.raw);
            drop(Box::from_raw(self.shared.as_ptr()));
        }
    }
}

/// A Lua state as seen by the running function: a stack of values, the first at position 1.
pub struct Lua<'l> {
    pub(super) raw: *mut lua_State,
    shared: *mut Shared,
    borrow: PhantomData<&'l mut Machine>,
}

impl Lua<'_> {
    /// State of this room that belongs to the Lua state.
    #[inline]
    pub fn state(&mut self) -> &mut State {
        // SAFETY: the context lives as long as the state; `&mut self` is the only way to it while a function runs.
        unsafe { &mut (*self.shared).state }
    }

    /// Calls `f` with the host and the stack. `None` if no script runs, or if the host is already being called.
    #[inline]
    pub fn with_host<R>(&mut self, f: impl FnOnce(&mut dyn Host, &mut Self) -> R) -> Option<R> {
        // SAFETY: the context lives as long as the state.
        let mut host = unsafe { (*self.shared).host.take() }?;
        // SAFETY: `Machine::with_host` set the pointer and takes it back before the host ends. It was taken out above, so
        // that nobody makes a second reference.
        let result = f(unsafe { host.as_mut() }, self);
        // SAFETY: as above.
        unsafe { (*self.shared).host = Some(host) };
        Some(result)
    }

    /// Calls the function below the `args` values on top of the stack. Its results, at most `results` if given, replace
    /// function and arguments.
    ///
    /// # Errors
    /// The function raised an error. The error value replaces function and arguments; if there is a function at
    /// `handler`, the value is what that function returned for the error.
    #[inline]
    pub fn call(&mut self, args: i32, results: Option<i32>, handler: Option<i32>) -> Native {
        let base = self.top() - args - 1;
        assert!(args >= 0 && base >= 0, "fewer values on the stack");
        let handler = handler.map_or(0, |at| self.place(at));
        // SAFETY: the context lives as long as the state.
        unsafe { (*self.shared).strict = true };
        // SAFETY: function and arguments are on the stack. The call is protected: errors end in its status.
        let status = unsafe { sys::lua_pcall(self.raw, args, results.unwrap_or(sys::LUA_MULTRET), handler) };
        // SAFETY: as above.
        unsafe { (*self.shared).strict = false };
        if status == sys::LUA_OK { Ok((self.top() - base) as usize) } else { Err(Raise(())) }
    }

    /// Compiles source text and pushes the resulting function, or an error message. The garbage collector is stopped
    /// meanwhile.
    ///
    /// # Errors
    /// The text is not valid Lua. The caller refuses precompiled code, which begins with an escape character.
    pub fn load(&mut self, source: &[u8], name: &CStr) -> Native {
        struct Piece<'a>(&'a [u8]);
        /// Passes the source to the compiler, in one piece.
        ///
        /// # Safety
        /// `data` is a piece, and `size` may be written to.
        unsafe extern "C-unwind" fn read(
            _: *mut lua_State,
            ud: *mut c_void,
            size: *mut usize,
        ) -> *const c_char {
            // SAFETY: `ud` is the `Piece` below, `size` where the library wants the length.
            unsafe {
                let piece = std::mem::take(&mut (*ud.cast::<Piece<'_>>()).0);
                *size = piece.len();
                if piece.is_empty() { ptr::null() } else { piece.as_ptr().cast() }
            }
        }
        assert!(source.first() != Some(&0x1b), "compiled code is not loaded");
        let mut piece = Piece(source);
        // SAFETY: `read` hands out the source once, while it is borrowed. Errors end in the status.
        unsafe {
            sys::lua_gc(self.raw, sys::LUA_GCSTOP, 0);
            let status = sys::lua_load(self.raw, read, (&raw mut piece).cast(), name.as_ptr());
            sys::lua_gc(self.raw, sys::LUA_GCRESTART, 0);
            if status == sys::LUA_OK { Ok(1) } else { Err(Raise(())) }
        }
    }

    /// Collects all garbage. O(live and dead values).
    pub fn collect(&mut self) {
        // SAFETY: the state is alive, and no finalizer exists that could raise.
        unsafe { sys::lua_gc(self.raw, sys::LUA_GCCOLLECT, 0) };
    }

    /// One of the other operations of the collector: `LUA_GCSTEP`, `LUA_GCSETPAUSE`, `LUA_GCSETSTEPMUL` by number.
    pub fn tune_collector(&mut self, what: Collector, data: i32) -> i32 {
        let what = match what {
            Collector::Stop => sys::LUA_GCSTOP,
            Collector::Restart => sys::LUA_GCRESTART,
            Collector::Step => sys::LUA_GCSTEP,
            Collector::Pause => sys::LUA_GCSETPAUSE,
            Collector::StepMul => sys::LUA_GCSETSTEPMUL,
        };
        // SAFETY: as in `collect`.
        unsafe { sys::lua_gc(self.raw, what, data) }
    }

    /// Bytes that the state has allocated.
    #[inline]
    pub fn used(&self) -> usize {
        // SAFETY: the context lives as long as the state.
        unsafe { (*self.shared).used }
    }

    /// Checks that a value of about `bytes` bytes fits into memory, and collects garbage first if it does not.
    ///
    /// # Errors
    /// "not enough memory".
    #[inline]
    pub fn room_for(&mut self, bytes: usize) -> Result<(), Raise> {
        // SAFETY: the context lives as long as the state.
        let limit = unsafe { (*self.shared).limit };
        if self.used().saturating_add(bytes) <= limit { Ok(()) } else { self.make_room(bytes, limit) }
    }

    #[cold]
    fn make_room(&mut self, bytes: usize, limit: usize) -> Result<(), Raise> {
        if bytes < limit {
            self.collect();
        }
        if self.used().saturating_add(bytes) <= limit {
            return Ok(());
        }
        self.push_bytes(b"not enough memory");
        Err(Raise(()))
    }

    /// Called when a native function exceeded the memory limit: collects garbage, and reports an error if memory is
    /// still over the limit. Returns the number of results, or -1.
    #[cold]
    fn settle(&mut self, results: c_int) -> c_int {
        match self.room_for(0) {
            Ok(()) => results,
            Err(Raise(())) => -1,
        }
    }

    /// Sets when the hook is called, until the next call of this method or [`Lua::remove_hook`].
    pub fn set_hook(&mut self, when: Hook) {
        let (mask, count) = match when {
            Hook::Often => (sys::LUA_MASKCOUNT, HOOK_EVERY),
            Hook::Always => (sys::LUA_MASKCOUNT, 1),
            Hook::Lines => (sys::LUA_MASKCOUNT | sys::LUA_MASKLINE, HOOK_EVERY),
        };
        // SAFETY: the context lives as long as the state. `hook` keeps the rules for hooks.
        unsafe {
            (*self.shared).watch.end();
            sys::lua_sethook(self.raw, Some(hook), mask, count);
        }
    }

    /// Has the hook set after some milliseconds, if the code called next still runs then. No hook may be set at the
    /// call.
    #[inline]
    pub fn hook_later(&mut self) {
        // SAFETY: the context lives as long as the state, and its end takes the watch back. The functions that set hooks
        // do the same before.
        let watched = unsafe { (*self.shared).watch.begin(self.raw) };
        if !watched {
            self.set_hook(Hook::Often);
        }
    }

    /// Called after the hook ran: removes a hook set by a signal, and has it set again later.
    fn hook_again(&mut self) {
        // SAFETY: the state is alive.
        let (mask, count) = unsafe { (sys::lua_gethookmask(self.raw), sys::lua_gethookcount(self.raw)) };
        if mask == sys::LUA_MASKCOUNT && count == 1 {
            self.remove_hook();
            self.hook_later();
        }
    }

    /// Removes the hook.
    #[inline]
    pub fn remove_hook(&mut self) {
        // SAFETY: the context lives as long as the state.
        unsafe {
            (*self.shared).watch.end();
            if sys::lua_gethookmask(self.raw) != 0 {
                sys::lua_sethook(self.raw, None, 0, 0);
            }
        }
    }

    /// Whether a hook is set.
    #[cfg(test)]
    pub fn is_hooked(&self) -> bool {
        // SAFETY: the state is alive.
        unsafe { sys::lua_gethookmask(self.raw) != 0 }
    }

    /// Pushes local variable `n`, counted from 1, of the function at `level`, and returns its name.
    pub fn push_local(&mut self, level: i32, n: i32) -> Option<Vec<u8>> {
        // SAFETY: a record of zeros is one; the library fills it.
        let mut record: sys::lua_Debug = unsafe { std::mem::zeroed() };
        // SAFETY: the state is alive, and the frame exists. The name belongs to a function on the stack, or is a constant.
        unsafe {
            if sys::lua_getstack(self.raw, level, &raw mut record) == 0 {
                return None;
            }
            let name = sys::lua_getlocal(self.raw, &raw const record, n);
            if name.is_null() { None } else { Some(CStr::from_ptr(name).to_bytes().to_vec()) }
        }
    }

    /// Raises the value on top of the stack as an error.
    pub fn raise(&mut self) -> Raise {
        self.place(-1);
        Raise(())
    }

    /// Pushes the position of the function at `level`, such as `user_script:3: `, or an empty string if it has none.
    pub fn push_where(&mut self, level: i32) {
        // SAFETY: as in `push_nil`.
        unsafe { sys::luaL_where(self.raw, level) };
    }

    /// Whether the value at `at` is a function from a script, neither native nor from the prelude. Needs a free stack
    /// slot.
    pub fn is_of_a_script(&self, at: i32) -> bool {
        // SAFETY: a record of zeros is one; the library fills it.
        let mut record: sys::lua_Debug = unsafe { std::mem::zeroed() };
        // SAFETY: the state is alive; `>` takes the function from the top, where it has just been pushed. The source that
        // is pointed to belongs to the function, which is still at `at`.
        unsafe {
            if sys::lua_type(self.raw, at) != sys::LUA_TFUNCTION {
                return false;
            }
            sys::lua_pushvalue(self.raw, at);
            if sys::lua_getinfo(self.raw, c">S".as_ptr(), &raw mut record) == 0 || record.source.is_null() {
                return false;
            }
            CStr::from_ptr(record.source).to_bytes() != b"=[C]"
        }
    }

    /// Facts about the function at `level`: 0 is the running native function, 1 its caller.
    pub fn frame(&self, level: i32) -> Option<Frame> {
        // SAFETY: a record of zeros is one; the library fills it.
        let mut record: sys::lua_Debug = unsafe { std::mem::zeroed() };
        // SAFETY: the state is alive; `lua_getinfo` is asked only about a frame that exists. The texts that it points to
        // belong to functions on the stack, or are constants.
        unsafe {
            if sys::lua_getstack(self.raw, level, &raw mut record) == 0
                || sys::lua_getinfo(self.raw, c"nSl".as_ptr(), &raw mut record) == 0
            {
                return None;
            }
            let text = |p: *const c_char| {
                if p.is_null() { Vec::new() } else { CStr::from_ptr(p).to_bytes().to_vec() }
            };
            let what = text(record.what);
            Some(Frame {
                native: what == b"C",
                method: text(record.namewhat) == b"method",
                name: text(record.name),
                source: text(record.source),
                line: i64::from(record.currentline),
            })
        }
    }
}

/// Operations of the garbage collector other than a full collection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Collector {
    /// Stops the collector until [`Collector::Restart`].
    Stop,
    /// Restarts the collector.
    Restart,
    /// Performs one step of a collection.
    Step,
    /// Sets the pause between two cycles, in percent of the live memory.
    Pause,
    /// Sets the speed of collection, in percent of the speed of allocation.
    StepMul,
}

/// When the hook is called.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Hook {
    /// Every 100,000 instructions. Used if no thread can be started that sets the hook when needed.
    Often,
    /// At every instruction, so that even a script that catches errors ends.
    Always,
    /// Every 100,000 instructions and at every new line, while a script is debugged.
    Lines,
}

/// A function that is being executed.
#[derive(Debug)]
pub struct Frame {
    /// Whether it is native.
    pub native: bool,
    /// Whether it was called as a method.
    pub method: bool,
    /// Name by which its caller refers to the function; empty if unknown.
    pub name: Vec<u8>,
    /// Name of its source, such as `@user_script`.
    pub source: Vec<u8>,
    /// Current line; -1 if unknown.
    pub line: i64,
}

//! Function libraries, and the functions that they register.

use super::lua::ffi::{Lua, Native, Reference};
use super::lua::stack::Kind;
use super::run::raise_table;
use super::shebang::{self, Flags};
use super::state::Phase;
use crate::resp::Error;
use crate::stdx::hash::Map;

/// A function that FCALL can call.
pub struct Function {
    /// Name as registered; lookups ignore letter case.
    pub name: Box<[u8]>,
    /// Description given at registration.
    pub description: Option<Box<[u8]>>,
    /// Flags given at registration.
    pub flags: Flags,
    pub(super) callback: Reference,
}

/// A library: its source text, and the functions that the text registered.
pub struct Library {
    /// Name of the library; letter case matters.
    pub name: Box<[u8]>,
    /// Source text with its first line, as dumps and lists show it.
    pub source: Box<[u8]>,
    functions: Vec<u32>,
}

/// Identity of a function. Valid as long as its library is loaded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FunctionId(u32);

/// Functions registered so far by the library being loaded.
#[derive(Default)]
pub struct Registration {
    /// Functions in order of registration.
    pub functions: Vec<Function>,
}

/// A library that has registered its functions but cannot be called yet.
pub(super) struct Pending {
    /// Name of the library.
    pub name: Vec<u8>,
    pub source: Box<[u8]>,
    /// Functions in order of registration.
    pub functions: Vec<Function>,
}

/// All libraries.
#[derive(Default)]
pub struct Libraries {
    libraries: Map<Box<[u8]>, Library>,
    functions: Vec<Option<Function>>,
    free: Vec<u32>,
    /// Indices of functions by name in lower case.
    by_name: Map<Box<[u8]>, u32>,
}

impl Libraries {
    /// Numbers of libraries and functions.
    pub fn counts(&self) -> (usize, usize) {
        (self.libraries.len(), self.by_name.len())
    }

    /// All libraries, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = &Library> {
        self.libraries.values()
    }

    /// The library with this name; letter case matters.
    pub fn get(&self, name: &[u8]) -> Option<&Library> {
        self.libraries.get(name)
    }

    /// The functions of a library in order of registration.
    pub fn functions<'a>(&'a self, library: &'a Library) -> impl Iterator<Item = &'a Function> {
        library.functions.iter().filter_map(|&slot| self.functions[slot as usize].as_ref())
    }

    /// The function with this name, in any letter case. O(1).
    #[inline]
    pub fn find(&self, name: &[u8]) -> Option<FunctionId> {
        let mut short = [0; 64];
        let slot = match short.get_mut(..name.len()) {
            Some(room) => {
                room.copy_from_slice(name);
                room.make_ascii_lowercase();
                self.by_name.get(&*room)
            }
            None => self.by_name.get(name.to_ascii_lowercase().as_slice()),
        };
        slot.map(|&slot| FunctionId(slot))
    }

    /// The function with this id, if its library is still loaded.
    #[inline]
    pub fn function(&self, id: FunctionId) -> Option<&Function> {
        self.functions.get(id.0 as usize)?.as_ref()
    }

    /// Estimated memory of libraries and functions in bytes. O(libraries).
    pub fn memory(&self) -> usize {
        self.libraries.values().map(|library| library.source.len() + library.functions.len() * 128).sum()
    }

    /// Checks that `pending` can be added once the libraries in `replaced` have been removed.
    ///
    /// # Errors
    /// A function name is taken by another library.
    pub(super) fn check(&self, pending: &Pending, replaced: &[&[u8]]) -> Result<(), Error> {
        for function in &pending.functions {
            let Some(id) = self.find(&function.name) else { continue };
            let owner = self.libraries.values().find(|library| library.functions.contains(&id.0));
            if owner.is_some_and(|library| !replaced.contains(&&*library.name)) {
                return Err(Error::quoting(&[b"ERR Function ", &function.name, b" already exists"]));
            }
        }
        Ok(())
    }

    /// Adds a library that [`Libraries::check`] has accepted.
    pub(super) fn add(&mut self, pending: Pending) {
        let mut slots = Vec::with_capacity(pending.functions.len());
        for function in pending.functions {
            let name = function.name.to_ascii_lowercase().into();
            let slot = self.free.pop().unwrap_or_else(|| {
                self.functions.push(None);
                self.functions.len() as u32 - 1
            });
            self.functions[slot as usize] = Some(function);
            self.by_name.insert(name, slot);
            slots.push(slot);
        }
        let name: Box<[u8]> = pending.name.into();
        let library = Library { name: name.clone(), source: pending.source, functions: slots };
        self.libraries.insert(name, library);
    }

    /// Removes a library and returns its callbacks, which the caller releases; `None` if there is no such library.
    pub(super) fn remove(&mut self, name: &[u8]) -> Option<Vec<Reference>> {
        let library = self.libraries.remove(name)?;
        let mut callbacks = Vec::new();
        for slot in library.functions {
            if let Some(function) = self.functions[slot as usize].take() {
                self.by_name.remove(function.name.to_ascii_lowercase().as_slice());
                self.free.push(slot);
                callbacks.push(function.callback);
            }
        }
        Some(callbacks)
    }

    /// Removes all libraries and returns their callbacks, which the caller releases.
    pub(super) fn clear(&mut self) -> Vec<Reference> {
        let libraries = std::mem::take(self);
        libraries.functions.into_iter().flatten().map(|function| function.callback).collect()
    }
}

/// `redis.register_function(name, callback)`, or one table of named arguments.
pub fn register_function(lua: &mut Lua<'_>) -> Native {
    if !matches!(lua.state().phase, Phase::Loading { .. }) || lua.state().registration.is_none() {
        let text = b"ERR redis.register_function can only be called on FUNCTION LOAD command";
        return Err(raise_table(lua, text));
    }
    match read_arguments(lua) {
        Ok(function) => {
            let registration = lua.state().registration.get_or_insert_default();
            let mut others = registration.functions.iter();
            if others.any(|other| other.name.eq_ignore_ascii_case(&function.name)) {
                lua.release(function.callback);
                return Err(raise_table(lua, b"ERR Function already exists in the library"));
            }
            registration.functions.push(function);
            Ok(0)
        }
        Err(text) => Err(raise_table(lua, text.as_bytes())),
    }
}

/// Parses the arguments. The callback is kept in the registry.
fn read_arguments(lua: &mut Lua<'_>) -> Result<Function, &'static str> {
    match lua.top() {
        1 => read_named(lua),
        2 => {
            let name = lua
                .to_bytes(1)
                .map(Box::from)
                .ok_or("ERR first argument to redis.register_function must be a string")?;
            if lua.kind(2) != Kind::Function {
                return Err("ERR second argument to redis.register_function must be a function");
            }
            finish(lua, name, 2, None, Flags::default())
        }
        _ => Err("ERR wrong number of arguments to redis.register_function"),
    }
}

fn finish(
    lua: &mut Lua<'_>,
    name: Box<[u8]>,
    callback: i32,
    description: Option<Box<[u8]>>,
    flags: Flags,
) -> Result<Function, &'static str> {
    if !shebang::is_name(&name) {
        return Err(shebang::BAD_NAME);
    }
    lua.push_value(callback);
    let callback = lua.keep();
    Ok(Function { name, description, flags, callback })
}

fn read_named(lua: &mut Lua<'_>) -> Result<Function, &'static str> {
    if lua.kind(1) != Kind::Table {
        return Err(
            "ERR calling redis.register_function with a single argument is only applicable to Lua table \
                    (representing named arguments).",
        );
    }
    let (mut name, mut description, mut flags, mut callback) = (None, None, Flags::default(), false);
    // Position 2 is reserved for the callback.
    lua.push_nil();
    lua.push_nil();
    while lua.next(1) {
        let key = match lua.bytes(-2) {
            Some(key) => key.to_ascii_lowercase(),
            None => return Err("ERR unknown argument given to redis.register_function"),
        };
        lua.push_value(-1);
        match key.as_slice() {
            b"function_name" => {
                let text = lua.to_bytes(-1).map(Box::from);
                name =
                    Some(text.ok_or(
                        "ERR function_name argument given to redis.register_function must be a string",
                    )?);
            }
            b"description" => {
                let text = lua.to_bytes(-1).map(Box::from);
                description = Some(
                    text.ok_or("ERR description argument given to redis.register_function must be a string")?,
                );
            }
            b"callback" => {
                if lua.kind(-1) != Kind::Function {
                    return Err("ERR callback argument given to redis.register_function must be a function");
                }
                callback = true;
                lua.push_value(-1);
                lua.replace(2);
            }
            b"flags" => {
                if lua.kind(-1) != Kind::Table {
                    return Err(
                        "ERR flags argument to redis.register_function must be a table representing \
                                function flags",
                    );
                }
                flags = read_flags(lua)?;
            }
            _ => return Err("ERR unknown argument given to redis.register_function"),
        }
        lua.pop(2);
    }
    let name = name.ok_or("ERR redis.register_function must get a function name argument")?;
    if !callback {
        return Err("ERR redis.register_function must get a callback argument");
    }
    finish(lua, name, 2, description, flags)
}

/// Parses the table of flag names on top of the stack.
fn read_flags(lua: &mut Lua<'_>) -> Result<Flags, &'static str> {
    let mut flags = Flags::default();
    for i in 1.. {
        lua.raw_get_index(-1, i);
        if lua.kind(-1) == Kind::Nil {
            lua.pop(1);
            break;
        }
        let known = lua.bytes(-1).is_some_and(|name| flags.set(name));
        lua.pop(1);
        if !known {
            return Err("ERR unknown flag given");
        }
    }
    Ok(flags)
}

/// Releases the callbacks of a load that failed.
pub(super) fn discard(lua: &mut Lua<'_>, functions: Vec<Function>) {
    for function in functions {
        lua.release(function.callback);
    }
}

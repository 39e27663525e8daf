//! The engine: one Lua state with the compiled scripts and libraries.

use super::answer::{self, Written};
use super::cache::Cache;
use super::debugger::Debugger;
use super::functions::{self, FunctionId, Libraries, Library, Pending, Registration};
use super::host::Host;
use super::lua::ffi::{Hook, Lua, Machine, Reference};
use super::lua::world::World;
use super::run::{self, Failure};
use super::shebang::{self, Flags};
use super::source;
use super::state::{Phase, State};
use crate::resp::{Args, Error, Protocol, Reply};
use crate::stdx::alloc::relocation::Relocator;
use crate::stdx::clock;

/// Time within which a library must register its functions.
const LOAD_TIMEOUT_US: u64 = 500_000;
/// KEYS and ARGV with more items than this are not reused.
const REUSED_ITEMS: usize = 16;

/// Limits on scripts.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of the Lua heap.
    pub memory: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { memory: 1 << 30 }
    }
}

/// A script in the cache. Valid until the next script is prepared or the cache is emptied.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Script(u32);

/// How a script ended. Its reply, which may be an error, has been written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// Whether the reply is an error.
    pub failed: bool,
    /// Whether the error came from a command and was counted when it occurred.
    pub counted: bool,
}

/// How a restore treats existing libraries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Policy {
    /// A library with an existing name is an error.
    Append,
    /// A library with an existing name replaces the old one.
    Replace,
    /// All existing libraries are removed first.
    Flush,
}

/// The engine; see the module documentation.
pub struct Engine {
    scripts: Cache,
    libraries: Libraries,
    world: World,
    machine: Machine,
}

impl Engine {
    /// An engine without scripts. `version` is the value of `redis.REDIS_VERSION`.
    pub fn new(limits: Limits, version: &'static str) -> Engine {
        let mut machine = Machine::new(limits.memory, State::new(version));
        let world = World::build(&mut machine.lua());
        Engine { scripts: Cache::default(), libraries: Libraries::default(), world, machine }
    }

    /// Changes the limits on scripts.
    pub fn set_limits(&mut self, limits: Limits) {
        self.machine.set_limit(limits.memory);
    }

    /// Size of the Lua heap in bytes: scripts, libraries and their data. O(1).
    pub fn heap(&self) -> usize {
        self.machine.used()
    }

    /// Bytes outside the heap: source texts of scripts and libraries, and the tables that index them.
    pub fn overhead(&self) -> usize {
        self.scripts.memory() + self.libraries.memory()
    }

    /// Whether a hook is set in the interpreter.
    #[cfg(test)]
    pub(super) fn is_hooked(&mut self) -> bool {
        self.machine.lua().is_hooked()
    }

    /// Collects all garbage. O(heap).
    pub fn collect(&mut self) {
        self.machine.lua().collect();
    }

    /// The cache of scripts.
    pub fn scripts(&self) -> &Cache {
        &self.scripts
    }

    /// Moves the texts of some scripts: see [`Cache::relocate`].
    pub fn relocate(&mut self, by: &mut Relocator, from: usize, most: usize) -> Option<usize> {
        self.scripts.relocate(by, from, most)
    }

    /// The function libraries.
    pub fn libraries(&self) -> &Libraries {
        &self.libraries
    }

    /// Finds the script with this source text, or compiles it. O(length).
    ///
    /// # Errors
    /// The text is not a valid script.
    #[inline]
    pub fn prepare(&mut self, text: &[u8]) -> Result<Script, Error> {
        match self.scripts.by_source(text) {
            Some(slot) => Ok(Script(slot)),
            None => self.compile_script(text).map(Script),
        }
    }

    /// Finds a script by its SHA-1, in any letter case. O(1).
    #[inline]
    pub fn find(&mut self, sha: &[u8]) -> Option<Script> {
        self.scripts.by_sha(sha).map(Script)
    }

    /// As [`Engine::prepare`], but the script is kept until the cache is emptied. Returns its SHA-1.
    ///
    /// # Errors
    /// The text is not a valid script.
    pub fn load(&mut self, text: &[u8]) -> Result<[u8; 40], Error> {
        let Script(slot) = self.prepare(text)?;
        self.scripts.pin(slot);
        Ok(self.scripts.get(slot).map(|script| script.sha).expect("it was prepared"))
    }

    /// The flags that a script declares.
    pub fn flags(&self, script: Script) -> Flags {
        self.scripts.get(script.0).map(|script| script.flags).unwrap_or_default()
    }

    /// The SHA-1 of a script.
    pub fn sha(&self, script: Script) -> Option<&[u8; 40]> {
        self.scripts.get(script.0).map(|script| &script.sha)
    }

    /// Empties the cache of scripts. O(scripts).
    pub fn flush_scripts(&mut self) {
        let mut lua = self.machine.lua();
        for function in self.scripts.clear() {
            lua.release(function);
        }
        lua.collect();
    }

    fn compile_script(&mut self, text: &[u8]) -> Result<u32, Error> {
        let (flags, code) = shebang::script(text)?;
        let mut lua = self.machine.lua();
        let function =
            compile(&mut lua, code, c"@user_script", |lua, guarded| self.world.push_script(lua, guarded))
                .map_err(|text| Error::quoting(&[b"ERR Error compiling script (new function): ", &text]))?;
        let (slot, out) = self.scripts.insert(text, function, flags);
        if let Some(function) = out {
            lua.release(function);
        }
        Ok(slot)
    }

    /// Runs a script and writes its reply. The script's commands go to `host`.
    ///
    /// # Panics
    /// If the script is no longer in the cache.
    pub fn run(
        &mut self,
        script: Script,
        keys: Args<'_>,
        argv: Args<'_>,
        host: &mut dyn Host,
        reply: &mut Reply<'_>,
    ) -> Outcome {
        let compiled = self.scripts.get(script.0).expect("the script is in the cache");
        let world = &mut self.world;
        self.machine.with_host(host, |lua| {
            lua.push_kept(&world.handler);
            lua.push_kept(&compiled.function);
            fill(lua, &world.keys, keys);
            fill(lua, &world.argv, argv);
            begin(lua, Phase::Script);
            let result = lua.call(0, Some(1), Some(1));
            if let Some(mut debugger) = lua.state().debugger.take() {
                reply.raw(&debugger.end());
            }
            let outcome = finish(lua, result.is_ok(), &compiled.sha, reply);
            recycle(lua, &mut world.keys, keys.len(), &world.script_globals, "KEYS");
            recycle(lua, &mut world.argv, argv.len(), &world.script_globals, "ARGV");
            lua.set_top(0);
            outcome
        })
    }

    /// As [`Engine::run`] under a debugger: [`Host::converse`] is called at every stop. The output begins with the last
    /// lines of the session, followed by the script's reply.
    ///
    /// # Panics
    /// As [`Engine::run`].
    pub fn debug(
        &mut self,
        script: Script,
        keys: Args<'_>,
        argv: Args<'_>,
        host: &mut dyn Host,
        reply: &mut Reply<'_>,
    ) -> Outcome {
        let compiled = self.scripts.get(script.0).expect("the script is in the cache");
        let mut lua = self.machine.lua();
        lua.state().debugger = Some(Box::new(Debugger::new(&compiled.source)));
        lua.set_hook(Hook::Lines);
        self.run(script, keys, argv, host, reply)
    }

    /// Forgets the command numbers that [`Host::resolve`] returned.
    pub fn forget_commands(&mut self) {
        self.machine.lua().state().commands.forget();
    }

    /// Finds a function by name, in any letter case. O(1).
    #[inline]
    pub fn function(&self, name: &[u8]) -> Option<FunctionId> {
        self.libraries.find(name)
    }

    /// Runs a function and writes its reply. The function's commands go to `host`.
    ///
    /// # Panics
    /// If the function is no longer loaded.
    pub fn run_function(
        &mut self,
        function: FunctionId,
        keys: Args<'_>,
        argv: Args<'_>,
        host: &mut dyn Host,
        reply: &mut Reply<'_>,
    ) -> Outcome {
        let function = self.libraries.function(function).expect("the function is loaded");
        let world = &self.world;
        self.machine.with_host(host, |lua| {
            lua.push_kept(&world.handler);
            lua.push_kept(&function.callback);
            // The library may keep the tables, so they are not reused.
            for args in [keys, argv] {
                lua.new_table(args.len(), 0);
                for (i, arg) in args.iter().enumerate() {
                    lua.push_bytes(arg);
                    lua.raw_set_index(-2, i + 1);
                }
            }
            begin(lua, Phase::Function);
            let result = lua.call(2, Some(1), Some(1));
            let outcome = finish(lua, result.is_ok(), &function.name, reply);
            lua.set_top(0);
            outcome
        })
    }

    /// Loads a library and returns its name. A failed load changes nothing. With `timed`, a load that takes longer than
    /// half a second fails.
    ///
    /// # Errors
    /// The text is not a valid library, its code failed or took too long, or a name is taken.
    pub fn load_library(&mut self, text: &[u8], replace: bool, timed: bool) -> Result<Vec<u8>, Error> {
        let (name, code) = shebang::library(text)?;
        if !replace && self.libraries.get(&name).is_some() {
            return Err(Error::quoting(&[b"ERR Library '", &name, b"' already exists"]));
        }
        let pending = self.register(name.clone(), text, code, timed)?;
        if let Err(error) = self.libraries.check(&pending, &[&name]) {
            functions::discard(&mut self.machine.lua(), pending.functions);
            return Err(error);
        }
        self.delete_library(&name);
        self.libraries.add(pending);
        Ok(name)
    }

    /// Loads libraries from a dump, all of them or none.
    ///
    /// # Errors
    /// As [`Engine::load_library`].
    pub fn restore_libraries(&mut self, texts: &[&[u8]], policy: Policy) -> Result<(), Error> {
        let mut pending: Vec<Pending> = Vec::new();
        let mut failed = None;
        for text in texts {
            match self.restore_one(text, policy, &pending) {
                Ok(library) => pending.push(library),
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            }
        }
        if failed.is_none() && policy != Policy::Flush {
            let names: Vec<&[u8]> = pending.iter().map(|library| library.name.as_slice()).collect();
            failed = pending.iter().find_map(|library| self.libraries.check(library, &names).err());
        }
        if let Some(error) = failed {
            let mut lua = self.machine.lua();
            for library in pending {
                functions::discard(&mut lua, library.functions);
            }
            return Err(error);
        }
        if policy == Policy::Flush {
            self.flush_libraries();
        }
        for library in pending {
            self.delete_library(&library.name);
            self.libraries.add(library);
        }
        Ok(())
    }

    fn restore_one(&mut self, text: &[u8], policy: Policy, others: &[Pending]) -> Result<Pending, Error> {
        let (name, code) = shebang::library(text)?;
        let taken = others.iter().any(|other| other.name == name);
        if taken || (policy == Policy::Append && self.libraries.get(&name).is_some()) {
            return Err(Error::quoting(&[b"ERR Library ", &name, b" already exists"]));
        }
        let library = self.register(name, text, code, false)?;
        let names = |library: &Pending| -> Vec<Vec<u8>> {
            library.functions.iter().map(|function| function.name.to_ascii_lowercase()).collect()
        };
        let mine = names(&library);
        let clash = others.iter().flat_map(names).find(|name| mine.contains(name));
        if let Some(clash) = clash {
            functions::discard(&mut self.machine.lua(), library.functions);
            return Err(Error::quoting(&[b"ERR Function ", &clash, b" already exists"]));
        }
        Ok(library)
    }

    /// Runs the source text of a library, which registers functions.
    fn register(&mut self, name: Vec<u8>, text: &[u8], code: &[u8], timed: bool) -> Result<Pending, Error> {
        let mut lua = self.machine.lua();
        let world = &self.world;
        let compiled = compile(&mut lua, code, c"@user_function", |lua, _| world.push_function(lua));
        let function =
            compiled.map_err(|text| Error::quoting(&[b"ERR Error compiling function: ", &text]))?;
        lua.push_kept(&world.handler);
        lua.push_kept(&function);
        lua.release(function);
        let deadline_us = if timed { clock::monotonic_us() + LOAD_TIMEOUT_US } else { u64::MAX };
        begin(&mut lua, Phase::Loading { deadline_us });
        lua.state().registration = Some(Registration::default());
        world.set_loading(&mut lua, true);
        let result = lua.call(0, Some(0), Some(1));
        world.set_loading(&mut lua, false);
        let functions = lua.state().registration.take().unwrap_or_default().functions;
        let failure = result.is_err().then(|| run::failure(&mut lua));
        end(&mut lua);
        lua.set_top(0);
        if let Some(failure) = failure {
            functions::discard(&mut lua, functions);
            return Err(Error::quoting(&[b"ERR Error registering functions: ", &failure.text]));
        }
        if functions.is_empty() {
            return Err(Error::text("ERR No functions registered"));
        }
        Ok(Pending { name, source: text.into(), functions })
    }

    /// Removes a library; whether it existed.
    pub fn delete_library(&mut self, name: &[u8]) -> bool {
        let Some(callbacks) = self.libraries.remove(name) else { return false };
        let mut lua = self.machine.lua();
        for callback in callbacks {
            lua.release(callback);
        }
        true
    }

    /// Removes all libraries. O(functions).
    pub fn flush_libraries(&mut self) {
        let mut lua = self.machine.lua();
        for callback in self.libraries.clear() {
            lua.release(callback);
        }
        lua.collect();
    }

    /// The source texts of all libraries, as stored in a dump.
    pub fn library_texts(&self) -> impl Iterator<Item = &[u8]> {
        self.libraries.iter().map(|library: &Library| &*library.source)
    }
}

/// Compiles a text into a function in the registry, with the environment that `push` pushes. The error is the
/// compiler's message.
pub(super) fn compile(
    lua: &mut Lua<'_>,
    code: &[u8],
    name: &std::ffi::CStr,
    push: impl FnOnce(&mut Lua<'_>, bool),
) -> Result<Reference, Vec<u8>> {
    push_compiled(lua, code, name, push)?;
    Ok(lua.keep())
}

/// As [`compile`], but leaves the function on the stack.
pub(super) fn push_compiled(
    lua: &mut Lua<'_>,
    code: &[u8],
    name: &std::ffi::CStr,
    push: impl FnOnce(&mut Lua<'_>, bool),
) -> Result<(), Vec<u8>> {
    // The name of the text in messages.
    let shown = name.to_bytes().trim_ascii_start();
    let shown = shown.strip_prefix(b"@").or_else(|| shown.strip_prefix(b"=")).unwrap_or(shown).to_vec();
    let adapted = source::adapt(code)
        .map_err(|refused| [&shown[..], format!(":{}: ", refused.line).as_bytes(), &refused.text].concat())?;
    if adapted.code.first() == Some(&0x1b) {
        return Err([&shown[..], b":1: unexpected symbol near 'char(27)'"].concat());
    }
    if lua.room_for(adapted.code.len().saturating_mul(2)).is_err() {
        lua.pop(1);
        return Err(b"not enough memory".to_vec());
    }
    if lua.load(&adapted.code, name).is_err() {
        let text = run::display(lua, -1);
        lua.pop(1);
        return Err(text);
    }
    push(lua, adapted.guarded);
    lua.set_environment(-2);
    Ok(())
}

/// Stores the arguments in a reused table and leaves the stack unchanged.
#[inline]
fn fill(lua: &mut Lua<'_>, table: &Reference, args: Args<'_>) {
    if args.len() == 0 {
        return;
    }
    lua.push_kept(table);
    for (i, arg) in args.iter().enumerate() {
        lua.push_bytes(arg);
        lua.raw_set_index(-2, i + 1);
    }
    lua.pop(1);
}

/// Empties a reused table after a script, or replaces it if the script has added to it.
#[inline]
fn recycle(lua: &mut Lua<'_>, table: &mut Reference, items: usize, globals: &Reference, name: &str) {
    lua.push_kept(table);
    let mut clean = items <= REUSED_ITEMS && !lua.push_metatable(-1);
    if clean {
        for i in 1..=items {
            lua.push_nil();
            lua.raw_set_index(-2, i);
        }
        lua.push_nil();
        clean = !lua.next(-2);
    }
    if clean {
        lua.pop(1);
        return;
    }
    lua.new_table(4, 0);
    lua.push_value(-1);
    let old = std::mem::replace(table, lua.keep());
    lua.release(old);
    lua.push_kept(globals);
    lua.insert(-2);
    lua.raw_set_field(-2, name);
}

/// Prepares the state for a run. A debugger has already set its hook.
fn begin(lua: &mut Lua<'_>, phase: Phase) {
    let state = lua.state();
    state.phase = phase;
    state.protocol = Protocol::Resp2;
    if state.debugger.is_none() {
        lua.hook_later();
    }
}

/// Undoes [`begin`].
fn end(lua: &mut Lua<'_>) {
    let state = lua.state();
    state.phase = Phase::Idle;
    state.random.forget_seed();
    state.json.reset();
    state.killed = false;
    lua.remove_hook();
}

/// Writes the script's result or error, which is on top of the stack, as a reply.
fn finish(lua: &mut Lua<'_>, returned: bool, name: &[u8], reply: &mut Reply<'_>) -> Outcome {
    let outcome = if returned {
        let protocol = lua.state().protocol;
        match answer::write(lua, reply, protocol) {
            Written::Value => Outcome { failed: false, counted: false },
            Written::Error { counted } => Outcome { failed: true, counted },
        }
    } else {
        let Failure { mut text, counted, place } = run::failure(lua);
        text.truncate(answer::c_string(&text).len());
        text.extend_from_slice(b" script: ");
        text.extend_from_slice(name);
        if let Some((source, line)) = place {
            text.extend_from_slice(b", on ");
            text.extend_from_slice(&source);
            text.extend_from_slice(format!(":{line}.").as_bytes());
        }
        reply.error(&Error::quoting(&[&text]));
        Outcome { failed: true, counted }
    };
    end(lua);
    outcome
}

//! The Lua state: the machine itself, the environments of scripts, and functions of Lua's own libraries that are
//! rewritten here because the originals run without a hook or without a limit.

pub mod base;
pub mod c_text;
pub mod ffi;
pub mod format;
pub mod math;
pub mod pattern;
pub mod stack;
pub mod strings;
pub mod tables;
mod watch;
pub mod world;

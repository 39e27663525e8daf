//! The Lua state: the machine itself, the world that scripts find in it, and the functions of Lua's own libraries that are
//! written here because the originals run without a hook, or without a bound.

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

//! Libraries for scripts in addition to Lua's own.

pub mod cjson;
pub mod cmsgpack;
mod json_decode;
mod json_encode;
pub mod random;
pub mod structs;

//! The libraries that scripts find beside Lua's own.

pub mod cjson;
pub mod cmsgpack;
mod json_decode;
mod json_encode;
pub mod random;
pub mod structs;

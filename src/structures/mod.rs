//! The data structures, each alone with its bytes: they know a layout in memory and nothing else.
pub mod listpack;
pub mod lzf;
pub mod quicklist;

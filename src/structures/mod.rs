//! Data structures, each of which knows its layout in memory and nothing else.
#![warn(missing_docs)]

mod block;
pub mod dict;
pub mod field;
pub mod hnsw;
pub mod indexed;
pub mod intset;
pub mod listpack;
pub mod lzf;
pub mod member;
pub mod quicklist;
pub mod scorepack;
pub mod sds;
pub mod skiplist;
pub mod tagged;
pub mod volatile;

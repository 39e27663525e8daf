//! What the standard library lacks, free of any word of the server's own vocabulary.
pub mod alloc;
pub mod hash;

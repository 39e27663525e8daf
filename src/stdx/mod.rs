//! What the standard library lacks, free of any word of the server's own vocabulary.
pub mod alloc;
pub mod clock;
pub mod extended;
pub mod glob;
pub mod num;
pub mod quote;
pub mod rng;
pub mod text;

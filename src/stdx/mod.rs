//! What the standard library lacks, without any term of the server's domain.
#![warn(missing_docs)]

pub mod alloc;
pub mod bits;
pub mod clock;
pub mod cpu;
pub mod crc16;
pub mod crc64;
pub mod files;
pub mod glob;
pub mod hash;
pub mod locale;
pub mod long_double;
pub mod num;
pub mod prefetch;
pub mod process;
pub mod quote;
pub mod rng;
pub mod stopwatch;
pub mod sync;
pub mod text;
pub mod wide;
pub mod xxh3;

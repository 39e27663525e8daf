//! Configuration.
pub mod options;
pub mod value;
pub use options::{Config, LimitOptions as Limits};

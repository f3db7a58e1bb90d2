//! Imported graphs, run; and files that lie, refused.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod import;
mod inspect;
mod runtime;

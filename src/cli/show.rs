//! Printing for people, as all our binaries do it.

pub(crate) use switchboard_mesh::terminal::{bytes, line, plain, styled, table};

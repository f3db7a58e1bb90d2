//! What every node shares and is no role's domain: one process to start and drain, one client and
//! one server stack, one deadline, one way to make a status.
//!
//! A role's `start` takes a [`Context`] and returns a [`Mounted`]; [`bootstrap`] owns the rest. A
//! handler begins with [`Call::of`], which tells for whom it works and until when, and makes every
//! request to another role with [`Call::request`], so that time only shrinks on the way down.

pub mod balance;
pub mod bootstrap;
pub mod call;
pub mod client;
pub mod config;
pub mod deadline;
pub mod discovery;
pub mod error;
pub mod folder;
pub mod health;
pub mod identity;
mod local;
pub mod overload;
pub mod rate;
pub mod redis;
pub mod server;
pub mod spool;
pub mod telemetry;
pub mod terminal;
pub mod testing;
mod whole;

pub use bootstrap::{Context, Mounted, StartError};
pub use call::{Call, Class, Tenant};
pub use client::Channel;
pub use deadline::Deadline;

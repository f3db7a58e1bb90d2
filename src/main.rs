//! The one binary: every role, and the commands around them.
//!
//! A serving command reads as a list in [`node`]: load config, start telemetry, bind, start roles,
//! wait for a signal, drain, flush.

mod cli;
mod config;
mod node;
mod roles;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::run()
}

//! Checks, for as long as it is told to, that redaction of streams is that of whole texts, and that it
//! covers the secrets that were put into a text.
//!
//! `cargo run --release -p switchboard-text --example fuzz -- --seconds 60` tries one seed after the other;
//! a failure prints its seed, and `-- --seed N` tries that one again.

#![allow(clippy::print_stdout, reason = "a command-line program talks to a person on stdout")]

mod generate;
mod property;

use std::{
    process::ExitCode,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

const HELP: &str = "Usage: fuzz [--seconds N] [--seed N]";

fn main() -> ExitCode {
    let (mut seconds, mut seed) = (10, None);
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next().and_then(|value| value.parse::<u64>().ok());
        match (name.as_str(), value) {
            ("--seconds", Some(value)) => seconds = value,
            ("--seed", Some(value)) => seed = Some(value),
            _ => {
                println!("{HELP}");
                return ExitCode::from(2);
            }
        }
    }
    if let Some(seed) = seed {
        return if holds(seed) { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let first = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_nanos() as u64);
    let begun = Instant::now();
    let mut tried = 0;
    while begun.elapsed() < Duration::from_secs(seconds) {
        if !holds(first.wrapping_add(tried)) {
            return ExitCode::FAILURE;
        }
        tried += 1;
    }
    println!("{tried} texts from seed {first} on: streams and whole texts agree, and no secret leaks");
    ExitCode::SUCCESS
}

fn holds(seed: u64) -> bool {
    let generate::Case { text, cuts, kinds } = generate::case(seed);
    let known = generate::known(seed);
    let result = property::streamed_is_whole(&text, &cuts, kinds)
        .and_then(|()| property::secret_is_covered(&known.text, &known.secret));
    match result {
        Ok(()) => true,
        Err(why) => {
            println!("{why}\nseed {seed}: try it again with --seed {seed}");
            false
        }
    }
}

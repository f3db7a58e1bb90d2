//! The flag `--set KEY=VALUE`, which may stand before and behind a subcommand's name.

use std::ffi::OsString;

use clap::{Arg, ArgAction, ArgMatches, Command, Parser};

/// The flag's name.
const SET: &str = "set";

/// Parses this process's command line as `P`, which says nothing of `--set`, and gives with it what
/// every `--set` says, in the order in which they stand. Ends the process when it asks for help or
/// cannot be parsed.
#[must_use]
pub fn parse<P: Parser>() -> (P, Vec<(String, String)>) {
    parse_from(std::env::args_os()).unwrap_or_else(|error| error.exit())
}

fn parse_from<P: Parser>(
    words: impl IntoIterator<Item = impl Into<OsString> + Clone>,
) -> Result<(P, Vec<(String, String)>), clap::Error> {
    let matches = with_set(P::command()).try_get_matches_from(words)?;
    let parsed = P::from_arg_matches(&matches).map_err(|error| error.format(&mut P::command()))?;
    let mut pairs = Vec::new();
    let mut level = Some(&matches);
    while let Some(matches) = level {
        pairs.extend(set_at(matches));
        level = matches.subcommand().map(|(_, below)| below);
    }
    Ok((parsed, pairs))
}

/// Gives `command` and everything below it the flag, to each its own: one that clap calls global has
/// the values of the innermost subcommand that was given any, and those before its name are lost.
fn with_set(command: Command) -> Command {
    let set = Arg::new(SET)
        .long(SET)
        .value_name("KEY=VALUE")
        .value_parser(key_value)
        .action(ArgAction::Append)
        .help("Set any configuration key, such as `--set telemetry.log=debug`; may be repeated");
    command.arg(set).mut_subcommands(with_set)
}

/// What the flag says at one level.
fn set_at(matches: &ArgMatches) -> impl Iterator<Item = (String, String)> {
    matches.get_many::<(String, String)>(SET).into_iter().flatten().cloned()
}

/// Splits a flag's `KEY=VALUE`, or says what is expected instead.
fn key_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("expected KEY=VALUE, such as telemetry.log=debug")?;
    Ok((key.trim().to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Parser)]
    struct Program {
        #[arg(long, global = true)]
        file: Option<String>,
        #[command(subcommand)]
        command: Outer,
    }

    #[derive(Debug, clap::Subcommand)]
    enum Outer {
        #[command(subcommand)]
        Config(Inner),
        Ask {
            question: String,
        },
    }

    #[derive(Debug, clap::Subcommand)]
    enum Inner {
        Print,
    }

    fn pairs(line: &str) -> Vec<String> {
        let (_, pairs) = parse_from::<Program>(line.split(' ')).unwrap();
        pairs.into_iter().map(|(key, value)| format!("{key}={value}")).collect()
    }

    #[test]
    fn every_place_counts_in_order() {
        assert_eq!(
            pairs("p --set a=1 --set b=1 config --set a=2 print --set=c=1 --set a=3"),
            ["a=1", "b=1", "a=2", "c=1", "a=3"]
        );
        assert_eq!(pairs("p --set a=1 ask --file f hello --set a=2"), ["a=1", "a=2"]);
        assert_eq!(pairs("p --set a=1 config print"), ["a=1"]);
        assert!(pairs("p config print").is_empty());
    }

    #[test]
    fn the_rest_is_parsed_as_ever() {
        let words = ["p", "--file", "f", "--set", "a=1", "ask", "--", "--set"];
        let (program, pairs) = parse_from::<Program>(words).unwrap();
        assert_eq!(pairs, [("a".to_owned(), "1".to_owned())]);
        assert_eq!(program.file.as_deref(), Some("f"));
        assert!(matches!(program.command, Outer::Ask { question } if question == "--set"));
    }

    #[test]
    fn what_is_no_pair_is_refused_with_the_flag_named() {
        for line in ["p --set a config print", "p config print --set a"] {
            let error = parse_from::<Program>(line.split(' ')).unwrap_err().to_string();
            assert!(error.contains("--set") && error.contains("expected KEY=VALUE"), "{error}");
        }
    }
}

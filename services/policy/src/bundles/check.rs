//! The tests of a bundle: rules whose name begins with `test_`, true where they pass, as in OPA.

use std::time::{Duration, Instant};

use regorus::Value;

use super::{BundleError, bundle, files::Sources};

/// The time that one test may take, and all of them; a rule takes microseconds.
const ONE: Duration = Duration::from_secs(2);
const ALL: Duration = Duration::from_secs(20);

/// How a test went.
#[derive(Clone, Debug, PartialEq)]
pub struct Tested {
    /// Its name, such as `data.switchboard_test.test_threats_go_to_a_person`.
    pub name: String,
    /// File and line where it begins.
    pub place: String,
    /// Why it failed; `None` where it passed.
    pub fault: Option<String>,
    /// How long it took.
    pub took: Duration,
}

/// Runs a bundle's tests, in order of name.
///
/// # Errors
/// [`BundleError`] when rules or tests are no Rego.
pub(super) fn run(sources: &Sources) -> Result<Vec<Tested>, BundleError> {
    let mut engine = bundle::engine(sources, ONE)?;
    bundle::add(&mut engine, sources, &sources.tests, false)?;
    let names = bundle::rule_paths(&engine, sources)?;
    let is_test = |name: &String| name.rsplit('.').next().is_some_and(|last| last.starts_with("test_"));
    let began = Instant::now();
    let tests = names.into_iter().filter(is_test).map(|name| {
        let started = Instant::now();
        let fault = if began.elapsed() > ALL {
            Some(format!("not run: the tests took longer than {ALL:?}"))
        } else {
            match engine.eval_rule(name.clone()) {
                Ok(Value::Bool(true)) => None,
                Ok(Value::Undefined) => Some("an expression in it is not true".to_owned()),
                Ok(_) => Some("it is not `true`".to_owned()),
                Err(error) => Some(bundle::told(&error, &sources.name).to_string()),
            }
        };
        let _ = engine.take_prints();
        Tested { place: place(sources, &name), name, fault, took: started.elapsed() }
    });
    Ok(tests.collect())
}

fn place(sources: &Sources, name: &str) -> String {
    let rule = name.rsplit('.').next().unwrap_or(name);
    let begins = |line: &str| {
        let rest = line.strip_prefix(rule)?;
        (!rest.starts_with(|c: char| c.is_alphanumeric() || c == '_')).then_some(())
    };
    let files = sources.tests.iter().chain(&sources.rules);
    let at = files.into_iter().find_map(|(file, text)| {
        let line = text.lines().position(|line| begins(line).is_some())?;
        Some(format!("{}/{file}:{}", sources.name, line + 1))
    });
    at.unwrap_or_else(|| sources.name.clone())
}

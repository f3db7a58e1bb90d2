//! One bundle: its rules, ready to be asked, and the bounds that they are asked in.

use std::{
    fmt,
    num::NonZeroU32,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, LazyLock, Mutex, Once, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use regorus::{
    Engine, LimitError, Value,
    utils::limits::{ExecutionTimerConfig, TimeSource, set_time_source},
};

use super::{
    BundleError, Entry, Failure,
    decision::{self, Decision},
    files::Sources,
    voice,
};
use crate::draft::Voice;

/// The package of every entry point.
pub(super) const PACKAGE: &str = "data.switchboard";
/// Engines that are kept ready; more may be in use at once, which are dropped afterwards.
const MOST_READY: usize = 64;
/// How much work is done between two looks at the clock; a look takes some 30 ns.
const LOOK_AFTER: u32 = 16;
/// The longest `numbers.range`: the library makes the list at once, whatever its length.
const LONGEST_RANGE: i64 = 10_000;

/// A bundle in use.
pub struct Bundle {
    /// Its name, that of its folder.
    pub name: Arc<str>,
    /// The version that its author gave it.
    pub version: String,
    /// SHA-256 of its files, in hexadecimal.
    pub hash: String,
    /// Since when it is in use.
    pub loaded_at: SystemTime,
    /// The entry points that it has.
    pub entries: Vec<Entry>,
    /// How the company wants to speak, from `data.voice`.
    pub(crate) voice: Voice,
    prototype: Mutex<Engine>,
    ready: Mutex<Vec<Engine>>,
    limit: Duration,
}

impl fmt::Debug for Bundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bundle").field("name", &self.name).field("hash", &self.hash).finish_non_exhaustive()
    }
}

impl fmt::Display for Bundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} ({})", self.name, self.version, &self.hash[..8])
    }
}

impl Bundle {
    /// Makes a bundle of its files. `limit` is the time that an entry point may take.
    ///
    /// # Errors
    /// [`BundleError`], which names file and line where there is one.
    pub(crate) fn compile(sources: &Sources, limit: Duration) -> Result<Self, BundleError> {
        let mut engine = engine(sources, limit)?;
        let paths = rule_paths(&engine, sources)?;
        let has = |entry: &Entry| paths.iter().any(|path| *path == entry.path());
        let entries: Vec<Entry> = Entry::ALL.into_iter().filter(has).collect();
        if entries.is_empty() {
            return Err(BundleError::NoEntry { name: sources.name.clone() });
        }
        let voice = voice::read(&engine.get_data(), &sources.name)?;
        let name: Arc<str> = sources.name.as_str().into();
        // Asked once before anybody waits: it prepares the engine, and shows what fails whatever it is asked.
        engine.set_input(Value::new_object());
        for entry in &entries {
            ask(&mut engine, *entry, &name, limit)
                .map_err(|failure| BundleError::Trial { name: sources.name.clone(), failure })?;
        }
        Ok(Self {
            name,
            version: sources.version.clone(),
            hash: sources.hash.clone(),
            loaded_at: SystemTime::now(),
            entries,
            voice,
            ready: Mutex::new(vec![engine.clone()]),
            prototype: Mutex::new(engine),
            limit,
        })
    }

    /// What the rules of each entry point say of `input`; an entry point that the bundle lacks says nothing.
    ///
    /// # Errors
    /// [`Failure`], which holds nothing of the input.
    pub(crate) fn ask<const N: usize>(
        &self,
        entries: [Entry; N],
        input: &Value,
    ) -> Result<[Vec<Decision>; N], Failure> {
        let mut answers = [const { Vec::new() }; N];
        if !entries.iter().any(|entry| self.entries.contains(entry)) {
            return Ok(answers);
        }
        let mut engine = self.take();
        engine.set_input(input.clone());
        // A panic of the library shall cost one decision, which fails closed, and no connection.
        let answered = catch_unwind(AssertUnwindSafe(|| {
            for (answer, entry) in answers.iter_mut().zip(entries) {
                if self.entries.contains(&entry) {
                    *answer = ask(&mut engine, entry, &self.name, self.limit)?;
                }
            }
            Ok(())
        }));
        match answered {
            Ok(answered) => {
                self.give_back(engine);
                answered.map(|()| answers)
            }
            Err(_) => Err(Failure::Broken { place: self.name.to_string() }),
        }
    }

    fn take(&self) -> Engine {
        let ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner).pop();
        ready.unwrap_or_else(|| self.prototype.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }

    fn give_back(&self, mut engine: Engine) {
        // Nothing of the customer's stays behind.
        engine.set_input(Value::Undefined);
        let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        if ready.len() < MOST_READY {
            ready.push(engine);
        }
    }
}

/// An engine with a bundle's rules and data, without its tests.
pub(super) fn engine(sources: &Sources, limit: Duration) -> Result<Engine, BundleError> {
    let mut engine = Engine::new();
    // What rules print may be customers' text, and is thrown away.
    engine.set_gather_prints(true);
    set_limit(&mut engine, limit);
    bound_builtins(&mut engine)
        .map_err(|reason| BundleError::Rules { place: sources.name.clone(), reason })?;
    add(&mut engine, sources, &sources.rules, true)?;
    if let Some(data) = &sources.data {
        let wrong = |reason| BundleError::Rules { place: format!("{}/data", sources.name), reason };
        if data["switchboard"] != Value::Undefined {
            return Err(wrong(
                "`switchboard` is the package of the rules; data needs another name".to_owned(),
            ));
        }
        engine.add_data(data.clone()).map_err(|error| wrong(error.to_string()))?;
    }
    Ok(engine)
}

/// The clock that the library goes by.
struct Clock(Instant);

impl TimeSource for Clock {
    fn now(&self) -> Option<Duration> {
        Some(self.0.elapsed())
    }
}

pub(super) fn set_limit(engine: &mut Engine, limit: Duration) {
    static CLOCK: LazyLock<Clock> = LazyLock::new(|| Clock(Instant::now()));
    static SET: Once = Once::new();
    SET.call_once(|| {
        // It fails where one is set, and that is a clock too.
        let _ = set_time_source(&*CLOCK);
    });
    const AFTER: NonZeroU32 = NonZeroU32::new(LOOK_AFTER).expect("is above 0");
    engine.set_execution_timer_config(ExecutionTimerConfig { limit, check_interval: AFTER });
}

/// Adds files of rules; `own` ones belong to the package of entry points, or below it.
pub(super) fn add(
    engine: &mut Engine,
    sources: &Sources,
    files: &[(String, String)],
    own: bool,
) -> Result<(), BundleError> {
    for (file, text) in files {
        let path = format!("{}/{file}", sources.name);
        if let Some(line) = wide_format(text) {
            let reason = "a width of more than three digits in a format is not allowed".to_owned();
            return Err(BundleError::Rules { place: format!("{path}:{line}"), reason });
        }
        let package = engine.add_policy(path.clone(), text.clone()).map_err(|error| told(&error, &path))?;
        let inside =
            package == PACKAGE || package.strip_prefix(PACKAGE).is_some_and(|rest| rest.starts_with('.'));
        if own && !inside {
            let reason = format!("the package is {package}; entry points are in `package switchboard`");
            return Err(BundleError::Rules { place: path, reason });
        }
    }
    Ok(())
}

/// The path of every rule, such as `data.switchboard.inspect`. Compiles them all.
pub(super) fn rule_paths(engine: &Engine, sources: &Sources) -> Result<Vec<String>, BundleError> {
    const PROBE: &str = "package switchboard_probe\n\nready := true\n";
    let mut engine = engine.clone();
    let failed = |error: &dyn fmt::Display| told(error, &sources.name);
    engine.add_policy("probe.rego".to_owned(), PROBE.to_owned()).map_err(|error| failed(&error))?;
    let compiled = engine.compile_with_entrypoint(&"data.switchboard_probe.ready".into());
    let compiled = compiled.map_err(|error| failed(&error))?;
    let mut paths: Vec<String> = compiled.get_rules().keys().cloned().collect();
    paths.sort();
    Ok(paths)
}

fn ask(
    engine: &mut Engine,
    entry: Entry,
    bundle: &Arc<str>,
    limit: Duration,
) -> Result<Vec<Decision>, Failure> {
    let began = Instant::now();
    let value = engine.eval_rule(entry.path());
    let _ = engine.take_prints();
    let value = value.map_err(|error| {
        let late = error.downcast_ref::<LimitError>().is_some() || began.elapsed() > limit;
        match late {
            true => Failure::Late { limit },
            false => Failure::Broken { place: place(&error).unwrap_or_else(|| bundle.to_string()) },
        }
    })?;
    decision::read(entry, bundle, &value)
}

/// Takes the place of builtin functions that one short line can have fill the memory.
fn bound_builtins(engine: &mut Engine) -> Result<(), String> {
    let refuse = |what: &'static str| move |_: Vec<Value>| Err(std::io::Error::other(what).into());
    let range = |args: Vec<Value>| {
        let [from, to] = args.as_slice() else { return Ok(Value::Undefined) };
        let (from, to) = (from.as_i64()?, to.as_i64()?);
        if from.abs_diff(to) >= LONGEST_RANGE.unsigned_abs() {
            return Err(std::io::Error::other("numbers.range: at most 10,000 numbers").into());
        }
        let up = (from.min(to)..=from.max(to)).map(Value::from);
        let list: Vec<Value> = if from <= to { up.collect() } else { up.rev().collect() };
        Ok(Value::from(list))
    };
    engine
        .add_extension("numbers.range".to_owned(), 2, Box::new(range))
        .and_then(|()| {
            let refused = refuse("numbers.range_step is not available: use numbers.range");
            engine.add_extension("numbers.range_step".to_owned(), 3, Box::new(refused))
        })
        .and_then(|()| {
            engine.add_extension("bits.lsh".to_owned(), 2, Box::new(refuse("bits.lsh is not available")))
        })
        .map_err(|error| error.to_string())
}

/// The line of a format such as `%1000d`, which `sprintf` would fill with blanks.
fn wide_format(text: &str) -> Option<usize> {
    let wide = |line: &str| {
        line.split('%').skip(1).any(|rest| {
            let width = rest.trim_start_matches(|c: char| "-+# 0".contains(c));
            width.chars().take_while(char::is_ascii_digit).count() > 3
        })
    };
    text.lines().position(wide).map(|at| at + 1)
}

/// What the library says of a fault, with its place.
pub(super) fn told(error: &dyn fmt::Display, file: &str) -> BundleError {
    let text = error.to_string();
    let place = place(&text).unwrap_or_else(|| file.to_owned());
    let reason = match text.rsplit_once("error: ") {
        Some((_, reason)) => reason,
        None => &text,
    };
    BundleError::Rules { place, reason: reason.trim().to_owned() }
}

/// File, line and column in what the library says: `--> file:line:column`. The rest of it can quote values.
fn place(error: &impl fmt::Display) -> Option<String> {
    let text = error.to_string();
    let (_, rest) = text.split_once("--> ")?;
    rest.lines().next().map(str::to_owned)
}

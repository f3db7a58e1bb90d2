//! What does a mesh of real processes do when parts of it are killed, frozen, cut off, restarted or asked
//! for too much?
//!
//! `cargo xtask chaos` builds and runs this. Two processes of each role serve a steady load of turns; its
//! client keeps a list of what it was told, and compares it with what the mesh knows at the end of each
//! part. The report says what was refused, what was lost, and how long the p99 took to come back.

mod client;
mod knee;
mod load;
mod measure;
mod options;
mod phases;
mod processes;
mod proxy;
mod reconcile;
mod report;
mod topology;

use std::{
    fs,
    path::Path,
    process::ExitCode,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use clap::Parser as _;
use options::{Options, Part};
use tokio::signal::unix::{SignalKind, signal};

use crate::{client::Client, knee::Knee, phases::Run, report::Section, topology::Mesh};

/// The share of the knee that is asked in the steady parts.
const STEADY: f64 = 0.4;

fn main() -> ExitCode {
    // `cargo test --benches` only wants to know that it builds, and `cargo bench` is not for minutes of this.
    if std::env::args().any(|argument| argument == "--test" || argument == "--bench") {
        return ExitCode::SUCCESS;
    }
    let options = Options::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::FAILURE;
        }
    };
    // Whichever way this ends, the mesh is dropped, and its processes with it.
    let outcome = runtime.block_on(async {
        tokio::select! {
            outcome = run(&options) => outcome,
            outcome = interrupted() => outcome,
        }
    });
    runtime.shutdown_timeout(Duration::from_secs(2));
    match outcome {
        Ok(missed) if missed.is_empty() => {
            say("every goal is met");
            ExitCode::SUCCESS
        }
        Ok(missed) => {
            for goal in &missed {
                eprintln!("missed: {goal}");
            }
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the parts that are asked for. Returns the goals that were missed.
async fn run(options: &Options) -> Result<Vec<String>> {
    say("storing the example's documents, and starting the mesh");
    let mesh = Mesh::start(options).await?;
    say(&format!("{} processes are ready", mesh.nodes.len()));
    let gateways: Vec<http::Uri> = mesh
        .of("gateway")
        .iter()
        .map(|node| format!("http://{}", node.address).parse())
        .collect::<Result<_, _>>()?;
    let client = Arc::new(Client::new(&gateways, &mesh.key)?);
    let questions = Arc::new(load::questions()?);
    tokio::time::sleep(topology::SETTLE).await;
    // Every connection is made, and every node has its first latencies.
    knee::ask(&client, &questions, 10.0, topology::SETTLE).await?;
    let knee = match options.rate {
        Some(rate) => Knee { slow: rate / STEADY, late: rate / STEADY },
        None => knee::find(&client, &questions).await?,
    };
    let rate = knee.slow * STEADY;
    let Knee { slow, late } = knee;
    say(&format!(
        "turns are slow from {slow:.0} a second on, and late from {late:.0}; the steady load is {rate:.1}"
    ));
    let (rounds, roles, span) = (options.rounds, options.roles.clone(), Duration::from_secs(options.seconds));
    let mut run = Run { mesh, client, questions, rate, knee, rounds, roles, span };
    let mut sections: Vec<Section> = Vec::new();
    let about = about(options, &run);
    for part in [Part::Kill, Part::Freeze, Part::Etcd, Part::Redis, Part::Rolling, Part::Overload] {
        if !options.wants(part) {
            continue;
        }
        match part {
            Part::Kill => sections.push(run.kill().await?),
            Part::Freeze => sections.push(run.freeze().await?),
            Part::Etcd => sections.extend(run.outage("etcd").await?),
            Part::Redis => sections.extend(run.outage("redis").await?),
            Part::Rolling => sections.push(run.rolling().await?),
            Part::Overload => sections.push(run.overload().await?),
        }
        // What there is so far stands, whatever comes.
        write(options, &about, &sections)?;
    }
    print(&report::markdown(&about, &sections));
    Ok(report::missed(&sections))
}

fn about(options: &Options, run: &Run) -> String {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    format!(
        "{} processes on {cores} cores, two of each role, mesh: {:?}. Turns are slow (p99 more than three times that of \
         an idle mesh) from {:.0} a second on, and late (fewer than 95 % in the time of their class) from {:.0}; the \
         steady load is 40 % of the former, {:.1}. One run, so read ratios rather than digits.\n\nA turn is *told* when its report came, with an answer, a question, \
         a plain word that there is none, or a hand-off; *refused* when a status says that it may be asked again, \
         before anything was said; *lost* in any other case; *in time* when its first sentence and its end came \
         within the budget of its class. The p99 is *back* at the beginning of the first window of \
         {} s from which on the p99 of each window of that length stays under 1.5 times that of the quiet part, or {} ms more \
         where that is more; turns \
         count when they were due, and one that was not answered took for ever.",
        run.mesh.nodes.len(),
        options.mesh,
        run.knee.slow,
        run.knee.late,
        run.rate,
        measure::WINDOW,
        phases::MORE * 1e3,
    )
}

fn write(options: &Options, about: &str, sections: &[Section]) -> Result<()> {
    let path = options.report.clone().unwrap_or_else(|| options.folder.join("report.md"));
    let put = |path: &Path, text: String| {
        fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
    };
    put(&path, report::markdown(about, sections))?;
    put(&path.with_extension("json"), report::as_json(about, sections).to_string())?;
    say(&format!("the report so far is in {}", path.display()));
    Ok(())
}

/// Ends when this process is asked to.
async fn interrupted<T>() -> Result<T> {
    let (mut interrupt, mut end) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = end.recv() => {}
    }
    bail!("interrupted; every process of the mesh was ended")
}

/// A line of progress.
fn say(text: &str) {
    static BEGAN: OnceLock<Instant> = OnceLock::new();
    let seconds = BEGAN.get_or_init(Instant::now).elapsed().as_secs();
    print(&format!("chaos {:>2}:{:02}  {text}", seconds / 60, seconds % 60));
}

#[expect(clippy::print_stdout, reason = "a program that reports to a person")]
fn print(text: &str) {
    println!("{text}");
}

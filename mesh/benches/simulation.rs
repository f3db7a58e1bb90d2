//! How long does the mesh keep its promises in simulated trouble, and what does it cost to find out?
//!
//! Simulates seed after seed and prints what was broken with the command that shows it again, and a table.
//! `--hours H` in all, from `--seed S` on, `--minutes M` each. With a seed and no hours, that seed alone.

#![expect(clippy::print_stdout, reason = "a benchmark prints what it found")]
#![allow(clippy::cast_possible_truncation, reason = "numbers of a simulation are small")]

#[path = "../tests/simulation/sim/mod.rs"]
mod sim;

use std::{
    process::ExitCode,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use sim::promises::Counts;

struct Arguments {
    first: u64,
    seeds: u64,
    length: Duration,
}

fn main() -> ExitCode {
    let Arguments { first, seeds, length } = match arguments() {
        Ok(arguments) => arguments,
        Err(error) => {
            println!("error: {error}");
            return ExitCode::FAILURE;
        }
    };
    let (began, next) = (Instant::now(), AtomicU64::new(0));
    let total = Mutex::new((0_u64, 0_u64, Counts::default()));
    let work = || {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= seeds {
                return;
            }
            let report = sim::simulate(first + number, length);
            print!("{report}");
            if seeds == 1 {
                println!("fingerprint              {:016x}", report.fingerprint);
            }
            let mut total = total.lock().expect("whoever panics ends the benchmark");
            total.0 += 1;
            total.1 += report.broken.len() as u64;
            total.2.add(&report.counts);
            if total.0.is_multiple_of(16) {
                let hours = (length * total.0 as u32).as_secs_f64() / 3600.0;
                let (took, broken) = (began.elapsed().as_secs_f64() / 60.0, total.1);
                println!("{hours:.1} simulated hours after {took:.1} minutes, {broken} promises broken");
            }
        }
    };
    let threads = thread::available_parallelism().map_or(1, usize::from).min(seeds as usize);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    let (done, broken, counts) = total.into_inner().expect("whoever panics ends the benchmark");
    let hours = (length * done as u32).as_secs_f64() / 3600.0;
    println!("seeds                    {done}, from {first}");
    println!("simulated hours          {hours:.2}");
    match cpu() {
        Some(cpu) => println!("minutes of CPU           {:.2}", cpu.as_secs_f64() / 60.0),
        None => println!("minutes                  {:.2}", began.elapsed().as_secs_f64() / 60.0),
    }
    println!("troubles                 {}", counts.episodes);
    println!("calls                    {}", counts.calls);
    println!("  OK                     {}", counts.ok);
    println!("  UNAVAILABLE            {}", counts.unavailable);
    println!("  RESOURCE_EXHAUSTED     {}", counts.exhausted);
    println!("  DEADLINE_EXCEEDED      {}", counts.late);
    println!("  the caller went        {}", counts.gone);
    println!("executions               {}, {} beyond the first of a call", counts.executions, counts.again);
    println!("refused by nodes         {}", counts.refusals);
    println!("calls that had to succeed          {}", counts.had_to_succeed);
    println!("executions that had to stop        {}", counts.had_to_stop);
    println!("refusals of voice that were looked at {}", counts.had_to_go_first);
    println!("promises broken          {broken}");
    if broken == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn arguments() -> Result<Arguments, String> {
    let (mut hours, mut minutes, mut seed, mut seeds) = (None, 10, None, None);
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        // Cargo's own.
        if word == "--bench" {
            continue;
        }
        let value = words.next().unwrap_or_default();
        let number = value.parse::<u64>().map_err(|_| format!("{word} takes a number, not `{value}`"))?;
        match word.as_str() {
            "--hours" => hours = Some(number),
            "--minutes" => minutes = number.max(2),
            "--seed" => seed = Some(number),
            "--seeds" => seeds = Some(number),
            _ => {
                return Err(format!(
                    "there is no `{word}`; there are --hours, --minutes, --seed and --seeds"
                ));
            }
        }
    }
    let all = |hours: u64| (hours * 60).div_ceil(minutes);
    let alone = if seed.is_some() { 1 } else { all(24) };
    let seeds = seeds.or(hours.map(all)).unwrap_or(alone);
    Ok(Arguments { first: seed.unwrap_or(0), seeds, length: Duration::from_secs(minutes * 60) })
}

/// The time that this process had a processor, where the system tells.
fn cpu() -> Option<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    let all = ticks()? + ticks()?;
    // Linux counts in hundredths for programs, whatever the kernel does.
    Some(Duration::from_millis(all * 10))
}

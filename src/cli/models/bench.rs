//! `switchboard models bench`.

use std::{process::ExitCode, time::Duration};

use anyhow::{Result, ensure};
use clap::Args;
use serde_json::json;
use switchboard_model_server::bench::{self, Cell, Request};

use super::RepositoryArgs;
use crate::cli::{Global, show};

/// Flags of `models bench`.
#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct BenchArgs {
    /// A model of the repository, or the path of its folder
    #[arg(value_name = "MODEL")]
    model: String,
    /// Texts in a batch
    #[arg(long, value_delimiter = ',', default_value = "1,8,32", value_name = "N,..")]
    batch: Vec<usize>,
    /// Tokens of each text, special ones included; 16,64,128, as far as the model reads as many, when
    /// not given
    #[arg(long, value_delimiter = ',', value_name = "N,..")]
    tokens: Option<Vec<usize>>,
    /// Batches that are computed side by side; what is configured when not given
    #[arg(long, value_delimiter = ',', value_name = "N,..")]
    instances: Option<Vec<usize>>,
    /// Threads that compute one batch; what is configured when not given
    #[arg(long, value_delimiter = ',', value_name = "N,..")]
    threads: Option<Vec<usize>>,
    /// Time to measure each combination for, in seconds
    #[arg(long, default_value_t = 1.0, value_name = "S")]
    seconds: f64,
    #[command(flatten)]
    repository: RepositoryArgs,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

const AFTER_HELP: &str = "\
Computes batches of arbitrary tokens, without tokenizer, queue and network, and tells how long they
take: the median and the 99th percentile of a batch, and texts a second over all instances. Each
combination of the numbers is measured. Of a model that writes, --batch is how many texts are continued
side by side and --tokens how long their prompts are; told are the time to the first token after a prompt,
read by itself, and the times of the tokens behind it.

Examples:
  switchboard models bench all-MiniLM-L6-v2
  switchboard models bench all-MiniLM-L6-v2 --batch 1 --tokens 16 --instances 1,2 --threads 1,2";

pub(super) async fn bench(global: &Global, args: BenchArgs) -> Result<ExitCode> {
    ensure!(
        args.seconds.is_finite() && (0.01..=600.0).contains(&args.seconds),
        "--seconds: from 0.01 to 600"
    );
    for (flag, values, most) in [
        ("--batch", Some(&args.batch), 1024),
        ("--tokens", args.tokens.as_ref(), 8192),
        ("--instances", args.instances.as_ref(), 64),
        ("--threads", args.threads.as_ref(), 256),
    ] {
        let fine =
            values.is_none_or(|values| !values.is_empty() && values.iter().all(|n| (1..=most).contains(n)));
        ensure!(fine, "{flag}: numbers from 1 to {most}, such as 1,2");
    }
    let config = args.repository.load(global)?;
    let request = Request {
        model: super::folder_of(&config, &args.model)?,
        batches: args.batch,
        tokens: args.tokens,
        instances: args.instances,
        threads: args.threads,
        seconds: args.seconds,
    };
    let spinner = indicatif::ProgressBar::new_spinner();
    if args.json || !std::io::IsTerminal::is_terminal(&std::io::stderr()) {
        spinner.set_draw_target(indicatif::ProgressDrawTarget::hidden());
    }
    spinner.enable_steady_tick(Duration::from_millis(200));
    let measure = {
        let spinner = spinner.clone();
        move || bench::run(&config.inference, &request, |cell| spinner.set_message(row(cell).join("  ")))
    };
    let cells = tokio::task::spawn_blocking(measure).await??;
    spinner.finish_and_clear();
    if args.json {
        let cells: Vec<_> = cells.iter().map(object).collect();
        let model = show::plain(&args.model);
        show::line(&serde_json::to_string_pretty(&json!({ "model": model, "cells": cells }))?);
    } else {
        let writes = cells.iter().any(|cell| cell.first_token.is_some());
        let header: &[&str] = match writes {
            true => &[
                "instances",
                "threads",
                "rows",
                "prompt",
                "token p50 ms",
                "p99 ms",
                "tokens/s",
                "first token ms",
            ],
            false => &["instances", "threads", "batch", "tokens", "p50 ms", "p99 ms", "texts/s"],
        };
        show::line(&show::table(header, &cells.iter().map(row).collect::<Vec<_>>()));
    }
    Ok(ExitCode::SUCCESS)
}

fn milliseconds(time: Duration) -> String {
    format!("{:.2}", time.as_secs_f64() * 1e3)
}

fn row(cell: &Cell) -> Vec<String> {
    let counts = [cell.instances, cell.threads, cell.batch, cell.tokens].map(|count| count.to_string());
    let speed = format!("{:.0}", cell.per_second);
    let times = [milliseconds(cell.p50), milliseconds(cell.p99), speed];
    counts.into_iter().chain(times).chain(cell.first_token.map(milliseconds)).collect()
}

fn object(cell: &Cell) -> serde_json::Value {
    let mut object = json!({
        "instances": cell.instances, "threads": cell.threads, "batch": cell.batch, "tokens": cell.tokens,
        "p50_seconds": cell.p50.as_secs_f64(), "p99_seconds": cell.p99.as_secs_f64(),
    });
    match cell.first_token {
        Some(first) => {
            object["first_token_seconds"] = json!(first.as_secs_f64());
            object["tokens_per_second"] = json!(cell.per_second);
        }
        None => object["texts_per_second"] = json!(cell.per_second),
    }
    object
}

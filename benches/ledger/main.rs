//! How fast is the ledger, and does it keep what it acknowledged?
//!
//! Appends a second over SQLite with `synchronous=FULL`, one record a request from many callers, with the
//! time that this machine's disk takes for one fsync beside it; records a second that a verification reads;
//! the time of one proof. Then a process that gets SIGKILL again and again under load (`kill.rs`).
//!
//! `cargo bench --bench ledger -- --kills 200 --seconds 10 --records 400000 --folder DIR`; each has a
//! default. The folder says which disk is measured.

#![expect(clippy::print_stdout, reason = "a benchmark's figures are for people")]

mod kill;

use std::{
    fs::File,
    io::Write as _,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use switchboard_ledger::{Config, offline::Folder};
use switchboard_mesh::{Call, Channel, Context, Deadline, Tenant};
use switchboard_proto::ledger::v1::{
    AppendRequest, CheckpointsRequest, NewRecord, ProveRequest, ledger_service_client::LedgerServiceClient,
};
use tokio::task::JoinSet;

/// What to measure.
#[derive(Parser)]
struct Options {
    /// How often the process is killed
    #[arg(long, default_value_t = 200)]
    kills: usize,
    /// How long appends are measured
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Callers that append at once
    #[arg(long, default_value_t = 256)]
    callers: usize,
    /// Records that are verified
    #[arg(long, default_value_t = 400_000)]
    records: u64,
    /// Folder on the disk to measure; the system's temporary one without it
    #[arg(long)]
    folder: Option<PathBuf>,
    /// What cargo says to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

fn call() -> Result<Call> {
    let tenant = Tenant::try_new("bench").map_err(anyhow::Error::msg)?;
    Ok(Call::new(tenant, Deadline::after(Duration::from_secs(60))))
}

/// The median time to make 4 KiB at the end of a file durable.
fn fsync(folder: &Path) -> Result<Duration> {
    let mut file = File::create(folder.join("fsync"))?;
    let mut times = Vec::new();
    for _ in 0..200 {
        let began = Instant::now();
        file.write_all(&[1; 4096])?;
        file.sync_data()?;
        times.push(began.elapsed());
    }
    times.sort_unstable();
    Ok(times[times.len() / 2])
}

/// A ledger in this process.
async fn open(folder: &Path) -> Result<(Context, Channel)> {
    let context = Context::new(folder.to_owned(), std::collections::BTreeMap::new());
    let mounted = switchboard_ledger::start(Config::default(), &context).await?;
    context.mount(&mounted);
    let channel = context.channel("ledger");
    Ok((context, channel))
}

/// Appends from many callers, one record a request; how many a second, and the median time of one.
async fn append(channel: &Channel, callers: usize, time: Duration) -> Result<(f64, Duration)> {
    let count = Arc::new(AtomicU64::new(0));
    let end = Instant::now() + time;
    let mut tasks = JoinSet::new();
    for caller in 0..callers {
        let (mut client, count) = (LedgerServiceClient::new(channel.clone()), Arc::clone(&count));
        tasks.spawn(async move {
            let mut times = Vec::new();
            let mut number = caller as u64 * 1_000_000;
            while Instant::now() < end {
                number += 1;
                let record = NewRecord { sealed: vec![], ..kill::record(number) };
                let began = Instant::now();
                client.append(call()?.request(AppendRequest { records: vec![record] })).await?;
                times.push(began.elapsed());
                count.fetch_add(1, Ordering::Relaxed);
            }
            anyhow::Ok(times)
        });
    }
    let mut times = Vec::new();
    while let Some(done) = tasks.join_next().await {
        times.extend(done??);
    }
    times.sort_unstable();
    let median = times.get(times.len() / 2).copied().context("nothing was appended")?;
    Ok((count.load(Ordering::Relaxed) as f64 / time.as_secs_f64(), median))
}

/// Appends until there are `records`, many a request.
async fn fill(channel: &Channel, records: u64) -> Result<String> {
    let mut client = LedgerServiceClient::new(channel.clone());
    loop {
        let batch: Vec<NewRecord> =
            (0..256).map(|number| NewRecord { sealed: vec![], ..kill::record(number) }).collect();
        let id = batch[0].record_id.clone();
        let receipts =
            client.append(call()?.request(AppendRequest { records: batch })).await?.into_inner().receipts;
        if receipts.last().is_none_or(|receipt| receipt.sequence >= records) {
            return Ok(id);
        }
    }
}

async fn measure(options: &Options) -> Result<()> {
    let folder = match &options.folder {
        Some(folder) => tempfile::tempdir_in(folder)?,
        None => tempfile::tempdir()?,
    };
    println!("one fsync of 4 KiB on this disk, median: {:.2?}", fsync(folder.path())?);
    let (context, channel) = open(folder.path()).await?;
    let (rate, median) = append(&channel, options.callers, Duration::from_secs(options.seconds)).await?;
    println!(
        "appends, one record a request, {} callers: {rate:.0} a second, median {median:.2?} (goal: 5,000)",
        options.callers
    );
    let (alone, median) = append(&channel, 1, Duration::from_secs(2)).await?;
    println!("appends, one caller alone: {alone:.0} a second, median {median:.2?}");
    let began = Instant::now();
    let id = fill(&channel, options.records).await?;
    println!("filled up to {} records, 256 a request, in {:.1?}", options.records, began.elapsed());
    let mut client = LedgerServiceClient::new(channel);
    // Signed between transactions: the last ones are covered when the next look comes.
    while client
        .checkpoints(call()?.request(CheckpointsRequest::default()))
        .await?
        .into_inner()
        .checkpoints
        .first()
        .is_none_or(|checkpoint| checkpoint.sequence < options.records)
    {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let began = Instant::now();
    client.prove(call()?.request(ProveRequest { record_id: id, checkpoint_sequence: 0 })).await?;
    println!("one proof among {} records: {:.1?}", options.records, began.elapsed());
    context.drain(Duration::from_secs(10)).await;
    let opened = Folder::open(folder.path(), &Config::default(), &[])?;
    let tenant = Tenant::try_new("bench").map_err(anyhow::Error::msg)?;
    for round in ["first", "second"] {
        let began = Instant::now();
        let verdict = opened.verify(&tenant, 1, &mut |_, _| ()).await?;
        ensure!(verdict.intact, "{verdict:?}");
        let rate = verdict.records as f64 / began.elapsed().as_secs_f64();
        println!("verify, {round} time: {} records, {rate:.0} a second (goal: 200,000)", verdict.records);
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Result<()> {
    let options = Options::parse();
    measure(&options).await?;
    if options.kills > 0 {
        let folder = tempfile::tempdir()?;
        let program = Path::new(env!("CARGO_BIN_EXE_switchboard"));
        let began = Instant::now();
        let outcome = kill::kill(program, folder.path(), options.kills, 1).await?;
        println!(
            "{} kills in {:.0?}: {} records acknowledged, all there; {} stored; {} requests repeated, of whose records {} \
             were there; every chain verifies",
            options.kills,
            began.elapsed(),
            outcome.acknowledged,
            outcome.stored,
            outcome.repeated,
            outcome.known
        );
    }
    Ok(())
}

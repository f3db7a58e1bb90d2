//! A ledger that is killed again and again while it is written to, and what became of what it acknowledged.
//!
//! The ledger is the built binary, a process of its own. Callers append as fast as they are answered and
//! keep a list of every receipt; what is not answered is repeated, with the same ids, until it is. The
//! process gets SIGKILL at random moments and is started again over its folder. In the end the list is
//! compared with what the ledger has.

use std::{
    collections::HashMap,
    io::{BufRead as _, BufReader},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use switchboard_ledger::{Config, offline::Folder};
use switchboard_mesh::{Call, Channel, Deadline, Tenant};
use switchboard_proto::ledger::v1::{
    AppendRequest, NewRecord, Order, QueryRequest, Receipt, RecordKind,
    ledger_service_client::LedgerServiceClient,
};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Tenants that are written for, by several callers each.
const TENANTS: [&str; 3] = ["acme", "globex", "initech"];
/// Callers of each tenant.
const CALLERS: usize = 4;
/// The longest time between a start and a kill, in milliseconds.
const LONGEST: u64 = 250;

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// Records that were acknowledged.
    pub(crate) acknowledged: usize,
    /// Requests that were not answered and had to be repeated.
    pub(crate) repeated: usize,
    /// Records that were found to be there already when they were repeated.
    pub(crate) known: usize,
    /// Records that the ledger has.
    pub(crate) stored: usize,
}

/// The process.
struct Node {
    program: PathBuf,
    folder: PathBuf,
    port: u16,
    child: Option<Child>,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Node {
    /// Starts it and waits until it says that it serves.
    fn start(&mut self) -> Result<()> {
        let mut command = Command::new(&self.program);
        command.env_remove("SWITCHBOARD_CONFIG").arg("--data").arg(&self.folder);
        command.args(["--set", "telemetry.log=error", "--set", "ledger.checkpoint.records=50"]);
        command.args([
            "serve",
            "--role",
            "ledger",
            "--json",
            "--listen",
            &format!("127.0.0.1:{}", self.port),
        ]);
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn()?;
        let mut line = String::new();
        let stdout = child.stdout.take().context("no standard output")?;
        self.child = Some(child);
        BufReader::new(stdout).read_line(&mut line)?;
        ensure!(line.starts_with('{'), "the ledger did not start: {line:?}");
        Ok(())
    }

    /// SIGKILL: it has no say in it.
    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn call(tenant: &str) -> Result<Call> {
    let tenant = Tenant::try_new(tenant).map_err(anyhow::Error::msg)?;
    Ok(Call::new(tenant, Deadline::after(Duration::from_secs(5))))
}

/// Numbers that look random and come again with the seed (splitmix64; Steele, Lea and Flood 2014).
fn next(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *seed;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// A record as a role would write it, with bytes to seal now and then.
pub(crate) fn record(number: u64) -> NewRecord {
    let sealed =
        if number.is_multiple_of(5) { format!("what was said {number}").into_bytes() } else { vec![] };
    NewRecord {
        record_id: Uuid::now_v7().to_string(),
        kind: RecordKind::Route.into(),
        conversation_id: format!("conversation-{}", number / 20),
        turn_id: format!("turn-{}", number / 4),
        stage: "route".into(),
        time: Some(std::time::SystemTime::now().into()),
        subject: format!("subject-{}", number % 50),
        attributes: HashMap::from([
            ("model".into(), "extractive".into()),
            ("why".into(), "the only one that is in time with what is left of the budget".into()),
        ]),
        sealed,
        ..NewRecord::default()
    }
}

/// Appends until it is told to stop; every receipt, requests that were repeated, records that were known
/// then.
async fn write(
    channel: Channel,
    tenant: &'static str,
    seed: u64,
    stop: CancellationToken,
) -> Result<(Vec<Receipt>, usize, usize)> {
    let mut client = LedgerServiceClient::new(channel);
    let (mut receipts, mut repeated, mut known) = (Vec::new(), 0, 0);
    let mut number = seed;
    while !stop.is_cancelled() {
        let records: Vec<NewRecord> = (0..=number % 4).map(|more| record(number + more)).collect();
        number += 4;
        loop {
            let request = call(tenant)?.request(AppendRequest { records: records.clone() });
            match client.append(request).await {
                Ok(answer) => {
                    let answer = answer.into_inner().receipts;
                    ensure!(answer.len() == records.len(), "a receipt for each record");
                    known += answer.iter().filter(|receipt| receipt.repeated).count();
                    receipts.extend(answer);
                    break;
                }
                Err(status)
                    if matches!(status.code(), tonic::Code::AlreadyExists | tonic::Code::InvalidArgument) =>
                {
                    bail!("a repeat was taken for another record: {status:?}");
                }
                // Away: it was killed. What was not acknowledged is nobody's promise.
                Err(_) if stop.is_cancelled() => return Ok((receipts, repeated, known)),
                Err(_) => {
                    repeated += 1;
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }
        }
    }
    Ok((receipts, repeated, known))
}

/// Kills the ledger of `folder` as often as `kills` says, and compares.
///
/// # Errors
/// Whatever was acknowledged and is not there, is there twice, or a chain that does not verify.
pub(crate) async fn kill(program: &Path, folder: &Path, kills: usize, mut seed: u64) -> Result<Outcome> {
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let mut node = Node { program: program.to_owned(), folder: folder.to_owned(), port, child: None };
    node.start()?;
    let uri: http::Uri = format!("http://127.0.0.1:{port}").parse()?;
    let stop = CancellationToken::new();
    let mut callers = JoinSet::new();
    for (tenant, caller) in
        TENANTS.iter().flat_map(|tenant| (0..CALLERS).map(move |caller| (*tenant, caller as u64)))
    {
        let channel = Channel::tcp("ledger", uri.clone());
        let writing = write(channel, tenant, caller * 1_000_000, stop.clone());
        callers.spawn(async move { writing.await.map(|written| (tenant, written)) });
    }
    for _ in 0..kills {
        tokio::time::sleep(Duration::from_millis(next(&mut seed) % LONGEST)).await;
        node.kill();
        node.start()?;
    }
    stop.cancel();
    let mut receipts: HashMap<&str, Vec<Receipt>> = HashMap::new();
    let mut outcome = Outcome::default();
    while let Some(done) = callers.join_next().await {
        let (tenant, (own, repeated, known)) = done??;
        outcome.acknowledged += own.len();
        outcome.repeated += repeated;
        outcome.known += known;
        receipts.entry(tenant).or_default().extend(own);
    }
    for tenant in TENANTS {
        outcome.stored += compare(Channel::tcp("ledger", uri.clone()), tenant, &receipts[tenant]).await?;
    }
    // Once more, and read as it lies there.
    node.kill();
    let opened = Folder::open(folder, &Config::default(), &[])?;
    for tenant in opened.tenants().await? {
        let verdict = opened.verify(&tenant, 1, &mut |_, _| ()).await?;
        ensure!(verdict.intact, "the chain of {tenant} is not intact: {verdict:?}");
        let head =
            receipts.get(tenant.as_str()).and_then(|own| own.iter().map(|receipt| receipt.sequence).max());
        ensure!(
            Some(verdict.signed_to) >= head,
            "every acknowledged record is covered by a signed head: {verdict:?}"
        );
    }
    Ok(outcome)
}

/// Compares what a tenant's callers were told with what there is; how many records there are.
async fn compare(channel: Channel, tenant: &str, receipts: &[Receipt]) -> Result<usize> {
    let mut client = LedgerServiceClient::new(channel);
    let mut stored: HashMap<String, (u64, Vec<u8>)> = HashMap::new();
    let mut request =
        QueryRequest { order: Order::OldestFirst.into(), page_size: 500, ..QueryRequest::default() };
    let mut last = 0;
    loop {
        let page = client.query(call(tenant)?.request(request.clone())).await?.into_inner();
        for record in page.records {
            ensure!(record.sequence == last + 1, "{tenant}: after {last} comes {}", record.sequence);
            last = record.sequence;
            let twice = stored.insert(record.record_id.clone(), (record.sequence, record.hash));
            ensure!(twice.is_none(), "{tenant}: {} is there twice", record.record_id);
        }
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    for receipt in receipts {
        let there = stored.get(&receipt.record_id);
        let same =
            there.is_some_and(|(sequence, hash)| *sequence == receipt.sequence && *hash == receipt.hash);
        ensure!(
            same,
            "{tenant}: {} was acknowledged at {} and is not there",
            receipt.record_id,
            receipt.sequence
        );
    }
    Ok(stored.len())
}

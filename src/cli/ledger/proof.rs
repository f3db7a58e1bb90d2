//! `switchboard ledger prove` and `check-proof`.

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use serde::{Deserialize, Serialize};
use switchboard_ledger::offline::{Proof, check_proof};
use switchboard_proto::ledger::v1::{ProveRequest, ledger_service_client::LedgerServiceClient};

use super::{
    super::{
        Global,
        client::{Client, ServerArgs, explain},
        show,
    },
    LONG, file, hex,
};
use crate::roles::Role;

pub(super) const HELP: &str = "\
The proof is JSON: the record's canonical content, the hash before it, the path of hashes that leads to the root of a signed
checkpoint, and that checkpoint. Give it to whom you like, with the public key (`<data>/ledger/keys/signing.pub`) by
another way; `switchboard ledger check-proof FILE --public-key HEX` needs nothing else.";

/// Flags of `ledger prove`.
#[derive(Args)]
pub(crate) struct ProveArgs {
    /// The record's id
    #[arg(value_name = "RECORD")]
    record: String,
    /// Sequence of the checkpoint to prove against; the latest without it
    #[arg(long, default_value_t = 0, value_name = "N")]
    checkpoint: u64,
    #[command(flatten)]
    server: ServerArgs,
}

/// Flags of `ledger check-proof`.
#[derive(Args)]
pub(crate) struct CheckArgs {
    /// What `prove` printed
    #[arg(value_name = "FILE")]
    proof: PathBuf,
    /// The public key of the ledger, 64 hexadecimal digits, from somebody whom you believe
    #[arg(long, value_name = "HEX")]
    public_key: String,
}

/// A proof as it is written.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Written {
    tenant: String,
    sequence: u64,
    record_id: String,
    content: String,
    previous_hash: String,
    path: Vec<String>,
    checkpoint: Signed,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Signed {
    sequence: u64,
    head: String,
    root: String,
    /// Microseconds since 1970.
    time: i64,
    key_id: String,
    signature: String,
}

pub(super) async fn prove(global: &Global, args: ProveArgs) -> Result<ExitCode> {
    let client = Client::open(global, &args.server, &[Role::Ledger]).await?;
    let mut service = LedgerServiceClient::new(client.channel(Role::Ledger));
    let request = ProveRequest { record_id: args.record, checkpoint_sequence: args.checkpoint };
    let request = client.request(request, LONG)?;
    let proof = service.prove(request).await.map_err(|status| explain(&status));
    client.close().await;
    let proof = proof?.into_inner();
    let (record, checkpoint) = proof.record.zip(proof.checkpoint).context("the ledger sent half a proof")?;
    let time = checkpoint.time.unwrap_or_default();
    let written = Written {
        tenant: checkpoint.tenant,
        sequence: record.sequence,
        record_id: record.record_id,
        content: hex(&record.content),
        previous_hash: hex(&record.previous_hash),
        path: proof.path.iter().map(|hash| hex(hash)).collect(),
        checkpoint: Signed {
            sequence: checkpoint.sequence,
            head: hex(&checkpoint.head),
            root: hex(&checkpoint.root),
            time: time.seconds * 1_000_000 + i64::from(time.nanos / 1000),
            key_id: checkpoint.key_id,
            signature: hex(&checkpoint.signature),
        },
    };
    show::line(&serde_json::to_string_pretty(&written)?);
    Ok(ExitCode::SUCCESS)
}

pub(super) fn check(args: &CheckArgs) -> Result<ExitCode> {
    let written: Written = serde_json::from_str(&file(&args.proof)?)
        .with_context(|| format!("{} is no proof", args.proof.display()))?;
    let Written { tenant, sequence, record_id, content, previous_hash, path, checkpoint } = written;
    let key = args.public_key.trim();
    ensure!(key.len() == 64, "--public-key: 64 hexadecimal digits");
    let proof = Proof {
        tenant,
        sequence,
        record_id,
        content,
        previous_hash,
        path,
        checkpoint_sequence: checkpoint.sequence,
        head: checkpoint.head,
        root: checkpoint.root,
        time: checkpoint.time,
        key_id: checkpoint.key_id,
        signature: checkpoint.signature,
    };
    match check_proof(&proof, key) {
        Ok(()) => {
            show::line(&format!(
                "The record {} stands at sequence {} of the ledger of {}, which was signed up to {}.",
                show::plain(&proof.record_id),
                proof.sequence,
                show::plain(&proof.tenant),
                proof.checkpoint_sequence
            ));
            Ok(ExitCode::SUCCESS)
        }
        Err(reason) => {
            show::line(&format!("The proof does not hold: {}", show::plain(&reason)));
            Ok(ExitCode::FAILURE)
        }
    }
}

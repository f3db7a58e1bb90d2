//! `switchboard ledger verify`.

use std::process::ExitCode;

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use serde_json::{Value, json};
use switchboard_ledger::offline::Folder;
use switchboard_mesh::Tenant;
use switchboard_proto::ledger::v1::{
    Fault, Verdict, VerifyRequest, ledger_service_client::LedgerServiceClient, verify_response,
};

use super::{
    super::{
        Global,
        client::{Client, DEFAULT_TENANT, ServerArgs, explain},
        show,
    },
    LONG, bar, hex,
};
use crate::roles::Role;

pub(super) const HELP: &str = "\
Without --server the data folder itself is read, whether or not a server runs over it, and every tenant in it is
verified. Each record is compared with its hash and with the record before, and the chain with every signed checkpoint
and head, those outside the store (`ledger.heads`) included. What is found names the first record that is bad, and how:
edited, reordered, missing, cut (the last records are gone), rewritten (made again without the signing key).

Examples:
  switchboard ledger verify --data /var/lib/switchboard
  switchboard ledger verify --data copy --public-key $(cat signing.pub)   # a copy, with a key that you trust
  switchboard ledger verify --server http://127.0.0.1:8081                # the tenant of the API key";

/// Flags of `ledger verify`.
#[derive(Args)]
pub(crate) struct VerifyArgs {
    /// gRPC address of a running Switchboard; without it the data folder itself is read
    #[arg(long, value_name = "URL")]
    server: Option<http::Uri>,
    /// API key for --server, of role auditor or admin
    #[arg(long, value_name = "KEY", env = "SWITCHBOARD_API_KEY", hide_env_values = true)]
    api_key: Option<String>,
    /// Only this tenant, without --server (an API key says its own)
    #[arg(long)]
    tenant: Option<String>,
    /// First sequence to read; the record before it is believed
    #[arg(long, default_value_t = 1, value_name = "N")]
    from: u64,
    /// Believe checkpoints of this key, 64 hexadecimal digits, in place of the data folder's own; may be
    /// repeated
    #[arg(long = "public-key", value_name = "HEX", conflicts_with = "server")]
    public_keys: Vec<String>,
    /// Print one JSON object a line, for each tenant
    #[arg(long)]
    json: bool,
}

pub(super) async fn verify(global: &Global, args: VerifyArgs) -> Result<ExitCode> {
    let found = match &args.server {
        Some(_) => vec![through_server(global, &args).await?],
        None => in_folder(global, &args).await?,
    };
    if found.is_empty() && !args.json {
        show::line("There are no records yet.");
    }
    for (tenant, verdict) in &found {
        show::line(&if args.json { told(tenant, verdict).to_string() } else { sentence(tenant, verdict) });
    }
    let intact = found.iter().all(|(_, verdict)| verdict.intact);
    Ok(if intact { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn through_server(global: &Global, args: &VerifyArgs) -> Result<(String, Verdict)> {
    let server = ServerArgs {
        server: args.server.clone(),
        api_key: args.api_key.clone(),
        tenant: args.tenant.clone().unwrap_or_else(|| DEFAULT_TENANT.to_owned()),
    };
    let client = Client::open(global, &server, &[]).await?;
    let mut service = LedgerServiceClient::new(client.channel(Role::Ledger));
    let request = client.request(VerifyRequest { from_sequence: args.from }, LONG)?;
    let mut parts = service.verify(request).await.map_err(|status| explain(&status))?.into_inner();
    let bar = bar();
    let mut verdict = None;
    while let Some(part) = parts.message().await.map_err(|status| explain(&status))? {
        match part.part.context("an empty message came")? {
            verify_response::Part::Progress(progress) => {
                bar.set_length(progress.total);
                bar.set_position(progress.records);
            }
            verify_response::Part::Verdict(found) => verdict = Some(found),
        }
    }
    bar.finish_and_clear();
    client.close().await;
    match verdict {
        Some(verdict) => Ok(("the API key's tenant".into(), verdict)),
        None => bail!("the ledger ended without a verdict"),
    }
}

async fn in_folder(global: &Global, args: &VerifyArgs) -> Result<Vec<(String, Verdict)>> {
    let config = global.load(&[])?;
    let set =
        !config.ledger.postgres.expose().is_empty() || !config.ledger.postgres_file.as_os_str().is_empty();
    ensure!(!set, "the ledger is in PostgreSQL (`ledger.postgres`): verify it through a node, with --server");
    let (data, keys) = (config.data.0.clone(), args.public_keys.clone());
    let opening = tokio::task::spawn_blocking(move || Folder::open(&data, &config.ledger, &keys));
    let folder = opening.await.context("the folder was not opened")??;
    let tenants = match &args.tenant {
        Some(name) => vec![Tenant::try_new(name).map_err(|allowed| anyhow::anyhow!("--tenant: {allowed}"))?],
        None => folder.tenants().await?,
    };
    let mut found = Vec::new();
    for tenant in tenants {
        let bar = bar();
        let mut progress = |records, total| {
            bar.set_length(total);
            bar.set_position(records);
        };
        let verdict = folder.verify(&tenant, args.from, &mut progress).await;
        bar.finish_and_clear();
        found.push((tenant.to_string(), verdict.with_context(|| format!("tenant {tenant}"))?));
    }
    Ok(found)
}

fn fault(verdict: &Verdict) -> String {
    verdict.fault().as_str_name().trim_start_matches("FAULT_").to_lowercase()
}

fn told(tenant: &str, verdict: &Verdict) -> Value {
    let mut told = json!({
        "tenant": tenant, "intact": verdict.intact, "records": verdict.records,
        "checkpoints": verdict.checkpoints, "signed_to": verdict.signed_to, "head": hex(&verdict.head),
    });
    if !verdict.intact {
        told["fault"] = json!(fault(verdict));
        told["sequence"] = json!(verdict.sequence);
        told["last_sequence"] = json!(verdict.last_sequence);
        told["record_id"] = json!(verdict.record_id);
        told["reason"] = json!(verdict.reason);
    }
    told
}

fn sentence(tenant: &str, verdict: &Verdict) -> String {
    if verdict.intact {
        let rest = match verdict.signed_to {
            0 => "nothing of it is signed yet".to_owned(),
            to => format!("signed up to {to} ({} statements agree)", verdict.checkpoints),
        };
        return format!("{tenant}: intact, {} records; {rest}; head {}", verdict.records, hex(&verdict.head));
    }
    let place = match (verdict.fault(), verdict.sequence == verdict.last_sequence) {
        (Fault::Rewritten, false) => format!("one of {} to {}", verdict.sequence, verdict.last_sequence),
        (_, false) => format!("{} to {}", verdict.sequence, verdict.last_sequence),
        (_, true) => verdict.sequence.to_string(),
    };
    let id = match verdict.record_id.as_str() {
        "" => String::new(),
        id => format!(" (record {id})"),
    };
    format!(
        "{tenant}: NOT INTACT, {} at sequence {place}{id}: {}; {} records before it are good",
        fault(verdict),
        show::plain(&verdict.reason),
        verdict.sequence.saturating_sub(1)
    )
}

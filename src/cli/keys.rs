//! `switchboard keys`: the API keys of a data folder, whether or not a gateway is running over it.

use std::{
    io::Write as _,
    process::ExitCode,
    time::{Duration, SystemTime},
};

use anyhow::{Result, bail, ensure};
use clap::{Args, Subcommand};
use humantime_serde::re::humantime;
use serde_json::json;
use switchboard_gateway::keys::{KeyInfo, Keys, NewKey, Role, Scope};
use switchboard_mesh::{Tenant, config as mesh_config};

use super::{Global, client::DEFAULT_TENANT, show};

/// What to do with API keys.
#[derive(Subcommand)]
pub(crate) enum KeysCommand {
    /// Make a key and print it, once; a running gateway accepts it within about a second
    Create(CreateArgs),
    /// List the keys: whose they are, what they may do, until when
    List(ListArgs),
    /// Revoke a key; a running gateway refuses it within about a second
    Revoke(RevokeArgs),
}

/// Flags of `keys create`.
#[derive(Args)]
pub(crate) struct CreateArgs {
    /// Tenant for whom calls with the key are made
    #[arg(long, default_value = DEFAULT_TENANT, value_parser = tenant)]
    tenant: Tenant,
    /// What the key is for: customer-app (runs turns), agent (also sees all conversations and
    /// documents), admin (everything), auditor (only looks)
    #[arg(long, value_parser = Role::parse)]
    role: Role,
    /// Narrow the key to a service or a group of its methods, such as `conversation` or
    /// `knowledge:read`; may be repeated. The whole role without it
    #[arg(long = "scope", value_name = "SCOPE", value_parser = Scope::parse)]
    scopes: Vec<Scope>,
    /// Time until the key is refused, such as `90d` or `12h`; never without it
    #[arg(long, value_name = "TIME", value_parser = lifetime)]
    expires: Option<Duration>,
    /// What the key is for, in your words; shown by `keys list`
    #[arg(long, default_value = "")]
    label: String,
}

/// Flags of `keys list`.
#[derive(Args)]
pub(crate) struct ListArgs {
    /// Print one JSON array
    #[arg(long)]
    json: bool,
}

/// Flags of `keys revoke`.
#[derive(Args)]
pub(crate) struct RevokeArgs {
    /// The key's id, as `keys list` shows it
    id: String,
}

fn tenant(name: &str) -> Result<Tenant, &'static str> {
    Tenant::try_new(name)
}

fn lifetime(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|error| format!("{error}; a time such as 90d, 12h or 1h 30m is expected"))
}

pub(crate) fn keys(global: &Global, command: KeysCommand) -> Result<ExitCode> {
    let data = global.load(&[])?.data.0;
    match command {
        KeysCommand::Create(args) => {
            mesh_config::writable_folder("data", &data)?;
            create(&Keys::open(Keys::file_in(&data))?, args)
        }
        KeysCommand::List(args) => {
            list(&Keys::open(Keys::file_in(&data))?.list(), &args);
            Ok(ExitCode::SUCCESS)
        }
        KeysCommand::Revoke(args) => revoke(&Keys::open(Keys::file_in(&data))?, &args),
    }
}

/// The key goes to standard output and nothing else does, so that it can be piped to where it is kept.
fn create(keys: &Keys, args: CreateArgs) -> Result<ExitCode> {
    let CreateArgs { tenant, role, scopes, expires, label } = args;
    let (id, key) = keys.create(&NewKey { tenant, role, scopes, lifetime: expires, label })?;
    let mut out = std::io::stdout().lock();
    if let Err(error) = writeln!(out, "{}", key.expose()).and_then(|()| out.flush()) {
        // A key that is stored and was never shown would be good for nothing but harm.
        keys.revoke(&id)?;
        bail!("the key could not be printed ({error}), and is revoked");
    }
    if let Some(info) = keys.list().into_iter().find(|info| info.id == id) {
        eprintln!("key {id} for tenant {}, role {role}, scopes {}", info.tenant, scopes_of(&info));
        eprintln!("expires: {}; the key is shown only now, and kept as a hash", expiry_of(&info));
    }
    Ok(ExitCode::SUCCESS)
}

fn list(keys: &[KeyInfo], args: &ListArgs) {
    if args.json {
        show::line(&json!(keys.iter().map(as_json).collect::<Vec<_>>()).to_string());
    } else if keys.is_empty() {
        show::line("there are no keys; `switchboard keys create --role admin` makes one");
    } else {
        let row = |key: &KeyInfo| {
            let (tenant, created) = (key.tenant.to_string(), time(key.created_at));
            let (role, scopes) = (key.role.to_string(), scopes_of(key));
            vec![key.id.clone(), tenant, role, scopes, expiry_of(key), created, show::plain(&key.label)]
        };
        let rows: Vec<_> = keys.iter().map(row).collect();
        let header = ["id", "tenant", "role", "scopes", "expires", "created", "label"];
        show::line(&show::table(&header, &rows));
    }
}

fn revoke(keys: &Keys, args: &RevokeArgs) -> Result<ExitCode> {
    let id = id_in(&args.id);
    ensure!(keys.revoke(id)?, "there is no key with the id {id:?}; `switchboard keys list` shows them");
    show::line(&format!("revoked {id}"));
    Ok(ExitCode::SUCCESS)
}

/// The id alone, where somebody gives the whole key: what is not needed is not printed again.
fn id_in(text: &str) -> &str {
    let whole = text.strip_prefix("sb_").and_then(|rest| rest.split_once('_'));
    whole.map_or(text, |(id, _)| id)
}

fn as_json(key: &KeyInfo) -> serde_json::Value {
    json!({
        "id": key.id, "tenant": key.tenant.as_str(), "role": key.role.as_str(),
        "scopes": key.scopes.iter().map(|scope| scope.as_str()).collect::<Vec<_>>(),
        "label": key.label, "created_at": time(key.created_at),
        "expires_at": key.expires_at.map(time), "expired": key.expired(),
    })
}

fn scopes_of(key: &KeyInfo) -> String {
    if key.scopes.is_empty() {
        return "all of the role".to_owned();
    }
    key.scopes.iter().map(|scope| scope.as_str()).collect::<Vec<_>>().join(" ")
}

fn expiry_of(key: &KeyInfo) -> String {
    match key.expires_at {
        None => "never".to_owned(),
        Some(at) if key.expired() => format!("expired {}", time(at)),
        Some(at) => time(at),
    }
}

/// Seconds since 1970 as a date and a time.
fn time(seconds: u64) -> String {
    // What a file claims may be beyond the years that can be written.
    const LAST: u64 = 253_402_300_799;
    let at = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.min(LAST));
    humantime::format_rfc3339_seconds(at).to_string()
}

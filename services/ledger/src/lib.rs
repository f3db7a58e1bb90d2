//! What was decided and done, in a record that shows tampering.
//!
//! Serves `switchboard.ledger.v1.LedgerService`: other roles append what they decided, people and auditors
//! look it up, verify it, prove single records to others and export them. Calls no other role.
//!
//! Owns `<data>/ledger`: an SQLite database (or a PostgreSQL database elsewhere), signed heads outside of
//! it, and the keys. Each tenant has one chain of hashes; checkpoints sign it. Bytes that are personal are
//! sealed with a key for each subject, and erased by destroying that key, which leaves the chain whole.
//!
//! Start reading at `plan.rs`, which says what is written, and `verify.rs`, which says what is found.

mod chain;
mod checkpoint;
pub mod config;
mod draft;
mod encode;
mod error;
mod export;
mod group;
mod heads;
mod hex;
mod keys;
mod merkle;
mod metrics;
pub mod offline;
mod plan;
mod prove;
mod seal;
mod service;
mod store;
mod verify;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use mesh::StartError;
use proto::ledger::v1::ledger_service_server::{LedgerServiceServer, SERVICE_NAME};
use switchboard_mesh as mesh;
use switchboard_proto as proto;
use tonic::service::Routes;

pub use config::Config;
pub use error::Error;

use crate::{
    config::ExportConfig,
    group::{Engine, Writer},
    heads::Heads,
    keys::Keys,
    service::{Service, Shared},
    store::{Store, postgres::Postgres, sqlite::Sqlite},
};

/// The role's name.
pub const ROLE: &str = "ledger";
/// Go on for as long as the chain is.
const LONG: [&str; 2] =
    ["/switchboard.ledger.v1.LedgerService/Verify", "/switchboard.ledger.v1.LedgerService/Export"];
/// Keys that are wrapped anew at once.
const REWRAP: usize = 500;

/// Opens the store, keeps what was known of its heads, and makes the service.
///
/// # Errors
/// A folder that is in use, cannot be written or holds a damaged database; a database that cannot be
/// reached; a file of heads that was damaged; keys that are none, or a master key that was lost; a config
/// that [`Config::check`] refuses.
pub async fn start(config: Config, ctx: &mesh::Context) -> Result<mesh::Mounted, StartError> {
    config.check().map_err(|error| StartError::new(ROLE, error))?;
    let opened = open(config, ctx).await;
    let shared = opened.map_err(|error| StartError::new(ROLE, mesh::error::chain(&error)))?;
    let routes = Routes::new(LedgerServiceServer::new(Service { shared: Arc::new(shared) }));
    Ok(mesh::Mounted { role: ROLE, routes, services: vec![SERVICE_NAME], long_lived: LONG.to_vec() })
}

async fn open(config: Config, ctx: &mesh::Context) -> Result<Shared, Error> {
    let folder = ctx.data.join(ROLE);
    let places = Places::of(&config, &folder);
    let loading = (config.clone(), folder.clone());
    let loaded = tokio::task::spawn_blocking(move || keys::load(&loading.0, &loading.1));
    let Keys { signer, masters, trusted, made } = loaded.await.map_err(|_| Error::Lost)??;
    // The store seals with them, the service opens.
    let opening = masters.clone();
    let store: Arc<dyn Store> = match url(&config)? {
        Some(url) => Arc::new(Postgres::open(&url, config.postgres_connections, masters).await?),
        None => {
            let opened = tokio::task::spawn_blocking(move || Sqlite::open(&folder, masters));
            Arc::new(opened.await.map_err(|_| Error::Lost)??)
        }
    };
    if let Some(made) = made {
        // No master key has an empty id: any key there is.
        if !store.wrapped_by_others("", 1).await?.is_empty() {
            return Err(made.lost());
        }
        tokio::task::spawn_blocking(move || made.keep()).await.map_err(|_| Error::Lost)??;
    }
    rewrap(&*store, &opening, opening.current()).await?;
    let at = places.heads.clone();
    let heads = tokio::task::spawn_blocking(move || {
        let heads = Heads::open(&at)?;
        heads.keep()?;
        Ok::<_, Error>(heads)
    });
    let heads = Arc::new(heads.await.map_err(|_| Error::Lost)??);
    let engine = Engine {
        store: Arc::clone(&store),
        heads,
        signer: Arc::new(signer),
        checkpoint: config.checkpoint.clone(),
    };
    let (writer, task) = Writer::new(engine, &config.queue, ctx.stop.clone());
    ctx.tasks.spawn(task);
    Ok(Shared { store, writer, masters: opening, trusted, heads: places.heads, export: places.export })
}

/// Wraps keys anew that an earlier master key wraps.
async fn rewrap(store: &dyn Store, masters: &seal::Masters, current: &str) -> Result<(), Error> {
    let mut count = 0;
    loop {
        let kept = store.wrapped_by_others(current, REWRAP).await?;
        if kept.is_empty() {
            break;
        }
        count += kept.len();
        let anew = kept.iter().map(|kept| masters.rewrap(kept)).collect::<Result<Vec<_>, _>>()?;
        store.rewrap(anew).await?;
    }
    if count > 0 {
        tracing::info!(count, master = current, "keys of subjects were wrapped with another master key");
    }
    Ok(())
}

/// The URL of PostgreSQL, where it is to be used.
fn url(config: &Config) -> Result<Option<String>, Error> {
    let text = if config.postgres_file.as_os_str().is_empty() {
        config.postgres.expose().to_owned()
    } else {
        keys::read(&config.postgres_file)?.trim().to_owned()
    };
    Ok((!text.is_empty()).then_some(text))
}

/// Where what is not the store lies.
struct Places {
    heads: PathBuf,
    /// For exports; its folder is given.
    export: ExportConfig,
}

impl Places {
    fn of(config: &Config, folder: &Path) -> Self {
        let or = |given: &Path, usual: &str| {
            if given.as_os_str().is_empty() { folder.join(usual) } else { given.to_owned() }
        };
        let export = ExportConfig { folder: or(&config.export.folder, "export"), ..config.export.clone() };
        Self { heads: or(&config.heads, "heads"), export }
    }
}

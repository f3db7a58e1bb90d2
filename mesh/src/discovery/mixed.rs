//! All sources behind one: fixed addresses and names where the configuration has them, the registry for the
//! rest.

use std::{
    collections::BTreeMap,
    hash::{BuildHasher as _, Hasher as _, RandomState},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use http::Uri;
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Config, Discovery, Fixed, Members,
    dns::{self, Dns, Resolve, System},
    etcd::{Client, Endpoints},
    listing::Limits,
    registry::{Following, Registry},
};
use crate::{
    balance::{Connect, Random},
    config::Invalid,
};

/// What discovery touches the outside through; replaced in simulations.
#[derive(Clone)]
pub struct Seams {
    /// Makes connections to etcd, asked for the role `etcd`; none takes TCP, with TLS as configured.
    pub connect: Option<Arc<dyn Connect>>,
    /// Looks names up.
    pub resolve: Arc<dyn Resolve>,
    /// Fixes the random choices; random where none is given.
    pub seed: Option<u64>,
}

impl Default for Seams {
    fn default() -> Self {
        Self { connect: None, resolve: Arc::new(System), seed: None }
    }
}

impl Seams {
    /// A way to the etcd of the configuration, which has to answer `within` that time; none where it names
    /// none.
    pub(super) fn client(&self, config: &Config, within: Duration) -> Result<Option<Client>, Invalid> {
        let uris = config.endpoints()?;
        if uris.is_empty() {
            return Ok(None);
        }
        let connect = self.connect.clone().unwrap_or_else(|| Arc::new(config.direct()));
        let (username, password_file) = (config.username.clone(), config.password_file.clone());
        #[expect(clippy::cast_possible_truncation, reason = "any number will do")]
        let first = Random::new(self.seed).next() as usize % uris.len();
        Ok(Some(Client::new(Endpoints { uris, connect, username, password_file, within }, first)))
    }
}

/// Where discovery lives in a process.
pub struct Place<'a> {
    /// The folder for the snapshot.
    pub data: PathBuf,
    /// Ends everything.
    pub stop: CancellationToken,
    /// Holds the background tasks.
    pub tasks: &'a TaskTracker,
    /// The ways outside.
    pub seams: Seams,
}

/// Members at fixed addresses, at names, and in the registry.
pub struct Mixed {
    fixed: Fixed,
    names: BTreeMap<String, watch::Receiver<Arc<Members>>>,
    /// The roles that are not in the registry.
    placed: Vec<String>,
    registry: Option<Registry>,
}

impl Mixed {
    /// Starts following. `peers` are roles with addresses, `http://host:port` or `dns://host:port`, which
    /// stand over the registry. Reads the snapshot, and never waits for etcd.
    ///
    /// # Errors
    /// [`Invalid`], which names the key, when the configuration cannot be used.
    pub fn start(
        config: &Config,
        peers: &BTreeMap<String, Vec<Uri>>,
        place: Place<'_>,
    ) -> Result<Self, Invalid> {
        config.check()?;
        let Place { data, stop, tasks, seams } = place;
        let (mut fixed, mut names) = (BTreeMap::new(), BTreeMap::new());
        for (role, addresses) in peers {
            if let Some(name) = addresses.iter().find(|uri| dns::is_name(uri) && uri.port_u16().is_none()) {
                return Err(Invalid::new(format!("peers.{role}"), name, "dns://host:port, with a port"));
            }
            if addresses.iter().any(dns::is_name) {
                let how = (Arc::clone(&seams.resolve), config.dns_interval);
                names.insert(role.clone(), Dns::start(role, addresses, how, (stop.clone(), tasks)));
            } else {
                fixed.insert(role.clone(), addresses.clone());
            }
        }
        let registry = seams.client(config, Duration::from_secs(5))?.map(|client| {
            let snapshot = (!config.snapshot.is_empty()).then(|| data.join(&config.snapshot));
            let (cluster, ttl) = (config.cluster.clone(), config.ttl);
            let limits = Limits::default();
            Registry::start(
                Following { client, cluster, ttl, limits, snapshot, seed: seams.seed },
                stop,
                tasks,
            )
        });
        Ok(Self { placed: fixed.keys().cloned().collect(), fixed: Fixed::new(fixed), names, registry })
    }
}

impl Discovery for Mixed {
    fn watch(&self, role: &str) -> watch::Receiver<Arc<Members>> {
        if let Some(members) = self.names.get(role) {
            return members.clone();
        }
        match &self.registry {
            Some(registry) if !self.placed.iter().any(|placed| placed == role) => registry.watch(role),
            _ => self.fixed.watch(role),
        }
    }
}

/// A name for this process that no other has: 32 hexadecimal digits.
#[must_use]
pub fn instance_id() -> String {
    // The standard library seeds its hashers from the system's randomness, and each one anew.
    let part = || {
        let mut hasher = RandomState::new().build_hasher();
        hasher.write_u32(std::process::id());
        hasher.finish()
    };
    format!("{:016x}{:016x}", part(), part())
}

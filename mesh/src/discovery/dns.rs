//! Members at names that are looked up again and again, such as those of headless services.
//!
//! Every address of a name is a member. While the name server is away, or knows of none, what was known
//! stays.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    time::{Duration, SystemTime},
};

use http::Uri;
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{Member, Members, Source, metrics};

/// How long a name server may take.
const WITHIN: Duration = Duration::from_secs(5);

/// How long to wait after a name that was never known could not be looked up.
const SOON: Duration = Duration::from_secs(1);

/// Addresses of a name that are taken.
const MOST: usize = 1000;

/// The addresses of a name.
pub type Resolving<'a> = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'a>>;

/// Looks names up; the seam for tests and simulations.
pub trait Resolve: Send + Sync + 'static {
    /// All addresses of `host`, with `port`. May be dropped half-way.
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> Resolving<'a>;
}

/// The system's resolver.
#[derive(Clone, Copy, Debug, Default)]
pub struct System;

impl Resolve for System {
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> Resolving<'a> {
        Box::pin(async move {
            let host = host.trim_start_matches('[').trim_end_matches(']');
            Ok(tokio::net::lookup_host((host, port)).await?.collect())
        })
    }
}

/// A name as it is configured.
struct Name {
    host: String,
    port: u16,
    known: BTreeSet<SocketAddr>,
}

/// Follows the addresses of one role, of which one or several are names.
pub(super) struct Dns {
    role: String,
    names: Vec<Name>,
    /// Addresses beside the names.
    fixed: Vec<Uri>,
    resolve: Arc<dyn Resolve>,
    every: Duration,
    sender: watch::Sender<Arc<Members>>,
    failing: bool,
}

impl Dns {
    /// Begins to follow.
    pub(super) fn start(
        role: &str,
        addresses: &[Uri],
        (resolve, every): (Arc<dyn Resolve>, Duration),
        (stop, tasks): (CancellationToken, &TaskTracker),
    ) -> watch::Receiver<Arc<Members>> {
        let (names, fixed): (Vec<&Uri>, Vec<&Uri>) = addresses.iter().partition(|uri| is_name(uri));
        let name = |uri: &&Uri| {
            Some(Name { host: uri.host()?.to_owned(), port: uri.port_u16()?, known: BTreeSet::new() })
        };
        let names = names.iter().filter_map(name).collect();
        let fixed: Vec<Uri> = fixed.into_iter().cloned().collect();
        let nodes = fixed.iter().cloned().map(Member::at).map(Arc::new).collect();
        let members = Members { nodes, source: Source::Dns, as_of: SystemTime::UNIX_EPOCH };
        let (sender, receiver) = watch::channel(Arc::new(members));
        let dns = Self { role: role.to_owned(), names, fixed, resolve, every, sender, failing: false };
        tasks.spawn(async move { stop.run_until_cancelled(dns.run()).await });
        receiver
    }

    async fn run(mut self) {
        loop {
            let known = self.look().await;
            self.sender.send_if_modified(|members| {
                let nodes = self.members();
                let changed = members.nodes != nodes;
                // A name that cannot be looked up leaves the time as it is, so that one sees how old it is.
                let as_of = if self.failing { members.as_of } else { SystemTime::now() };
                *members = Arc::new(Members { nodes, source: Source::Dns, as_of });
                if changed {
                    metrics::members(&self.role, members.nodes.len(), Source::Dns);
                }
                changed
            });
            sleep(if known { self.every } else { SOON.min(self.every) }).await;
        }
    }

    /// Looks all names up. Returns whether of each something is known, from now or before.
    async fn look(&mut self) -> bool {
        let mut failed = None;
        for name in &mut self.names {
            let looked = timeout(WITHIN, self.resolve.resolve(&name.host, name.port)).await;
            match looked.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
                Ok(addresses) if !addresses.is_empty() => {
                    let all: BTreeSet<SocketAddr> = addresses.into_iter().collect();
                    name.known = all.into_iter().take(MOST).collect();
                }
                Ok(_) => failed = Some((name.host.clone(), "it has no address".to_owned())),
                Err(error) => failed = Some((name.host.clone(), error.to_string())),
            }
        }
        match (&failed, self.failing) {
            (Some((name, error)), false) => {
                tracing::warn!(
                    role = self.role,
                    name,
                    error,
                    "a name cannot be looked up; what was known stays"
                );
            }
            (None, true) => tracing::info!(role = self.role, "names can be looked up again"),
            _ => {}
        }
        self.failing = failed.is_some();
        self.names.iter().all(|name| !name.known.is_empty())
    }

    fn members(&self) -> Vec<Arc<Member>> {
        let resolved = self.names.iter().flat_map(|name| &name.known);
        let resolved = resolved.filter_map(|address| format!("http://{address}").parse().ok());
        let members = resolved.chain(self.fixed.iter().cloned()).map(Member::at);
        // Two names may have an address in common.
        let by_id: BTreeMap<String, Member> = members.map(|member| (member.id.clone(), member)).collect();
        by_id.into_values().map(Arc::new).collect()
    }
}

/// Whether an address is a name to look up: `dns://host:port`.
pub(super) fn is_name(uri: &Uri) -> bool {
    uri.scheme_str() == Some("dns")
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[derive(Default)]
    struct Script(Mutex<Option<Vec<&'static str>>>);

    impl Script {
        fn says(&self, addresses: Option<&[&'static str]>) {
            *self.0.lock().unwrap() = addresses.map(<[_]>::to_vec);
        }
    }

    impl Resolve for Script {
        fn resolve<'a>(&'a self, host: &'a str, port: u16) -> Resolving<'a> {
            assert_eq!((host, port), ("inference.example", 7070));
            let said = self.0.lock().unwrap().clone();
            Box::pin(async move {
                let addresses = said.ok_or(io::ErrorKind::NotConnected)?;
                Ok(addresses.iter().map(|address| SocketAddr::new(address.parse().unwrap(), port)).collect())
            })
        }
    }

    fn ids(members: &watch::Receiver<Arc<Members>>) -> Vec<String> {
        members.borrow().nodes.iter().map(|node| node.id.clone()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn all_addresses_of_a_name_are_members_and_stay_while_the_name_server_is_away() {
        let script = Arc::new(Script::default());
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let addresses = ["dns://inference.example:7070", "http://10.0.0.9:1"].map(Uri::from_static);
        let every = Duration::from_secs(10);
        let resolve: Arc<dyn Resolve> = script.clone();
        let mut members = Dns::start("inference", &addresses, (resolve, every), (stop.clone(), &tasks));
        assert_eq!(ids(&members), ["10.0.0.9:1"]);
        sleep(Duration::from_secs(30)).await;
        script.says(Some(&["10.0.0.2", "10.0.0.1", "fd00::1"]));
        members.changed().await.unwrap();
        assert_eq!(ids(&members), ["10.0.0.1:7070", "10.0.0.2:7070", "10.0.0.9:1", "[fd00::1]:7070"]);
        assert_eq!(members.borrow().source, Source::Dns);
        for away in [None, Some(&[] as &[_])] {
            script.says(away);
            sleep(Duration::from_secs(3600)).await;
            assert_eq!(ids(&members).len(), 4);
        }
        script.says(Some(&["10.0.0.3"]));
        members.changed().await.unwrap();
        assert_eq!(ids(&members), ["10.0.0.3:7070", "10.0.0.9:1"]);
        stop.cancel();
        tasks.close();
        tasks.wait().await;
    }

    #[tokio::test]
    async fn the_system_knows_this_host() {
        let addresses = System.resolve("localhost", 80).await.unwrap();
        assert!(addresses.iter().all(|address| address.ip().is_loopback()) && !addresses.is_empty());
    }
}

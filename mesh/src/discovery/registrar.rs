//! Puts this node into the registry, and keeps it there.
//!
//! All roles of a process stand under one lease, which is renewed three times in its time. When the lease
//! is gone, because this node was cut off for too long or etcd lost its data, a new one is taken and
//! everything is written again. Nothing of this ever ends the process: while etcd is away it is tried
//! again, in bounded intervals.

use std::time::Duration;

use futures::future::try_join_all;
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

use super::{
    About, Config, Seams,
    backoff::Backoff,
    etcd::{
        Client, EtcdError, KeepAlive, Session,
        messages::{PutRequest, RangeRequest, RangeResponse},
    },
    layout::{self, Layout, is_id, is_role},
    metrics,
};
use crate::config::Invalid;

/// How often a node's words about itself are written at most. Thousands of nodes say theirs.
const TELL: Duration = Duration::from_secs(2);

/// After so many renewals of the lease it is checked that the entries are there as well.
const CHECK: u32 = 15;

/// How long a lease may take to be given back when a node leaves.
const REVOKE: Duration = Duration::from_secs(2);

/// What went well for so long was no failure from the start.
const STEADY: Duration = Duration::from_secs(3);

/// What a node puts into the registry.
pub struct Announcement {
    /// Names the process: up to 128 letters, digits, `-`, `_`, `.` or `:`. Never used before; see
    /// [`instance_id`](super::instance_id).
    pub id: String,
    /// `host:port` that others reach it at.
    pub address: String,
    /// The roles that it serves.
    pub roles: Vec<String>,
    /// What it says of itself, which may change. Written at most every two seconds.
    pub about: watch::Receiver<About>,
}

/// The way into the registry.
pub struct Registrar {
    client: Client,
    layout: Layout,
    ttl: Duration,
    seed: Option<u64>,
}

impl Registrar {
    /// A registrar; `None` where the configuration names no etcd. Connects only to register.
    ///
    /// # Errors
    /// [`Invalid`], which names the key, when the configuration cannot be used.
    pub fn open(config: &Config, seams: &Seams) -> Result<Option<Self>, Invalid> {
        config.check()?;
        // An answer must come while there is time to ask somebody else before the lease ends.
        let within = (config.ttl / 4).clamp(Duration::from_secs(1), Duration::from_secs(5));
        let Some(client) = seams.client(config, within)? else { return Ok(None) };
        Ok(Some(Self { client, layout: Layout::new(&config.cluster), ttl: config.ttl, seed: seams.seed }))
    }

    /// Registers a node, in the background, until it is withdrawn or `stop` is cancelled. To be called when
    /// it is ready to serve.
    ///
    /// # Errors
    /// [`Invalid`] where the id, the address or a role is of no form that others accept.
    pub fn register(
        self,
        announcement: Announcement,
        stop: &CancellationToken,
        tasks: &TaskTracker,
    ) -> Result<Registration, Invalid> {
        let Announcement { id, address, roles, about } = announcement;
        if !is_id(&id) {
            return Err(Invalid::new("id", id, "1 to 128 letters, digits, - _ . or :"));
        }
        if let Some(role) = roles.iter().find(|role| !is_role(role)) {
            return Err(Invalid::new("role", role, "1 to 64 lower-case letters, digits, - or _"));
        }
        if layout::told(&id, &address, About::default()).is_err() {
            let allowed = "host:port that others can reach, such as 10.0.0.7:7070";
            return Err(Invalid::new("discovery.advertise", address, allowed));
        }
        let keys = roles.iter().map(|role| self.layout.key(role, &id)).collect();
        let (told, is_told) = watch::channel(false);
        let (leave, abandon) = (stop.child_token(), CancellationToken::new());
        let holder = Holder { registrar: self, keys, address, about, told, lease: None };
        let done = CancellationToken::new();
        let (left, leaving, abandoned) = (done.clone(), leave.clone(), abandon.clone());
        tasks.spawn(async move {
            let _over = left.drop_guard();
            abandoned.run_until_cancelled(holder.run(leaving)).await;
        });
        Ok(Registration { leave, done, told: is_told, _abandon: abandon.drop_guard() })
    }
}

/// A node's place in the registry. Dropped, it is no longer kept, and ends when its lease does.
pub struct Registration {
    leave: CancellationToken,
    done: CancellationToken,
    pub(super) told: watch::Receiver<bool>,
    _abandon: DropGuard,
}

impl Registration {
    /// Whether the registry has this node, as far as is known.
    #[must_use]
    pub fn is_registered(&self) -> bool {
        *self.told.borrow()
    }

    /// Waits until the registry has this node.
    pub async fn registered(&self) {
        // An error says that it never will.
        let _ = self.told.clone().wait_for(|told| *told).await;
    }

    /// Takes this node out of the registry, so that others stop calling it. Takes at most about two
    /// seconds; where etcd is away the lease ends by itself.
    pub async fn withdraw(self) {
        self.leave.cancel();
        let _ = timeout(REVOKE + Duration::from_millis(500), self.done.cancelled()).await;
    }
}

/// Holds a node's place.
struct Holder {
    registrar: Registrar,
    keys: Vec<Vec<u8>>,
    address: String,
    about: watch::Receiver<About>,
    told: watch::Sender<bool>,
    lease: Option<i64>,
}

impl Holder {
    async fn run(mut self, leave: CancellationToken) {
        let mut backoff =
            Backoff::new((self.registrar.ttl / 3).min(Duration::from_secs(4)), self.registrar.seed);
        let mut warned = false;
        loop {
            let begun = Instant::now();
            let held = leave.run_until_cancelled(self.hold(&mut warned)).await;
            let Some(Err(error)) = held else { break };
            if begun.elapsed() > STEADY {
                backoff.reset();
            }
            self.told.send_replace(false);
            self.registrar.client.turn();
            if !std::mem::replace(&mut warned, true) {
                let error: &dyn std::error::Error = &error;
                tracing::warn!(error, "this node cannot be kept in the registry; it is tried again");
            }
            if leave.run_until_cancelled(sleep(backoff.next())).await.is_none() {
                break;
            }
        }
        self.told.send_replace(false);
        if let Some(lease) = self.lease
            && !matches!(timeout(REVOKE, self.revoke(lease)).await, Ok(Ok(())))
        {
            tracing::info!("this node's place in the registry was not given back, and ends with its lease");
        }
    }

    /// Says farewell, so that nobody takes this node for one that is cut off, and gives the lease back.
    async fn revoke(&self, lease: i64) -> Result<(), EtcdError> {
        let session = self.registrar.client.session().await?;
        // Without it the node is missed for a while, and no more.
        let _ = self.write(&session, layout::farewell(&self.address), lease).await;
        session.revoke(lease).await.map(drop)
    }

    /// Registers, and stays registered until something fails.
    async fn hold(&mut self, warned: &mut bool) -> Result<std::convert::Infallible, EtcdError> {
        let session = self.registrar.client.session().await?;
        loop {
            let mut keep_alive = self.lease(&session).await?;
            self.put(&session).await?;
            self.told.send_replace(true);
            tracing::info!(again = std::mem::take(warned), "this node is in the registry");
            self.keep(&session, &mut keep_alive).await?;
            self.told.send_replace(false);
        }
    }

    /// The lease that this node had, where it still is, or a new one.
    async fn lease(&mut self, session: &Session) -> Result<KeepAlive, EtcdError> {
        if let Some(lease) = self.lease {
            let keep_alive = session.keep_alive(lease).await?;
            if keep_alive.left > 0 {
                return Ok(keep_alive);
            }
            self.lost();
        }
        let lease = session.grant(self.registrar.ttl).await?.id;
        self.lease = Some(lease);
        session.keep_alive(lease).await
    }

    fn lost(&mut self) {
        self.lease = None;
        metrics::lease_lost();
        tracing::warn!("the registry has forgotten this node; it is registered again");
    }

    /// Writes all entries, side by side: one after the other, on a slow etcd, they could take longer than the
    /// lease lives. Each has the same bound from the same moment on.
    async fn put(&mut self, session: &Session) -> Result<(), EtcdError> {
        let value = layout::value(&self.address, &self.about.borrow_and_update());
        self.write(session, value, self.lease.unwrap_or_default()).await
    }

    async fn write(&self, session: &Session, value: Vec<u8>, lease: i64) -> Result<(), EtcdError> {
        let puts = self
            .keys
            .iter()
            .map(|key| session.put(PutRequest { key: key.clone(), value: value.clone(), lease }));
        try_join_all(puts).await.map(drop)
    }

    /// Renews the lease and tells what changed, until the lease is gone.
    async fn keep(&mut self, session: &Session, keep_alive: &mut KeepAlive) -> Result<(), EtcdError> {
        let every = self.registrar.ttl / 3;
        let (mut news, mut tell_at, mut silent) = (false, Instant::now() + TELL, false);
        let mut renewals = 0_u32;
        if keep_alive.left == 0 {
            self.lost();
            return Ok(());
        }
        loop {
            tokio::select! {
                // Always in this order, so that a simulation replays.
                biased;
                // From the last answer on, however long was written since.
                () = sleep_until(keep_alive.at + every) => {
                    if !keep_alive.renew().await? {
                        self.lost();
                        return Ok(());
                    }
                    renewals = renewals.wrapping_add(1);
                    if renewals.is_multiple_of(CHECK) && !self.is_there(session).await? {
                        tracing::warn!("somebody removed this node from the registry; it is registered again");
                        news = true;
                    }
                }
                changed = self.about.changed(), if !silent => match changed {
                    Ok(()) => news = true,
                    // Nobody will say anything any more.
                    Err(_) => silent = true,
                },
                () = sleep_until(tell_at), if news => {
                    self.put(session).await?;
                    (news, tell_at) = (false, Instant::now() + TELL);
                }
            }
        }
    }

    /// Whether the registry has all entries, under the lease.
    async fn is_there(&self, session: &Session) -> Result<bool, EtcdError> {
        let found = try_join_all(self.keys.iter().map(|key| {
            session.range(RangeRequest { key: key.clone(), keys_only: true, ..RangeRequest::default() })
        }));
        let under = |answer: &RangeResponse| answer.kvs.first().map(|kv| kv.lease);
        Ok(found.await?.iter().all(|answer| under(answer) == self.lease))
    }
}

//! The way to Redis: one server, a master that Sentinels watch, or a Cluster; with TLS and ACL users.
//!
//! [`Redis`] connects at its first use and again after a connection broke, one attempt at a time, and in
//! the background: a call waits for it no longer than its own time. While Redis is away calls fail at
//! once, so that whoever asks can go on without: that it is away is known once an attempt failed, or once
//! a server that is connected has been silent for a while. Every call names the time that it may take.

mod config;
mod connect;
mod lateness;
#[cfg(test)]
mod tests;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

pub use config::{Config, Mode};
use redis::{Cmd, ErrorKind, FromRedisValue, Script, ServerErrorKind};
use tokio::{sync::watch, time::Instant};

use self::{
    connect::{Link, Source},
    lateness::Lateness,
};
use crate::config::Invalid;

/// How long Redis is left alone after a connection to it failed, or was of no use for this long; twice as
/// long each further time, up to five times.
const LEFT_ALONE: Duration = Duration::from_millis(200);
/// How long a first attempt may take until calls that come meanwhile no longer wait for it.
const FRESH: Duration = Duration::from_millis(100);
/// While a Cluster has answered within this time, an error tells of one node of it, to which it connects
/// again by itself.
const WELL: Duration = Duration::from_secs(1);

/// Why a call came to nothing.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RedisError {
    /// No connection can be had. Go on without, and try again later.
    #[error("Redis is away: {0}")]
    Away(String),
    /// The call did not end in the time that it was given. What it asked for may have been done.
    #[error("Redis did not answer in time")]
    Late,
    /// Redis answered, but not with what was asked for.
    #[error("Redis refused a command: {0}")]
    Refused(String),
}

/// A Redis deployment. Cheap to clone.
#[derive(Clone)]
pub struct Redis(Arc<Inner>);

struct Inner {
    source: Source,
    connect_within: Duration,
    state: Mutex<State>,
}

struct State {
    link: Way,
    /// Counts the connections, so that what an old one tells does not count against a new one.
    number: u64,
    /// Attempts and connections since the last answer that came to nothing.
    failures: u32,
    /// That Redis is away was said, since its last answer.
    told: bool,
}

enum Way {
    Up(Up),
    /// To be tried again at `at`.
    Down {
        at: Instant,
        why: String,
    },
    /// Somebody is at it; the receiver tells when it is over.
    Connecting {
        over: watch::Receiver<()>,
        since: Instant,
    },
}

/// A connection, and what it was good for.
struct Up {
    link: Link,
    since: Instant,
    /// When a call was last answered.
    answered: Option<Instant>,
    late: Lateness,
}

impl Up {
    /// Whether an error says nothing of the deployment as a whole.
    fn stands(&self, now: Instant) -> bool {
        let heard = self.answered.unwrap_or(self.since);
        matches!(self.link, Link::Cluster(_)) && now.saturating_duration_since(heard) < WELL
    }
}

impl Redis {
    /// A deployment; `None` where the configuration names none. Connects at the first call.
    ///
    /// # Errors
    /// [`Invalid`], which names the key, when the configuration cannot be used.
    pub fn open(config: &Config) -> Result<Option<Self>, Invalid> {
        config.check()?;
        let Some(source) = Source::new(config)? else { return Ok(None) };
        let link = Way::Down { at: Instant::now(), why: "not tried yet".into() };
        let state = Mutex::new(State { link, number: 0, failures: 0, told: false });
        Ok(Some(Self(Arc::new(Inner { source, connect_within: config.connect_timeout, state }))))
    }

    /// Runs a command.
    ///
    /// # Errors
    /// [`RedisError`], at the latest when `within` is over.
    pub async fn query<T: FromRedisValue>(&self, command: &Cmd, within: Duration) -> Result<T, RedisError> {
        self.run(within, async |mut link| command.query_async(&mut link).await).await
    }

    /// Runs a script, by its hash where the server has it. `keys` decide where: all of them must be in
    /// one slot.
    ///
    /// # Errors
    /// [`RedisError`], at the latest when `within` is over.
    pub async fn script<T: FromRedisValue>(
        &self,
        script: &Script,
        keys: &[&str],
        arguments: &[i64],
        within: Duration,
    ) -> Result<T, RedisError> {
        let mut call = script.prepare_invoke();
        for key in keys {
            call.key(*key);
        }
        for argument in arguments {
            call.arg(*argument);
        }
        self.run(within, async |mut link| call.invoke_async(&mut link).await).await
    }

    /// Whether there is a connection, as far as is known.
    #[must_use]
    pub fn is_up(&self) -> bool {
        matches!(self.state().link, Way::Up(_))
    }

    async fn run<T>(
        &self,
        within: Duration,
        work: impl AsyncFnOnce(Link) -> redis::RedisResult<T>,
    ) -> Result<T, RedisError> {
        let until = Instant::now() + within;
        let link = tokio::time::timeout_at(until, self.link()).await;
        let (link, number) = link.unwrap_or(Err(RedisError::Late))?;
        match tokio::time::timeout_at(until, work(link)).await {
            Ok(outcome) => self.judge(number, outcome),
            Err(_) => {
                self.late(number);
                Err(RedisError::Late)
            }
        }
    }

    fn judge<T>(&self, number: u64, outcome: redis::RedisResult<T>) -> Result<T, RedisError> {
        match outcome {
            Err(error) if is_useless(&error) => {
                self.broke(number, &error);
                Err(RedisError::Away(error.to_string()))
            }
            answer => {
                self.answered(number);
                answer.map_err(|error| RedisError::Refused(error.to_string()))
            }
        }
    }

    fn answered(&self, number: u64) {
        let mut state = self.state();
        if let Some(up) = state.up(number) {
            up.late.answered();
            up.answered = Some(Instant::now());
            state.failures = 0;
            state.told = false;
        }
    }

    /// A call got no answer in its time.
    fn late(&self, number: u64) {
        let mut state = self.state();
        if state.up(number).is_some_and(|up| up.late.late(Instant::now())) {
            let failures = state.failures + 1;
            state.down(failures, "it does not answer".into());
        }
    }

    /// The connection of `number` is of no use any more: the next call makes another one, at once if this one
    /// was of use for a while.
    fn broke(&self, number: u64, error: &redis::RedisError) {
        let (mut state, now) = (self.state(), Instant::now());
        let failures = state.failures + 1;
        let Some(up) = state.up(number) else { return };
        if up.stands(now) {
            return;
        }
        let served = up.answered.is_some() && now.saturating_duration_since(up.since) >= LEFT_ALONE;
        state.down(if served { 0 } else { failures }, error.to_string());
    }

    /// A connection and its number. Waits for the one that is being made, unless it is known that Redis
    /// is away.
    async fn link(&self) -> Result<(Link, u64), RedisError> {
        let away = |why: &str| Err(RedisError::Away(why.to_owned()));
        loop {
            let mut over = {
                let mut state = self.state();
                let (number, failures) = (state.number, state.failures);
                match &mut state.link {
                    Way::Up(up) => return Ok((up.link.clone(), number)),
                    Way::Down { at, why, .. } if Instant::now() < *at => return away(why),
                    Way::Connecting { .. } if failures > 0 => return away("it is tried again"),
                    Way::Connecting { since, .. } if since.elapsed() > FRESH => {
                        return away("a connection takes long");
                    }
                    Way::Connecting { over, .. } => over.clone(),
                    Way::Down { why, .. } => {
                        let why = std::mem::take(why);
                        let (done, over) = watch::channel(());
                        state.link = Way::Connecting { over: over.clone(), since: Instant::now() };
                        self.connect(done);
                        if failures > 0 {
                            return away(&why);
                        }
                        over
                    }
                }
            };
            // An error says that the sender is gone: the attempt is over.
            let _ = over.changed().await;
        }
    }

    /// Connects in the background, so that the attempt outlives a caller with little time.
    fn connect(&self, done: watch::Sender<()>) {
        let mut attempt = Attempt { redis: self.clone(), ended: false, _done: done };
        tokio::spawn(async move {
            let Inner { source, connect_within, .. } = &*attempt.redis.0;
            let outcome = tokio::time::timeout(*connect_within, reach(source)).await;
            attempt.ended = true;
            match outcome {
                Ok(Ok(link)) => attempt.redis.connected(link),
                Ok(Err(error)) => attempt.redis.failed(error.to_string()),
                Err(_) => attempt.redis.failed("no connection in time".into()),
            }
        });
    }

    fn connected(&self, link: Link) {
        let mut state = self.state();
        tracing::info!("connected to Redis");
        state.number += 1;
        let late = Lateness::default();
        state.link = Way::Up(Up { link, since: Instant::now(), answered: None, late });
    }

    /// The attempt that is under way came to nothing.
    fn failed(&self, why: String) {
        let mut state = self.state();
        if let Way::Connecting { .. } = state.link {
            let failures = state.failures + 1;
            state.down(failures, why);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The connection of `number`, while it is the one in use.
    fn up(&mut self, number: u64) -> Option<&mut Up> {
        match &mut self.link {
            Way::Up(up) if self.number == number => Some(up),
            _ => None,
        }
    }

    /// Redis is away, for the time that so many failures call for.
    fn down(&mut self, failures: u32, why: String) {
        if !std::mem::replace(&mut self.told, true) {
            tracing::warn!(why, "Redis is away; what needs it goes on without");
        }
        let wait = LEFT_ALONE * 2_u32.pow(failures.saturating_sub(1).min(5));
        let at = Instant::now() + if failures == 0 { Duration::ZERO } else { wait };
        self.failures = failures;
        self.link = Way::Down { at, why };
    }
}

/// Whether an error says that another connection is needed: this one broke, or the master is somewhere else,
/// which a server that became a replica tells by what it refuses.
fn is_useless(error: &redis::RedisError) -> bool {
    error.is_unrecoverable_error()
        || error.is_io_error()
        || error.is_cluster_error()
        || error.kind() == ErrorKind::Server(ServerErrorKind::ReadOnly)
}

/// A connection on which the server has answered: that one stands says nothing of who is behind it.
async fn reach(source: &Source) -> redis::RedisResult<Link> {
    let mut link = source.connect().await?;
    if let Link::Cluster(_) = link {
        // It has told its slots. A PING goes to all nodes, and one that is away is not all of them.
        return Ok(link);
    }
    let answer = redis::cmd("PING").query_async::<redis::Value>(&mut link).await;
    match answer {
        Err(error) if error.is_io_error() || error.is_unrecoverable_error() => Err(error),
        // A user that may not ask this was answered as well.
        _ => Ok(link),
    }
}

/// An attempt to connect. However it ends, those who wait for it hear of it.
struct Attempt {
    redis: Redis,
    ended: bool,
    _done: watch::Sender<()>,
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if !self.ended {
            self.redis.failed("the attempt was given up".into());
        }
    }
}

/// Checks that a deployment answers, for a start-up that wants to know.
///
/// # Errors
/// As [`Redis::query`].
pub async fn ping(redis: &Redis, within: Duration) -> Result<(), RedisError> {
    redis.query::<String>(&redis::cmd("PING"), within).await.map(drop)
}

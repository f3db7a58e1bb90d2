//! The way to Redis: one server, a master that Sentinels watch, or a Cluster; with TLS and ACL users.
//!
//! [`Redis`] connects at its first use and again after a connection broke, one attempt at a time, and in
//! the background: a call waits for it no longer than its own time. While Redis is away calls fail at
//! once, so that whoever asks can go on without. Every call names the time that it may take.

mod config;
mod connect;
#[cfg(test)]
mod tests;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

pub use config::{Config, Mode};
use redis::{Cmd, FromRedisValue, Script};
use tokio::{sync::watch, time::Instant};

use self::connect::{Link, Source};
use crate::config::Invalid;

/// How long Redis is left alone after a connection to it failed; twice as long each further time, up to
/// five times.
const LEFT_ALONE: Duration = Duration::from_millis(200);

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

enum State {
    Up(Link),
    /// To be tried again at `at`.
    Down {
        at: Instant,
        failures: u32,
        why: String,
    },
    /// Somebody is at it; the receiver tells when it is over.
    Connecting {
        over: watch::Receiver<()>,
        failures: u32,
    },
}

impl Redis {
    /// A deployment; `None` where the configuration names none. Connects at the first call.
    ///
    /// # Errors
    /// [`Invalid`], which names the key, when the configuration cannot be used.
    pub fn open(config: &Config) -> Result<Option<Self>, Invalid> {
        config.check()?;
        let Some(source) = Source::new(config)? else { return Ok(None) };
        let state = Mutex::new(State::Down { at: Instant::now(), failures: 0, why: "not tried yet".into() });
        Ok(Some(Self(Arc::new(Inner { source, connect_within: config.connect_timeout, state }))))
    }

    /// Runs a command.
    ///
    /// # Errors
    /// [`RedisError`], at the latest when `within` is over.
    pub async fn query<T: FromRedisValue>(&self, command: &Cmd, within: Duration) -> Result<T, RedisError> {
        let work = async {
            let mut link = self.link().await?;
            let outcome = command.query_async(&mut link).await;
            self.judge(outcome)
        };
        tokio::time::timeout(within, work).await.unwrap_or(Err(RedisError::Late))
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
        let work = async {
            let mut link = self.link().await?;
            let outcome = call.invoke_async(&mut link).await;
            self.judge(outcome)
        };
        tokio::time::timeout(within, work).await.unwrap_or(Err(RedisError::Late))
    }

    /// Whether there is a connection, as far as is known.
    #[must_use]
    pub fn is_up(&self) -> bool {
        matches!(*self.state(), State::Up(_))
    }

    fn judge<T>(&self, outcome: redis::RedisResult<T>) -> Result<T, RedisError> {
        outcome.map_err(|error| {
            // The master has moved, or the connection is of no use any more: connect anew.
            if error.is_unrecoverable_error() || error.is_io_error() || error.is_cluster_error() {
                self.down(0, error.to_string());
                return RedisError::Away(error.to_string());
            }
            RedisError::Refused(error.to_string())
        })
    }

    /// A connection; waits for the one that is being made.
    async fn link(&self) -> Result<Link, RedisError> {
        loop {
            let mut over = match &mut *self.state() {
                State::Up(link) => return Ok(link.clone()),
                State::Down { at, why, .. } if Instant::now() < *at => {
                    return Err(RedisError::Away(why.clone()));
                }
                State::Connecting { over, .. } => over.clone(),
                state @ State::Down { .. } => {
                    let State::Down { failures, .. } = *state else { continue };
                    let (done, over) = watch::channel(());
                    *state = State::Connecting { over: over.clone(), failures };
                    self.connect(done);
                    over
                }
            };
            // An error says that the sender is gone: the attempt is over.
            let _ = over.changed().await;
        }
    }

    /// Connects in the background, so that the attempt outlives a caller with little time.
    fn connect(&self, done: watch::Sender<()>) {
        let redis = self.clone();
        tokio::spawn(async move {
            let attempt = tokio::time::timeout(redis.0.connect_within, redis.0.source.connect()).await;
            match attempt {
                Ok(Ok(link)) => {
                    tracing::info!("connected to Redis");
                    *redis.state() = State::Up(link);
                }
                Ok(Err(error)) => redis.failed(error.to_string()),
                Err(_) => redis.failed("no connection in time".into()),
            }
            drop(done);
        });
    }

    fn failed(&self, why: String) {
        let failures = match &*self.state() {
            State::Connecting { failures, .. } => *failures + 1,
            _ => 1,
        };
        self.down(failures, why);
    }

    fn down(&self, failures: u32, why: String) {
        let mut state = self.state();
        if failures <= 1 && !matches!(*state, State::Down { .. }) {
            tracing::warn!(why, "Redis is away; what needs it goes on without");
        }
        let wait = LEFT_ALONE * 2_u32.pow(failures.saturating_sub(1).min(5));
        let at = Instant::now() + if failures == 0 { Duration::ZERO } else { wait };
        *state = State::Down { at, failures, why };
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Checks that a deployment answers, for a start-up that wants to know.
///
/// # Errors
/// As [`Redis::query`].
pub async fn ping(redis: &Redis, within: Duration) -> Result<(), RedisError> {
    redis.query::<String>(&redis::cmd("PING"), within).await.map(drop)
}

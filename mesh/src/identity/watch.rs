//! Files that change while the node runs.

use std::{
    sync::{Arc, PoisonError},
    time::{Duration, SystemTime},
};

use tokio_util::sync::CancellationToken;

use super::{
    Held, Identity,
    error::{At, Fault, IdentityError},
    material::{Files, Material, warn_of_readers},
    metrics,
};

/// How often the files are looked at. What writes them may write one after the other; whoever sees them in
/// between says so and looks again.
const EVERY: Duration = Duration::from_secs(2);

/// What was seen of the files and told of them.
pub(super) struct Seen {
    /// The files in use.
    used: u64,
    /// The files that were refused last, and why, as it was told.
    pub(super) refused: Option<(u64, String)>,
    /// Why they could not be read, as it was told.
    unreadable: Option<String>,
    pub(super) end: End,
}

/// What was told of the certificate's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum End {
    Far,
    Near,
    Past,
}

impl End {
    /// With `left` of `life` to go, in seconds.
    fn of(left: f64, life: f64) -> Self {
        // Renewal is due long before; a tenth means that it failed.
        match left {
            left if left <= 0.0 => Self::Past,
            left if left < life / 10.0 => Self::Near,
            _ => Self::Far,
        }
    }
}

impl Seen {
    pub(super) fn of(files: &Files) -> Self {
        Self { used: files.mark(), refused: None, unreadable: None, end: End::Far }
    }
}

impl Identity {
    /// Follows the files until `stop`: good ones are used for new connections from then on. Bad ones are told of
    /// once and change nothing; they are tried again, since a certificate may become valid. Warns when a tenth
    /// of the certificate's life is left. The files are read on threads that may block.
    pub async fn watch(self, stop: CancellationToken) {
        let Some(held) = self.0 else { return };
        let follow = async {
            loop {
                let held = Arc::clone(&held);
                // A panic there is told by its hook; the next look may do better.
                let _ = tokio::task::spawn_blocking(move || held.look(SystemTime::now())).await;
                tokio::time::sleep(EVERY).await;
            }
        };
        stop.run_until_cancelled(follow).await;
    }
}

impl Held {
    /// Takes up files that changed, and tells what there is to tell.
    pub(super) fn look(&self, now: SystemTime) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        match Files::read(&self.config) {
            Err(error) => {
                let error = error.to_string();
                if seen.unreadable.as_ref() != Some(&error) {
                    tracing::warn!(error, "the identity's files cannot be read; the one in use stays");
                    metrics::reloaded("unreadable");
                    seen.unreadable = Some(error);
                }
            }
            Ok(files) => {
                seen.unreadable = None;
                if files.mark() == seen.used {
                    seen.refused = None;
                } else {
                    self.take_up(&files, &mut seen, now);
                }
            }
        }
        self.tell_of_end(&mut seen, now);
    }

    fn take_up(&self, files: &Files, seen: &mut Seen, now: SystemTime) {
        match self.successor(files, now) {
            Ok(material) => {
                let (roles, until) = (&material.own, At(&material.not_after));
                tracing::info!(%roles, %until, "a new identity is in use");
                metrics::reloaded("ok");
                self.current.store(Arc::new(material));
                (seen.used, seen.refused, seen.end) = (files.mark(), None, End::Far);
                warn_of_readers(&self.config);
            }
            Err(error) => {
                let refused = Some((files.mark(), error.to_string()));
                if seen.refused != refused {
                    tracing::warn!(%error, "the new identity is not used; the one before stays");
                    metrics::reloaded("refused");
                    seen.refused = refused;
                }
            }
        }
    }

    /// What `files` make, unless a role would be lost by it: the node goes on serving it, and nobody could
    /// call it.
    fn successor(&self, files: &Files, now: SystemTime) -> Result<Material, IdentityError> {
        let material = Material::of(&self.config, files, now)?;
        let current = self.current.load();
        if let Some(role) = current.own.roles().find(|role| !material.own.has(role)) {
            let [(key, path), ..] = self.config.files();
            let fault = Fault::RoleGone { role: role.to_owned() };
            return Err(IdentityError { key, path: path.to_owned(), fault });
        }
        Ok(material)
    }

    fn tell_of_end(&self, seen: &mut Seen, now: SystemTime) {
        let current = self.current.load();
        let until = current.not_after;
        let left = match until.duration_since(now) {
            Ok(left) => left.as_secs_f64(),
            Err(over) => -over.duration().as_secs_f64(),
        };
        metrics::certificate_left(left);
        let life = until.duration_since(current.not_before).unwrap_or_default().as_secs_f64();
        let end = End::of(left, life);
        if end > seen.end {
            let path = self.config.certificate.display();
            match end {
                End::Past => {
                    tracing::error!(%path, until = %At(&until), "the certificate has expired: other nodes refuse this one")
                }
                _ => {
                    tracing::warn!(%path, until = %At(&until), "the certificate expires soon: replace the file")
                }
            }
        }
        seen.end = end;
    }
}

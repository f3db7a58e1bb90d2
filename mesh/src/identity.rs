//! Who a node is to other nodes, and who they are to it: mTLS by roles.
//!
//! Each node has a certificate that names its roles (`spiffe`, [`Peer`]). A [`Listener`](crate::server::Listener)
//! with an [`Identity`] takes only callers of the mesh's authorities, and the server stack lets each of them
//! call what its roles may ([`permissions`]). An identity's [connector](Identity::connector) talks only to nodes
//! that have the role that is called. Files that change are taken up while the node runs
//! ([`Identity::watch`]): new connections use them, and open ones end within about an hour, or with their
//! peer's certificate.
//!
//! Without files an identity is plain: nodes talk in plain text and believe whoever calls, which is for one
//! process, or for loopback.

mod accept;
mod config;
mod connect;
mod error;
mod material;
mod metrics;
pub mod permissions;
mod spiffe;
mod told;
mod verify;
mod watch;

use std::{
    sync::{Arc, Mutex},
    time::SystemTime,
};

use arc_swap::ArcSwap;

pub(crate) use self::accept::Accepted;
pub use self::{
    config::Config,
    error::{Fault, IdentityError},
    material::expiry,
    spiffe::{NameError, Peer},
};
use self::{
    material::{Files, Material},
    told::Told,
    watch::Seen,
};
use crate::balance::{Connect, Plain};

/// What a node shows other nodes and believes of them. Cheap to clone.
#[derive(Clone, Default)]
pub struct Identity(Option<Arc<Held>>);

/// The identity in use, and the files that it is of.
struct Held {
    config: Config,
    current: ArcSwap<Material>,
    seen: Mutex<Seen>,
    told: Told,
}

impl Identity {
    /// No identity: plain text.
    #[must_use]
    pub fn plain() -> Self {
        Self::default()
    }

    /// Reads the files that `config` names; [plain](Self::plain) where it names none. Blocks.
    ///
    /// # Errors
    /// [`IdentityError`], which names the file and what is wrong: besides files that cannot be used, a
    /// certificate that is not valid now, or that no other node with the same authorities would believe.
    pub fn load(config: &Config) -> Result<Self, IdentityError> {
        if config.is_plain() {
            return Ok(Self::plain());
        }
        let files = Files::read(config)?;
        let material = Material::of(config, &files, SystemTime::now())?;
        material::warn_of_readers(config);
        let seen = Mutex::new(Seen::of(&files));
        Ok(Self(Some(Arc::new(Held {
            config: config.clone(),
            current: ArcSwap::from_pointee(material),
            seen,
            told: Told::default(),
        }))))
    }

    /// Whether nodes talk in plain text.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.0.is_none()
    }

    /// The roles of this node's certificate; none without one.
    #[must_use]
    pub fn own(&self) -> Option<Peer> {
        self.0.as_ref().map(|held| held.current.load().own.clone())
    }

    /// Makes connections to other nodes, and only to those that have the role that is called.
    #[must_use]
    pub fn connector(&self) -> Arc<dyn Connect> {
        match &self.0 {
            Some(held) => Arc::new(connect::Secured::new(Arc::clone(held))),
            None => Arc::new(Plain),
        }
    }
}

#[cfg(test)]
mod tests;

//! How a node stays useful when it is asked for more than it can do: it does as much at once as it does
//! best with, lets the most urgent calls go first, and refuses the rest early.
//!
//! Each gRPC service has a limit of its own, and so has each method of it whose calls go on for long, and
//! each model that calls name with [`MODEL`](crate::call::MODEL): `gradient` learns it from how long calls
//! take. A call beyond it waits for a moment, higher classes first and within a class who has fewest under way
//! (`queue`); a part of the limit is kept for class voice. Who cannot be let in is RESOURCE_EXHAUSTED, with
//! the time after which to try again. A call that was let in is under way to the end of its reply
//! ([`Place`]).
//!
//! It stands where calls enter a process: [`Stack`](crate::server::Stack) has it for listeners. A call that
//! goes on to another role in the same process is not asked again: it was let in at the door, and
//! refusing it half done would throw away what it has cost.

mod config;
mod gradient;
mod lane;
mod metrics;
mod place;
mod queue;

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

pub use config::Config;
pub(crate) use place::Held;
pub use place::Place;
use tonic::Status;

use self::lane::Lane;
use crate::{Call, error};

/// Services, and models of all services, that have limits of their own; further ones share.
const MOST: usize = 64;
/// Bytes of a model's name.
const LONGEST_NAME: usize = 256;

/// What is let in always: what asks whether a node is well, which is asked most when it has most to do, and
/// what has limits of its own.
const ALWAYS: [&str; 6] = [
    "/grpc.health.v1.Health/",
    "/grpc.reflection.v1.ServerReflection/",
    "/grpc.reflection.v1alpha.ServerReflection/",
    // A model server has queues of its own, which know its batches: many calls at once make it faster, and
    // their waiting for a batch would look like a service that slows down.
    "/switchboard.inference.v1.InferenceService/",
    "/inference.GRPCInferenceService/",
    "/tei.v1.",
];

/// The limits of a process. Clones share them.
#[derive(Clone)]
pub struct Overload(Arc<Shared>);

struct Shared {
    config: Config,
    services: RwLock<HashMap<Arc<str>, Service>>,
    /// Of calls to what has not answered yet: anybody can make names up.
    other: Arc<Lane>,
}

/// The limits of one service, or of a method with limits of its own.
struct Service {
    /// Of calls that name no model, or none that has answered yet.
    own: Arc<Lane>,
    models: HashMap<Arc<str>, Arc<Lane>>,
}

/// The name of something that answers.
struct Known {
    service: Arc<str>,
    model: Option<Arc<str>>,
}

impl Default for Overload {
    fn default() -> Self {
        Self::new(Config::default())
    }
}

impl Overload {
    /// Limits by `config`, whose values are the caller's to [check](Config::check).
    #[must_use]
    pub fn new(config: Config) -> Self {
        let other = Lane::new("_OTHER".into(), &config);
        Self(Arc::new(Shared { config, services: RwLock::default(), other }))
    }

    /// Lets a call of the method at `path`, `/package.Service/Method`, in: at once, or when its turn comes.
    /// None where calls are not limited. Dropping the future gives the turn up.
    ///
    /// # Errors
    /// RESOURCE_EXHAUSTED with the time after which to try again, when the queue is full, or there is no
    /// room within [`Config::max_wait`] or so long before the deadline that an answer can be expected.
    pub async fn admit(&self, call: &Call, path: &str, model: Option<&str>) -> Result<Option<Place>, Status> {
        if !self.limits(path) {
            return Ok(None);
        }
        let service = path.trim_start_matches('/').split('/').next().unwrap_or_default();
        self.admit_as(service, call, model).await
    }

    /// The same, of a method whose calls go on for long. It has a limit of its own from the first call on:
    /// streams that are open and idle take no place of calls that are soon done, nor do they teach their
    /// limit.
    pub(crate) async fn admit_long(
        &self,
        call: &Call,
        method: &'static str,
        model: Option<&str>,
    ) -> Result<Option<Place>, Status> {
        if !self.limits(method) {
            return Ok(None);
        }
        let name = method.trim_start_matches('/');
        if !self.0.services.read().unwrap_or_else(PoisonError::into_inner).contains_key(name) {
            self.learn(Known { service: name.into(), model: None });
        }
        self.admit_as(name, call, model).await
    }

    fn limits(&self, path: &str) -> bool {
        self.0.config.enabled && !ALWAYS.iter().any(|always| path.starts_with(always))
    }

    async fn admit_as(
        &self,
        service: &str,
        call: &Call,
        model: Option<&str>,
    ) -> Result<Option<Place>, Status> {
        let model = model.filter(|name| (1..=LONGEST_NAME).contains(&name.len()));
        let (lane, known) = self.lane(service, model);
        let permit = lane.admit(call).await.map_err(error::status)?;
        let unknown = (!known).then(|| {
            let known = Known { service: service.into(), model: model.map(Into::into) };
            (self.clone(), known)
        });
        Ok(Some(Place::new(permit, unknown)))
    }

    /// The lane of a call, and whether it is the one of just these names.
    fn lane(&self, service: &str, model: Option<&str>) -> (Arc<Lane>, bool) {
        let services = self.0.services.read().unwrap_or_else(PoisonError::into_inner);
        let Some(service) = services.get(service) else { return (Arc::clone(&self.0.other), false) };
        let Some(model) = model else { return (Arc::clone(&service.own), true) };
        match service.models.get(model) {
            Some(lane) => (Arc::clone(lane), true),
            None => (Arc::clone(&service.own), false),
        }
    }

    /// Gives what answered a lane of its own, as long as there are any.
    fn learn(&self, Known { service, model }: Known) {
        let mut services = self.0.services.write().unwrap_or_else(PoisonError::into_inner);
        if !services.contains_key(&service) {
            if services.len() >= MOST {
                return;
            }
            let own = Lane::new(Arc::clone(&service), &self.0.config);
            services.insert(Arc::clone(&service), Service { own, models: HashMap::new() });
        }
        let Some(model) = model else { return };
        if services.get(&service).is_some_and(|known| known.models.contains_key(&model)) {
            return;
        }
        let models: usize = services.values().map(|service| service.models.len()).sum();
        if models >= MOST && !forget_one(&mut services) {
            return;
        }
        let lane = Lane::new(Arc::clone(&service), &self.0.config);
        if let Some(service) = services.get_mut(&service) {
            service.models.insert(model, lane);
        }
    }
}

/// Forgets the model that was not used for longest, unless all are in use.
fn forget_one(services: &mut HashMap<Arc<str>, Service>) -> bool {
    let models = services
        .iter()
        .flat_map(|(name, service)| service.models.iter().map(move |(model, lane)| (name, model, lane)));
    let idle = models.filter_map(|(name, model, lane)| lane.idle_since().map(|since| (since, name, model)));
    let longest = idle.min_by_key(|(since, ..)| *since);
    let Some((name, model)) = longest.map(|(_, name, model)| (Arc::clone(name), Arc::clone(model))) else {
        return false;
    };
    services.get_mut(&name).is_some_and(|service| service.models.remove(&model).is_some())
}

#[cfg(test)]
mod tests;

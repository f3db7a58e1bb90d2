//! The standard health service, `grpc.health.v1`.
//!
//! Written here because tonic-health answers `Watch` of an unknown service with NOT_FOUND and ends,
//! where the contract asks for SERVICE_UNKNOWN on a stream that stays open (health.proto).

use std::{collections::HashMap, pin::Pin, sync::Arc};

use futures::Stream;
use tokio::sync::watch;
use tonic::{Request, Response, Status};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus, health_server,
};

#[derive(Default)]
struct Table {
    serving: HashMap<String, bool>,
    /// The node drains: nothing will serve again.
    stopped: bool,
}

/// What is serving on this node. The empty name stands for the whole node.
#[derive(Clone)]
pub struct Health(Arc<watch::Sender<Table>>);

impl Default for Health {
    fn default() -> Self {
        let serving = HashMap::from([(String::new(), false)]);
        Self(Arc::new(watch::Sender::new(Table { serving, stopped: false })))
    }
}

impl Health {
    /// Sets whether `service`, a full gRPC service name, is serving.
    pub fn set(&self, service: &str, serving: bool) {
        self.0.send_modify(|table| {
            table.serving.insert(service.to_owned(), serving && !table.stopped);
        });
    }

    /// Sets the whole node and everything on it to not serving, as a drain begins.
    pub fn stop(&self) {
        self.0.send_modify(|table| {
            table.stopped = true;
            table.serving.values_mut().for_each(|serving| *serving = false);
        });
    }

    /// Whether the whole node is serving.
    #[must_use]
    pub fn ready(&self) -> bool {
        self.0.borrow().serving.get("").copied().unwrap_or(false)
    }

    /// Names and states, in order of name.
    #[must_use]
    pub fn report(&self) -> Vec<(String, bool)> {
        let mut rows: Vec<_> =
            self.0.borrow().serving.iter().map(|(name, serving)| (name.clone(), *serving)).collect();
        rows.sort();
        rows
    }

    /// The gRPC service over this table.
    #[must_use]
    pub fn service(&self) -> health_server::HealthServer<impl health_server::Health + use<>> {
        health_server::HealthServer::new(Service(self.clone()))
    }
}

struct Service(Health);

fn response(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status.into() }
}

fn status_of(table: &Table, service: &str) -> Option<ServingStatus> {
    table
        .serving
        .get(service)
        .map(|serving| if *serving { ServingStatus::Serving } else { ServingStatus::NotServing })
}

#[tonic::async_trait]
impl health_server::Health for Service {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let service = request.into_inner().service;
        status_of(&self.0.0.borrow(), &service).map(|status| Response::new(response(status))).ok_or_else(
            || crate::error::of_kind(crate::error::Kind::NotFound, "no such service on this node"),
        )
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let service = request.into_inner().service;
        // Once the node drains there is nothing more to tell, and nobody shall hold up its end.
        let first = (self.0.0.subscribe(), None, false);
        let states = futures::stream::unfold(first, move |(mut table, last, ended)| {
            let service = service.clone();
            async move {
                if ended {
                    return None;
                }
                loop {
                    let (status, stopped) = {
                        let table = table.borrow_and_update();
                        (status_of(&table, &service).unwrap_or(ServingStatus::ServiceUnknown), table.stopped)
                    };
                    if last != Some(status) {
                        return Some((Ok(response(status)), (table, Some(status), stopped)));
                    }
                    if stopped || table.changed().await.is_err() {
                        return None;
                    }
                }
            }
        });
        Ok(Response::new(Box::pin(states)))
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt as _;

    use super::*;

    #[tokio::test]
    async fn watching_an_unknown_service_waits_for_it() {
        let health = Health::default();
        let request = Request::new(HealthCheckRequest { service: "later".into() });
        let mut states =
            health_server::Health::watch(&Service(health.clone()), request).await.unwrap().into_inner();
        let first = states.next().await.unwrap().unwrap();
        assert_eq!(first.status(), ServingStatus::ServiceUnknown);
        health.set("later", true);
        let second = states.next().await.unwrap().unwrap();
        assert_eq!(second.status(), ServingStatus::Serving);
        health.stop();
        let third = states.next().await.unwrap().unwrap();
        assert_eq!(third.status(), ServingStatus::NotServing);
        assert!(states.next().await.is_none(), "a drain ends the watch");
    }
}

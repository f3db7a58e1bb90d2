//! The standard health service, `grpc.health.v1`.
//!
//! Written here because tonic-health answers `Watch` of an unknown service with NOT_FOUND and ends,
//! where the contract asks for SERVICE_UNKNOWN on a stream that stays open (health.proto).

use std::{collections::HashMap, pin::Pin, sync::Arc};

use tokio::sync::watch;
use tokio_stream::{Stream, StreamExt as _, wrappers::WatchStream};
use tonic::{Request, Response, Status};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus, health_server,
};

type Table = HashMap<String, bool>;

/// What is serving on this node. The empty name stands for the whole node.
#[derive(Clone)]
pub struct Health(Arc<watch::Sender<Table>>);

impl Default for Health {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(Table::from([(String::new(), false)]))))
    }
}

impl Health {
    /// Sets whether `service`, a full gRPC service name, is serving.
    pub fn set(&self, service: &str, serving: bool) {
        self.0.send_modify(|table| {
            table.insert(service.to_owned(), serving);
        });
    }

    /// Sets the whole node and everything on it to not serving, as a drain begins.
    pub fn stop(&self) {
        self.0.send_modify(|table| table.values_mut().for_each(|serving| *serving = false));
    }

    /// Whether the whole node is serving.
    #[must_use]
    pub fn ready(&self) -> bool {
        self.0.borrow().get("").copied().unwrap_or(false)
    }

    /// Names and states, in order of name.
    #[must_use]
    pub fn report(&self) -> Vec<(String, bool)> {
        let mut rows: Vec<_> =
            self.0.borrow().iter().map(|(name, serving)| (name.clone(), *serving)).collect();
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
        let mut last = None;
        let states = WatchStream::new(self.0.0.subscribe()).filter_map(move |table| {
            let status = status_of(&table, &service).unwrap_or(ServingStatus::ServiceUnknown);
            (last.replace(status) != Some(status)).then(|| Ok(response(status)))
        });
        Ok(Response::new(Box::pin(states)))
    }
}

#[cfg(test)]
mod tests {
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
    }
}

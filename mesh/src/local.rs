//! The in-process transport: a call to a role in the same process is a function call through the
//! same generated client and the same server stack, with no socket and no HTTP/2.

use std::sync::{Arc, OnceLock};

use http::{Request, Response};
use tonic::{Status, body::Body};
use tower::ServiceExt as _;

use crate::server::Stack;

/// The place where a role of this process will be mounted.
#[derive(Clone, Default)]
pub(crate) struct Slot(Arc<OnceLock<Stack>>);

impl Slot {
    /// Fills the slot. Filling it twice keeps the first. Calls within a process are not limited: see
    /// [`overload`](crate::overload).
    pub(crate) fn fill(&self, stack: Stack) {
        let _ = self.0.set(stack.unlimited());
    }

    /// Whether nothing was mounted yet.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.get().is_none()
    }

    pub(crate) async fn call(&self, request: Request<Body>) -> Result<Response<Body>, Status> {
        let Some(stack) = self.0.get() else {
            return Err(crate::error::of_kind(
                crate::error::Kind::Unavailable,
                "the role has not started yet",
            ));
        };
        match stack.clone().oneshot(request).await {
            Ok(response) => Ok(response),
            Err(never) => match never {},
        }
    }
}

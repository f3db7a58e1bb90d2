//! A body that comes back unless it was read.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::Frame;
use tonic::{Status, body::Body};

/// A body that is given to a transport which may not come to send it.
pub(super) struct Lent {
    body: Option<Body>,
    read: bool,
    back: Back,
}

/// Where a body comes back to.
#[derive(Clone, Default)]
pub(super) struct Back(Arc<Mutex<Option<Body>>>);

impl Lent {
    pub(super) fn new(body: Body) -> (Self, Back) {
        let back = Back::default();
        (Self { body: Some(body), read: false, back: back.clone() }, back)
    }
}

impl Back {
    /// The body, if it was dropped unread.
    pub(super) fn take(&self) -> Option<Body> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if !self.read {
            *self.back.0.lock().unwrap_or_else(PoisonError::into_inner) = self.body.take();
        }
    }
}

impl http_body::Body for Lent {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        self.read = true;
        match &mut self.body {
            Some(body) => Pin::new(body).poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(http_body::Body::is_end_stream)
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.as_ref().map_or_else(http_body::SizeHint::default, http_body::Body::size_hint)
    }
}

//! Bodies that count: a request body with a limit on its bytes, and the response body that tells
//! when the limit was passed.
//!
//! A request body can only fail, and on its way through a transport the reason is lost. So the
//! request's [`Capped`] raises a sign, and the response's [`Held`] ends with the status.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, Bytes};
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::{Status, body::Body};

use crate::{auth::Place, error::Refused};

pin_project! {
    /// A request body of at most `limit` bytes, which raises `exceeded` when there are more.
    pub(crate) struct Capped<B> {
        #[pin]
        inner: B,
        left: u64,
        limit: u64,
        exceeded: CancellationToken,
    }
}

impl<B> Capped<B> {
    pub(crate) fn new(inner: B, limit: u64, exceeded: CancellationToken) -> Self {
        Self { inner, left: limit, limit, exceeded }
    }
}

impl<B> HttpBody for Capped<B>
where
    B: HttpBody<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.project();
        let Some(frame) = ready!(this.inner.poll_frame(cx)) else { return Poll::Ready(None) };
        let frame = frame.map_err(|error| Status::from_error(error.into()));
        if let Some(data) = frame.as_ref().ok().and_then(Frame::data_ref) {
            match this.left.checked_sub(data.remaining() as u64) {
                Some(left) => *this.left = left,
                None => {
                    this.exceeded.cancel();
                    // Not counted as refused here: the response is, once.
                    let refused = Refused::TooManyBytes { limit: *this.limit };
                    return Poll::Ready(Some(Err(switchboard_mesh::error::status(refused))));
                }
            }
        }
        Poll::Ready(Some(frame))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

pin_project! {
    /// A response body that holds its call's place until it ends, and ends with RESOURCE_EXHAUSTED
    /// when the call has sent more than it may.
    pub(crate) struct Held {
        #[pin]
        inner: Option<Body>,
        #[pin]
        exceeded: WaitForCancellationFutureOwned,
        limit: u64,
        place: Option<Place>,
    }
}

impl Held {
    pub(crate) fn new(inner: Body, exceeded: CancellationToken, limit: u64, place: Option<Place>) -> Self {
        Self { inner: Some(inner), exceeded: exceeded.cancelled_owned(), limit, place }
    }
}

impl HttpBody for Held {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let mut this = self.project();
        let Some(inner) = this.inner.as_mut().as_pin_mut() else { return Poll::Ready(None) };
        // The body first: polling it is what moves an in-process call, and so its request, on.
        let frame = inner.poll_frame(cx);
        if this.exceeded.poll(cx).is_ready() {
            this.inner.set(None);
            *this.place = None;
            let mut trailers = HeaderMap::new();
            let status = Status::from(Refused::TooManyBytes { limit: *this.limit });
            return Poll::Ready(Some(status.add_header(&mut trailers).map(|()| Frame::trailers(trailers))));
        }
        let frame = ready!(frame);
        if frame.is_none() {
            this.inner.set(None);
            *this.place = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(HttpBody::is_end_stream)
    }
}

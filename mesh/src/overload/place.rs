//! What a call holds while it is under way, and what it tells when it ends.

use std::{
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::Frame;
use pin_project_lite::pin_project;
use tokio::time::Instant;
use tonic::{Code, Status, body::Body};

use super::{Known, Overload, lane::Permit};
use crate::telemetry;

/// A call that was let in; it is under way until this is dropped.
///
/// What it tells of itself teaches the limit: the time to its first message, which for a call with one
/// reply is its whole time, counted from when its request was there. A call that fails, that ends because
/// its caller goes, or whose caller still sends when the reply begins, teaches nothing.
pub struct Place {
    permit: Permit,
    /// The name to be learnt if the call is answered, since then something has that name.
    unknown: Option<(Overload, Known)>,
    request: Request,
    heard: bool,
}

/// What is known of the end of a request.
enum Request {
    /// It was there before the call was let in.
    Whole,
    /// It still comes.
    Coming(Arc<OnceLock<Instant>>),
}

impl Place {
    pub(super) fn new(permit: Permit, unknown: Option<(Overload, Known)>) -> Self {
        Self { permit, unknown, request: Request::Whole, heard: false }
    }

    /// Watches for the end of the request.
    pub(crate) fn receive(&mut self, body: Body) -> Body {
        if http_body::Body::is_end_stream(&body) {
            return body;
        }
        let whole = Arc::new(OnceLock::new());
        self.request = Request::Coming(Arc::clone(&whole));
        Body::new(Received { inner: body, whole })
    }

    /// Notes that a message of the reply is there.
    pub fn message(&mut self) {
        if std::mem::replace(&mut self.heard, true) {
            return;
        }
        if let Some((overload, known)) = self.unknown.take() {
            overload.learn(known);
        }
        if let Some(took) = self.took() {
            self.permit.answered(took);
        }
    }

    /// The time since the request was there; none while it still comes.
    pub(super) fn took(&self) -> Option<Duration> {
        let whole = match &self.request {
            Request::Whole => self.permit.began,
            Request::Coming(whole) => *whole.get()?,
        };
        Some(whole.elapsed())
    }

    /// Notes how the call ended, and ends it.
    pub fn end(mut self, code: Code) {
        match code {
            Code::Ok => self.message(),
            Code::ResourceExhausted => self.permit.overloaded(),
            // Else it was the caller who allowed less time than calls need, or let a stream run out.
            Code::DeadlineExceeded
                if !self.heard && self.permit.began.elapsed() >= self.permit.usual() * 2 =>
            {
                self.permit.overloaded();
            }
            _ => {}
        }
    }
}

pin_project! {
    /// The body of a request, which notes when it is whole.
    struct Received {
        #[pin]
        inner: Body,
        whole: Arc<OnceLock<Instant>>,
    }
}

impl http_body::Body for Received {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let mut this = self.project();
        let frame = ready!(this.inner.as_mut().poll_frame(cx));
        let ends = match &frame {
            Some(Ok(frame)) => frame.is_trailers() || this.inner.is_end_stream(),
            Some(Err(_)) => false,
            None => true,
        };
        if ends {
            this.whole.get_or_init(Instant::now);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.inner.size_hint()
    }
}

pin_project! {
    /// The body of a reply, which keeps its call under way until it ends.
    pub(crate) struct Held<B> {
        #[pin]
        inner: B,
        place: Option<Place>,
    }
}

impl<B> Held<B> {
    /// `place` is none where calls are not limited.
    pub(crate) fn new(inner: B, place: Option<Place>) -> Self {
        Self { inner, place }
    }
}

impl<B: http_body::Body> http_body::Body for Held<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let this = self.project();
        let frame = ready!(this.inner.poll_frame(cx));
        let end = match &frame {
            Some(Ok(frame)) => match frame.trailers_ref() {
                Some(trailers) => Some(telemetry::code_in(trailers).unwrap_or(Code::Unknown)),
                None => {
                    if let Some(place) = this.place {
                        place.message();
                    }
                    None
                }
            },
            Some(Err(_)) => Some(Code::Unknown),
            None => Some(Code::Ok),
        };
        if let Some(code) = end
            && let Some(place) = this.place.take()
        {
            place.end(code);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.inner.size_hint()
    }
}

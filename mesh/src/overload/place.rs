//! What a call holds while it is under way, and what it tells when it ends.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use http_body::Frame;
use pin_project_lite::pin_project;
use tonic::{Code, body::Body};

use super::{Known, Overload, lane::Permit};
use crate::{telemetry, whole::Whole};

/// A call that was let in; it is under way until this is dropped.
///
/// What it tells of itself teaches the limit: the time to its first message, which for a call with one
/// reply is its whole time, counted from when its request was there. A call that fails, that ends because
/// its caller goes, or whose caller still sends when the reply begins, teaches nothing.
pub struct Place {
    permit: Permit,
    /// The name to be learnt if the call is answered, since then something has that name.
    unknown: Option<(Overload, Known)>,
    request: Whole,
    heard: bool,
}

impl Place {
    pub(super) fn new(permit: Permit, unknown: Option<(Overload, Known)>) -> Self {
        Self { permit, unknown, request: Whole::Was, heard: false }
    }

    /// Watches for the end of the request.
    pub(crate) fn receive(&mut self, body: Body) -> Body {
        let (request, body) = Whole::watch(body);
        self.request = request;
        body
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
        self.request.since(self.permit.began).map(|since| since.elapsed())
    }

    /// Notes how the call ended, and ends it.
    pub fn end(mut self, code: Code) {
        match code {
            Code::Ok => self.message(),
            Code::ResourceExhausted => self.permit.overloaded(),
            // Else it was the caller who allowed less time than calls need, sent for too long, or let a
            // stream run out.
            Code::DeadlineExceeded
                if !self.heard && self.took().is_some_and(|took| took >= self.permit.usual() * 2) =>
            {
                self.permit.overloaded();
            }
            _ => {}
        }
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

//! When a request is whole: only the time from then on is that of whoever answers it.

use std::{
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::Frame;
use pin_project_lite::pin_project;
use tokio::time::Instant;
use tonic::{Status, body::Body};

/// What is known of the end of a request.
pub(crate) enum Whole {
    /// It was there from the beginning.
    Was,
    /// It comes, or came.
    Comes(Arc<OnceLock<Instant>>),
}

impl Whole {
    /// Watches for the end of `body`, which is to be read in place of it.
    pub(crate) fn watch(body: Body) -> (Self, Body) {
        if http_body::Body::is_end_stream(&body) {
            return (Self::Was, body);
        }
        let whole = Arc::new(OnceLock::new());
        (Self::Comes(Arc::clone(&whole)), Body::new(Watched { inner: body, whole }))
    }

    /// Since when a request that began at `began` is whole; none while it still comes.
    pub(crate) fn since(&self, began: Instant) -> Option<Instant> {
        match self {
            Self::Was => Some(began),
            Self::Comes(whole) => whole.get().copied(),
        }
    }
}

pin_project! {
    /// The body of a request, which notes when it is whole.
    struct Watched {
        #[pin]
        inner: Body,
        whole: Arc<OnceLock<Instant>>,
    }
}

impl http_body::Body for Watched {
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

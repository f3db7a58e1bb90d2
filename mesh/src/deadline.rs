//! One absolute time per call, which only shrinks.
//!
//! tonic 0.14 answers an expired `grpc-timeout` with CANCELLED, stops watching once the response
//! headers are out, and forwards no deadline (see `GrpcTimeout` in its source). Here the whole
//! exchange is raced, streams included, and the answer is DEADLINE_EXCEEDED.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use http::{HeaderMap, HeaderValue};
use http_body::Frame;
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep};
use tonic::{Code, Status, body::Body};

/// The header of the gRPC wire protocol that carries the time left.
pub const HEADER: &str = "grpc-timeout";

/// What a call may take at most when nobody set a deadline.
pub const DEFAULT: Duration = Duration::from_secs(60);

/// The longest deadline that is honoured; a longer one is shortened to this.
pub const LONGEST: Duration = Duration::from_secs(3600);

/// A point in time after which the caller no longer waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(Instant);

impl Deadline {
    /// The deadline `left` from now, at most [`LONGEST`].
    #[must_use]
    pub fn after(left: Duration) -> Self {
        Self(Instant::now() + left.min(LONGEST))
    }

    /// The deadline at `instant`.
    #[must_use]
    pub fn at(instant: Instant) -> Self {
        Self(instant)
    }

    /// When it is.
    #[must_use]
    pub fn instant(self) -> Instant {
        self.0
    }

    /// The time left; zero once it has passed.
    #[must_use]
    pub fn left(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }

    /// Whether it has passed.
    #[must_use]
    pub fn expired(self) -> bool {
        self.left().is_zero()
    }

    /// The deadline for a call made on behalf of this one: earlier by the time that it takes to
    /// carry a failure back, a twentieth of what is left but no more than 5 ms.
    #[must_use]
    pub fn for_hop(self) -> Self {
        Self(self.0 - (self.left() / 20).min(Duration::from_millis(5)))
    }

    /// Runs `work` until this deadline; `None` when it passed first.
    pub async fn limit<F: Future>(self, work: F) -> Option<F::Output> {
        tokio::time::timeout_at(self.0, work).await.ok()
    }
}

/// Reads a `grpc-timeout`: up to eight digits and a unit.
///
/// # Errors
/// A message that says what is allowed.
///
/// # Source
/// gRPC over HTTP/2, "Timeout": `TimeoutValue TimeoutUnit`, units `H M S m u n`.
pub fn parse(value: &HeaderValue) -> Result<Duration, &'static str> {
    const ALLOWED: &str = "grpc-timeout must be one to eight digits and a unit out of H, M, S, m, u, n";
    let text = value.to_str().map_err(|_| ALLOWED)?;
    let (digits, unit) = text.split_at_checked(text.len().wrapping_sub(1)).ok_or(ALLOWED)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(ALLOWED);
    }
    let count: u64 = digits.parse().map_err(|_| ALLOWED)?;
    match unit {
        "H" => Ok(Duration::from_secs(count * 3600)),
        "M" => Ok(Duration::from_secs(count * 60)),
        "S" => Ok(Duration::from_secs(count)),
        "m" => Ok(Duration::from_millis(count)),
        "u" => Ok(Duration::from_micros(count)),
        "n" => Ok(Duration::from_nanos(count)),
        _ => Err(ALLOWED),
    }
}

/// Writes a `grpc-timeout`, rounded down, in the finest unit that eight digits can hold.
#[must_use]
pub fn format(left: Duration) -> HeaderValue {
    let micros = left.as_micros();
    let text = if micros < 100_000_000 {
        format!("{micros}u")
    } else if left.as_millis() < 100_000_000 {
        format!("{}m", left.as_millis())
    } else {
        format!("{}S", left.as_secs().min(99_999_999))
    };
    HeaderValue::from_str(&text).expect("digits and a letter are a valid header")
}

/// The status of an expired deadline.
#[must_use]
pub fn exceeded() -> Status {
    crate::error::of_kind(crate::error::Kind::Deadline, "the deadline passed before the call was done")
}

pin_project! {
    /// A response body that ends with DEADLINE_EXCEEDED when its deadline passes first.
    ///
    /// The inner body is dropped then, which cancels whatever feeds it.
    pub struct DeadlineBody {
        #[pin]
        inner: Option<Body>,
        #[pin]
        sleep: Sleep,
    }
}

impl DeadlineBody {
    /// Wraps `inner`, which must end by `deadline`.
    #[must_use]
    pub fn new(inner: Body, deadline: Deadline) -> Self {
        Self { inner: Some(inner), sleep: tokio::time::sleep_until(deadline.instant()) }
    }
}

impl http_body::Body for DeadlineBody {
    type Data = bytes::Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let mut this = self.project();
        let Some(inner) = this.inner.as_mut().as_pin_mut() else { return Poll::Ready(None) };
        if this.sleep.poll(cx).is_ready() {
            this.inner.set(None);
            let mut trailers = HeaderMap::new();
            if exceeded().add_header(&mut trailers).is_err() {
                trailers.insert("grpc-status", HeaderValue::from(Code::DeadlineExceeded as i32));
            }
            return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
        }
        let frame = ready!(inner.poll_frame(cx));
        if frame.is_none() {
            this.inner.set(None);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(http_body::Body::is_end_stream)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn malformed_timeouts_are_refused() {
        for bad in ["", "S", "1", "123456789S", "1x", "-1S", "+1S", "1.5S", "1 S", "1µ"] {
            let value = HeaderValue::from_bytes(bad.as_bytes()).unwrap();
            assert!(parse(&value).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn a_written_timeout_reads_back_no_longer(micros in 0u64..400_000_000_000) {
            let left = Duration::from_micros(micros);
            let read = parse(&format(left)).unwrap();
            prop_assert!(read <= left);
            prop_assert!(left - read < Duration::from_secs(1));
        }

        #[test]
        fn a_hop_never_gets_more_time(millis in 0u64..100_000) {
            let parent = Deadline::after(Duration::from_millis(millis));
            prop_assert!(parent.for_hop() <= parent);
        }
    }
}

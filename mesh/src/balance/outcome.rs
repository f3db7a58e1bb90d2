//! What a node's reply says: an answer, or a reason to ask another one.

use std::{io, time::Duration};

use http::Response;
use tokio::time::error::Elapsed;
use tonic::{Code, ConnectError, Status, TimeoutExpired, body::Body};
use tonic_types::StatusExt as _;

use crate::{deadline, error, telemetry};

/// The longest that a node's word keeps calls from it.
const LONGEST: Duration = Duration::from_secs(300);
/// Characters of a transport's error, part of which is the other side's own words.
const REASON: usize = 512;

/// Why another node should be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// No connection came about: the request was not sent.
    Unsent,
    /// The connection broke, or the node says that it is not available.
    Away {
        /// Whether the node said so.
        answered: bool,
    },
    /// The node is full.
    Full,
    /// The node lacks what is asked for: a model, or the method.
    Lacks,
}

impl Refusal {
    /// Of several, the caller hears the one with which trying again makes the most sense.
    pub(super) fn weight(self) -> u8 {
        match self {
            Self::Full => 3,
            Self::Away { .. } => 2,
            Self::Unsent => 1,
            Self::Lacks => 0,
        }
    }

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Unsent => "unsent",
            Self::Away { .. } => "away",
            Self::Full => "full",
            Self::Lacks => "lacks",
        }
    }

    /// Whether a node said it, rather than nobody.
    pub(super) fn answered(self) -> bool {
        !matches!(self, Self::Unsent | Self::Away { answered: false })
    }
}

/// What a server says about trying again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pushback {
    Unsaid,
    After(Duration),
    Never,
}

/// A reply that is no answer.
pub(super) struct Refused {
    pub(super) refusal: Refusal,
    pub(super) pushback: Pushback,
    /// How long the node is to be avoided by its own word.
    pub(super) avoid: Option<Duration>,
    /// What the caller hears if nobody answers.
    pub(super) reply: Result<Response<Body>, Status>,
}

impl Refused {
    /// Of a connection that could not be made.
    pub(super) fn unsent(role: &str, reason: &dyn std::error::Error) -> Self {
        Self::of(Refusal::Unsent, Err(unreachable(role, &error::chain(reason))))
    }

    fn of(refusal: Refusal, reply: Result<Response<Body>, Status>) -> Self {
        Self { refusal, pushback: Pushback::Unsaid, avoid: None, reply }
    }
}

/// What came of a request: an answer with its code, or not.
pub(super) enum Reply {
    Answer(Response<Body>, Code),
    /// The transport's own timer ran out; it says nothing about the node.
    Late,
    Refused(Box<Refused>),
}

/// Reads what the transport tells.
pub(super) fn read(outcome: Result<Response<Body>, tonic::transport::Error>, role: &str) -> Reply {
    let response = match outcome {
        Ok(response) => response,
        Err(error) if in_chain::<TimeoutExpired>(&error).is_some() => return Reply::Late,
        Err(error) => {
            let refusal = match never_sent(&error) {
                true => Refusal::Unsent,
                // A stream that is reset shows that the connection holds.
                false => Refusal::Away { answered: in_chain(&error).is_some_and(h2::Error::is_reset) },
            };
            // The status keeps little of it: not what a node says as it closes the connection.
            let why = error::chain(&error);
            let status = broken(Status::from_error(Box::new(error)).code(), &why, role);
            return Reply::Refused(Box::new(Refused::of(refusal, Err(status))));
        }
    };
    // A node that refuses says so at once; what comes later is an answer.
    let code = telemetry::code_of(&response).unwrap_or(Code::Ok);
    let refusal = match code {
        Code::ResourceExhausted => Refusal::Full,
        Code::Unavailable => Refusal::Away { answered: true },
        Code::NotFound | Code::FailedPrecondition | Code::Unimplemented => Refusal::Lacks,
        _ => return Reply::Answer(response, code),
    };
    let pushback = pushback(&response);
    let told = Status::from_header_map(response.headers())
        .and_then(|status| status.get_details_retry_info())
        .and_then(|info| info.retry_delay);
    let pushed = match pushback {
        Pushback::After(wait) => Some(wait),
        Pushback::Unsaid | Pushback::Never => None,
    };
    let avoid = told.max(pushed).map(|wait| wait.min(LONGEST));
    Reply::Refused(Box::new(Refused { refusal, pushback, avoid, reply: Ok(response) }))
}

/// What the caller hears of a connection that broke under a call or under its stream, by the code that the
/// transport gives it.
pub(super) fn broken(code: Code, why: &str, role: &str) -> Status {
    let why: String = why.chars().take(REASON).collect();
    match code {
        // The transport has no better words than that the call was cancelled, or an unknown error.
        Code::Unknown | Code::Internal | Code::Cancelled | Code::Unavailable => unreachable(role, &why),
        Code::DeadlineExceeded => deadline::exceeded(),
        code => Status::new(code, format!("{role} cannot be reached: {why}")),
    }
}

/// Whether a response is, or begins, what was asked for.
pub(super) fn is_ok(response: &Response<Body>) -> bool {
    telemetry::code_of(response).is_none_or(|code| code == Code::Ok)
}

/// Whether a code tells of a node that does not do its work.
pub(super) fn is_failure(code: Code) -> bool {
    matches!(code, Code::Unavailable | Code::Internal | Code::Unknown | Code::DataLoss)
}

/// Reads a server's word: a number of milliseconds, or anything else, which says not to try again (gRFC A6).
fn pushback(response: &Response<Body>) -> Pushback {
    let Some(value) = response.headers().get(error::PUSHBACK) else { return Pushback::Unsaid };
    // What no clock can count is no number either.
    let millis = value.to_str().ok().and_then(|text| text.parse::<u32>().ok());
    millis.map_or(Pushback::Never, |millis| Pushback::After(Duration::from_millis(millis.into())))
}

fn unreachable(role: &str, reason: &str) -> Status {
    error::of_kind(error::Kind::Unavailable, format!("{role} cannot be reached: {reason}"))
}

/// Whether a request never reached the role: no connection could be made, the one at hand was closed
/// already, or the node refused the stream, which by RFC 9113, section 8.7, says that nothing was done.
fn never_sent(error: &(dyn std::error::Error + 'static)) -> bool {
    let refused = |error: &h2::Error| error.reason() == Some(h2::Reason::REFUSED_STREAM);
    if in_chain(error).is_some_and(refused) {
        return true;
    }
    // What runs out while a connection is made again is wrapped otherwise. The system's own timeouts, of
    // connections that were in use, hold no such thing.
    let too_long = |error: &io::Error| error.get_ref().is_some_and(|inner| inner.is::<Elapsed>());
    in_chain::<ConnectError>(error).is_some()
        || in_chain(error).is_some_and(too_long)
        || in_chain::<hyper::Error>(error).is_some_and(hyper::Error::is_canceled)
}

fn in_chain<'a, E: std::error::Error + 'static>(
    error: &'a (dyn std::error::Error + 'static),
) -> Option<&'a E> {
    std::iter::successors(Some(error), |error| error.source()).find_map(|error| error.downcast_ref::<E>())
}

#[cfg(test)]
mod tests {
    use tonic_types::{ErrorDetails, StatusExt as _};

    use super::*;

    fn refused(status: Status, pushback: Option<&str>) -> Refused {
        let mut response = status.into_http::<Body>();
        if let Some(value) = pushback {
            response.headers_mut().insert(error::PUSHBACK, value.parse().unwrap());
        }
        match read(Ok(response), "role") {
            Reply::Refused(refused) => *refused,
            Reply::Answer(..) | Reply::Late => panic!("it is refused"),
        }
    }

    #[test]
    fn a_server_says_when_to_try_again() {
        let full = || Status::resource_exhausted("full");
        assert_eq!(refused(full(), None).pushback, Pushback::Unsaid);
        let told = refused(full(), Some("40"));
        assert_eq!(told.pushback, Pushback::After(Duration::from_millis(40)));
        assert_eq!(told.avoid, Some(Duration::from_millis(40)));
        for never in ["-1", "soon", "", "99999999999999999999"] {
            assert_eq!(refused(full(), Some(never)).pushback, Pushback::Never, "{never:?}");
        }
    }

    #[test]
    fn retry_info_keeps_calls_away_for_a_bounded_time() {
        for (told, avoid) in [(7, 7), (100_000, 300)] {
            let details = ErrorDetails::with_retry_info(Some(Duration::from_secs(told)));
            let status = Status::with_error_details(Code::Unavailable, "draining", details);
            let refused = refused(status, None);
            assert_eq!(refused.avoid, Some(Duration::from_secs(avoid)));
            assert_eq!(refused.refusal, Refusal::Away { answered: true });
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_took_too_long_to_make_carried_nothing() {
        let elapsed = tokio::time::timeout(Duration::ZERO, std::future::pending::<()>()).await.unwrap_err();
        assert!(never_sent(&io::Error::new(io::ErrorKind::TimedOut, elapsed)));
        assert!(!never_sent(&io::Error::from(io::ErrorKind::TimedOut)), "the connection was in use");
    }

    #[test]
    fn an_error_of_the_request_is_an_answer() {
        let response = Status::invalid_argument("no").into_http::<Body>();
        assert!(matches!(read(Ok(response), "role"), Reply::Answer(_, Code::InvalidArgument)));
    }
}

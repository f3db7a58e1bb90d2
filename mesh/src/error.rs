//! The closed set of error kinds, and the one place that makes a [`Status`].
//!
//! A crate's error enum implements [`Fault`]; a handler ends with `.map_err(error::status)`. The
//! kind is chosen by what the caller should do: fix the request, try again, or give up.

use std::time::Duration;

use tonic::{
    Code, Status,
    metadata::{MetadataMap, MetadataValue},
};
use tonic_types::{ErrorDetails, StatusExt as _};

/// The metadata key that tells a client in how many milliseconds to try again.
///
/// # Source
/// gRFC A6, "pushback".
pub const PUSHBACK: &str = "grpc-retry-pushback-ms";

/// What a caller should do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Fix the request.
    Invalid,
    /// Ask for something that exists.
    NotFound,
    /// Read again, then decide.
    Conflict,
    /// Give it another name, or leave it: something else is there under this one.
    Exists,
    /// Set the system up for this first.
    Precondition,
    /// Ask somebody with the right.
    Denied,
    /// Say who is calling.
    Unauthenticated,
    /// Try again after a while.
    Overloaded,
    /// Try again elsewhere.
    Unavailable,
    /// Allow more time.
    Deadline,
    /// Give up; it is our fault.
    Internal,
}

impl Kind {
    /// The gRPC code of this kind.
    #[must_use]
    pub fn code(self) -> Code {
        match self {
            Self::Invalid => Code::InvalidArgument,
            Self::NotFound => Code::NotFound,
            Self::Conflict => Code::Aborted,
            Self::Exists => Code::AlreadyExists,
            Self::Precondition => Code::FailedPrecondition,
            Self::Denied => Code::PermissionDenied,
            Self::Unauthenticated => Code::Unauthenticated,
            Self::Overloaded => Code::ResourceExhausted,
            Self::Unavailable => Code::Unavailable,
            Self::Deadline => Code::DeadlineExceeded,
            Self::Internal => Code::Internal,
        }
    }

    fn reason(self) -> &'static str {
        match self {
            Self::Invalid => "INVALID",
            Self::NotFound => "NOT_FOUND",
            Self::Conflict => "CONFLICT",
            Self::Exists => "EXISTS",
            Self::Precondition => "PRECONDITION",
            Self::Denied => "DENIED",
            Self::Unauthenticated => "UNAUTHENTICATED",
            Self::Overloaded => "OVERLOADED",
            Self::Unavailable => "UNAVAILABLE",
            Self::Deadline => "DEADLINE",
            Self::Internal => "INTERNAL",
        }
    }
}

/// An error that can leave a service.
pub trait Fault: std::error::Error {
    /// What the caller should do.
    fn kind(&self) -> Kind;

    /// The request field at fault, for [`Kind::Invalid`].
    fn field(&self) -> Option<&str> {
        None
    }

    /// When trying again makes sense, for [`Kind::Overloaded`] and [`Kind::Unavailable`].
    fn retry_after(&self) -> Option<Duration> {
        None
    }
}

/// Makes the status of an error: code, a message that is safe to show, and google.rpc details
/// (`ErrorInfo` always, `BadRequest` and `RetryInfo` where they apply). What `RetryInfo` says stands under
/// [`PUSHBACK`] as well, where generic clients look.
///
/// Internal errors are logged here, once, with their chain; their caller reads "internal error".
#[must_use]
#[expect(clippy::needless_pass_by_value, reason = "fits `map_err`")]
pub fn status<E: Fault>(error: E) -> Status {
    let kind = error.kind();
    let message = if kind == Kind::Internal {
        tracing::error!(error = chain(&error), "internal error");
        "internal error".to_owned()
    } else {
        error.to_string()
    };
    build(kind, message, error.field(), error.retry_after())
}

/// Makes the status of a bad request field, for checks that need no error type of their own.
#[must_use]
pub fn invalid(field: &str, message: impl Into<String>) -> Status {
    build(Kind::Invalid, message.into(), Some(field), None)
}

/// Makes a status of `kind` where there is no error value to convert.
#[must_use]
pub fn of_kind(kind: Kind, message: impl Into<String>) -> Status {
    build(kind, message.into(), None, None)
}

fn build(kind: Kind, message: String, field: Option<&str>, retry_after: Option<Duration>) -> Status {
    let mut details = ErrorDetails::new();
    details.set_error_info(kind.reason(), "switchboard", std::collections::HashMap::new());
    if let Some(field) = field {
        details.add_bad_request_violation(field, message.clone());
    }
    let mut metadata = MetadataMap::new();
    if let Some(after) = retry_after {
        details.set_retry_info(Some(after));
        // Rounded up: who comes a moment early is refused again.
        let millis = u32::try_from(after.as_nanos().div_ceil(1_000_000)).unwrap_or(u32::MAX);
        metadata.insert(PUSHBACK, MetadataValue::from(millis));
    }
    Status::with_error_details_and_metadata(kind.code(), message, details, metadata)
}

/// An error and its sources on one line.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        line.push_str(": ");
        line.push_str(&cause.to_string());
        source = cause.source();
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("secret path")]
    struct Hidden;

    impl Fault for Hidden {
        fn kind(&self) -> Kind {
            Kind::Internal
        }
    }

    #[test]
    fn internal_errors_do_not_show_their_message() {
        assert_eq!(status(Hidden).message(), "internal error");
    }

    #[derive(Debug, thiserror::Error)]
    #[error("full")]
    struct Full;

    impl Fault for Full {
        fn kind(&self) -> Kind {
            Kind::Overloaded
        }

        fn retry_after(&self) -> Option<Duration> {
            Some(Duration::from_micros(1_500))
        }
    }

    #[test]
    fn when_to_try_again_travels_as_a_detail_and_as_pushback() {
        let headers = status(Full).into_http::<()>().into_parts().0.headers;
        assert_eq!(headers[PUSHBACK], "2");
        let read = Status::from_header_map(&headers).unwrap();
        let told = read.get_details_retry_info().and_then(|info| info.retry_delay);
        assert_eq!(told, Some(Duration::from_micros(1_500)));
    }

    #[test]
    fn a_bad_field_travels_as_a_detail() {
        let status = invalid("texts", "at most 1,024");
        let details = status.get_error_details();
        let violations = &details.bad_request().expect("bad request").field_violations;
        assert_eq!(violations[0].field, "texts");
        assert_eq!(status.code(), Code::InvalidArgument);
    }
}

//! Errors as HTTP says them: a status and `{"error": {"code", "message", "field"?}}`.

use std::time::Duration;

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::error::Refused;

/// An error on its way to an HTTP caller.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    pub(crate) status: StatusCode,
    code: &'static str,
    message: String,
    field: Option<String>,
    retry_after: Option<Duration>,
}

#[derive(Serialize)]
struct Envelope<'a> {
    error: Parts<'a>,
}

#[derive(Serialize)]
struct Parts<'a> {
    code: &'a str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'a str>,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), field: None, retry_after: None }
    }

    /// A field of the request that is not as it should be.
    pub(crate) fn field(field: impl Into<String>, message: impl Into<String>) -> Self {
        let problem = Self::new(StatusCode::BAD_REQUEST, "invalid_argument", message);
        Self { field: Some(field.into()), ..problem }
    }

    /// The body, also sent as the event `error`.
    pub(crate) fn body(&self) -> impl Serialize + '_ {
        Envelope { error: Parts { code: self.code, message: &self.message, field: self.field.as_deref() } }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.body())).into_response();
        let headers = response.headers_mut();
        if let Some(after) = self.retry_after {
            let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

impl From<Status> for Problem {
    fn from(status: Status) -> Self {
        let details = status.get_error_details();
        let field = details.bad_request().and_then(|bad| bad.field_violations.first()).map(|bad| {
            match bad.field.as_str() {
                "budget.first_sentence" | "budget.whole" => format!("{}_ms", bad.field),
                field => field.to_owned(),
            }
        });
        let retry_after = details.retry_info().and_then(|info| info.retry_delay);
        let (http, code) = names(status.code());
        // A role's own words about an internal error are for its log.
        let internal = http == StatusCode::INTERNAL_SERVER_ERROR;
        let message = if internal { "internal error" } else { status.message() };
        let retry_after = match http {
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                Some(retry_after.unwrap_or(Duration::from_secs(1)))
            }
            _ => None,
        };
        Self { status: http, code, message: message.to_owned(), field, retry_after }
    }
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        Status::from(refused).into()
    }
}

/// The HTTP status and the name of a gRPC code.
///
/// # Source
/// The mapping in the comments of google/rpc/code.proto.
fn names(code: Code) -> (StatusCode, &'static str) {
    match code {
        Code::Ok => (StatusCode::OK, "ok"),
        // Nobody is left to read it, mostly; nginx's "client closed request" has no name in `http`.
        Code::Cancelled => (StatusCode::from_u16(499).expect("a status has three digits"), "cancelled"),
        Code::InvalidArgument => (StatusCode::BAD_REQUEST, "invalid_argument"),
        Code::FailedPrecondition => (StatusCode::BAD_REQUEST, "failed_precondition"),
        Code::OutOfRange => (StatusCode::BAD_REQUEST, "out_of_range"),
        Code::Unauthenticated => (StatusCode::UNAUTHORIZED, "unauthenticated"),
        Code::PermissionDenied => (StatusCode::FORBIDDEN, "permission_denied"),
        Code::NotFound => (StatusCode::NOT_FOUND, "not_found"),
        Code::AlreadyExists => (StatusCode::CONFLICT, "already_exists"),
        Code::Aborted => (StatusCode::CONFLICT, "aborted"),
        Code::ResourceExhausted => (StatusCode::TOO_MANY_REQUESTS, "resource_exhausted"),
        Code::Unimplemented => (StatusCode::NOT_IMPLEMENTED, "unimplemented"),
        Code::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
        Code::DeadlineExceeded => (StatusCode::GATEWAY_TIMEOUT, "deadline_exceeded"),
        Code::Internal | Code::Unknown | Code::DataLoss => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
    }
}

#[cfg(test)]
mod tests {
    use switchboard_mesh::error::{self, Kind};

    use super::*;

    #[test]
    fn every_kind_has_the_http_status_that_says_the_same() {
        let cases = [
            (Kind::Invalid, 400),
            (Kind::Precondition, 400),
            (Kind::Unauthenticated, 401),
            (Kind::Denied, 403),
            (Kind::NotFound, 404),
            (Kind::Conflict, 409),
            (Kind::Exists, 409),
            (Kind::Overloaded, 429),
            (Kind::Internal, 500),
            (Kind::Unavailable, 503),
            (Kind::Deadline, 504),
        ];
        for (kind, http) in cases {
            let response = Problem::from(error::of_kind(kind, "words")).into_response();
            assert_eq!(response.status().as_u16(), http);
            assert_eq!(response.headers().contains_key("retry-after"), [429, 503].contains(&http));
        }
    }

    #[test]
    fn words_of_an_internal_error_stay_inside() {
        assert_eq!(Problem::from(Status::unknown("secret")).message, "internal error");
    }

    #[test]
    fn a_field_is_named_as_json_names_it() {
        let problem = Problem::from(error::invalid("budget.whole", "1 ms to 10 minutes"));
        assert_eq!(problem.field.as_deref(), Some("budget.whole_ms"));
    }
}

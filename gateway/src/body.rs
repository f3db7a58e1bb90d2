//! Reading a JSON body, bounded in size and time.

use std::time::Duration;

use axum::body::Body;
use http::{HeaderMap, StatusCode, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::de::DeserializeOwned;

use crate::problem::Problem;

/// Reads `body` as a `T`: at most `limit` bytes, sent within `time`.
///
/// # Errors
/// 415 for another content type, 413 for too many bytes, 408 when they come too slowly, 400 with
/// the field for what is not a `T`.
pub(crate) async fn json<T: DeserializeOwned>(
    headers: &HeaderMap,
    body: Body,
    limit: usize,
    time: Duration,
) -> Result<T, Problem> {
    if !is_json(headers) {
        let message = "the body must be JSON, with content-type: application/json";
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", message));
    }
    let too_large = || {
        let message = format!("the body may have at most {limit} bytes");
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "payload_too_large", message)
    };
    let announced =
        headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|announced| announced > limit as u64) {
        return Err(too_large());
    }
    let read = tokio::time::timeout(time, Limited::new(body, limit).collect()).await.map_err(|_| {
        let message = format!("the body did not arrive within {time:?}");
        Problem::new(StatusCode::REQUEST_TIMEOUT, "request_timeout", message)
    })?;
    let bytes = match read {
        Ok(collected) => collected.to_bytes(),
        Err(error) if error.is::<LengthLimitError>() => return Err(too_large()),
        Err(_) => {
            let message = "the body ended before it was complete";
            return Err(Problem::new(StatusCode::BAD_REQUEST, "invalid_argument", message));
        }
    };
    parse(&bytes)
}

fn is_json(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()) else {
        return false;
    };
    value.split(';').next().is_some_and(|media| media.trim().eq_ignore_ascii_case("application/json"))
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let path = error.path().to_string();
        explain(if path == "." { "" } else { &path }, error.inner())
    })?;
    reader.end().map_err(|error| explain("", &error))?;
    Ok(value)
}

/// Serde's message quotes the value that it refuses. That value may be a customer's, so only what
/// is expected, which comes last and is ours, goes on.
fn explain(path: &str, error: &serde_json::Error) -> Problem {
    let (line, column) = (error.line(), error.column());
    if !error.is_data() {
        let message = format!("the body is not valid JSON (line {line}, column {column})");
        return Problem::new(StatusCode::BAD_REQUEST, "invalid_argument", message);
    }
    let text = error.to_string();
    let text = text.rsplit_once(" at line ").map_or(text.as_str(), |(text, _)| text);
    if let Some(name) = text.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`')) {
        let field = if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
        return Problem::field(field, format!("`{name}` is missing"));
    }
    let expected = text.rsplit_once(", expected ").map(|(_, expected)| expected);
    let message = match expected {
        Some(expected) if text.starts_with("unknown field") => {
            format!("there is no such field; expected {expected}")
        }
        Some(expected) => format!("expected {expected}"),
        None if text.starts_with("duplicate field") => "given more than once".to_owned(),
        None => format!("not allowed here (line {line}, column {column})"),
    };
    if path.is_empty() {
        return Problem::new(StatusCode::BAD_REQUEST, "invalid_argument", message);
    }
    // An unknown field's name is the caller's; shortened like any text from outside.
    Problem::field(path.chars().take(64).collect::<String>(), message)
}

//! Requests to a hub, and to wherever it sends one on.

use ureq::{
    Body,
    http::{Response, StatusCode, Uri, header},
};

use super::{Checksum, Hub, HubError, error::answer};

/// From the hub to its store there are one or two.
const MOST_REDIRECTS: usize = 5;

/// An answer that carries a file.
pub(super) struct Reply {
    pub(super) response: Response<Body>,
    /// Whether it begins where it was asked to.
    pub(super) partial: bool,
    pub(super) size: Option<u64>,
    pub(super) checksum: Option<Checksum>,
}

impl Hub {
    /// Asks for `url`, from byte `from` on, and follows to where it is kept.
    pub(super) fn get(&self, url: &str, from: Option<u64>, what: &str) -> Result<Reply, HubError> {
        let first: Uri = url.parse().map_err(|_| answer(format!("{url:?} is no URL")))?;
        let mut at = first.clone();
        let (mut size, mut checksum) = (None, None);
        for _ in 0..=MOST_REDIRECTS {
            let mut request = self.agent.get(at.clone()).header(header::ACCEPT_ENCODING, "identity");
            let home = at.authority() == first.authority() && at.scheme() == first.scheme();
            if let Some(token) = self.token.as_ref().filter(|_| home) {
                request = request.header(header::AUTHORIZATION, format!("Bearer {}", token.expose()));
            }
            if let Some(from) = from {
                request = request.header(header::RANGE, format!("bytes={from}-"));
            }
            let response = request.call().map_err(|error| self.unreachable(&error))?;
            let text = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
            if home {
                // Told on the way to the store, which may itself know less.
                size = size.or(text("x-linked-size").and_then(|text| text.parse().ok()));
                checksum = checksum.or(text("x-linked-etag").and_then(Checksum::parse));
            }
            if response.status().is_redirection() {
                let location = text("location").ok_or_else(|| answer("it redirects to nowhere"))?;
                at = follow(&at, location)?;
                continue;
            }
            let partial = response.status() == StatusCode::PARTIAL_CONTENT;
            if partial {
                let begins = text("content-range").and_then(begin_of);
                if from.is_none() || begins != from {
                    return Err(answer("it sent another part of the file than was asked for"));
                }
            } else if response.status() != StatusCode::OK {
                return Err(self.refusal(&response, what));
            } else {
                size = size.or(text("content-length").and_then(|text| text.parse().ok()));
                if home {
                    checksum = checksum.or(text("etag").and_then(Checksum::parse));
                }
            }
            return Ok(Reply { response, partial, size, checksum });
        }
        Err(answer(format!("it redirects more than {MOST_REDIRECTS} times")))
    }

    fn refusal(&self, response: &Response<Body>, what: &str) -> HubError {
        let code = response.headers().get("x-error-code").and_then(|value| value.to_str().ok());
        let what = what.to_owned();
        match (response.status(), code) {
            (_, Some("GatedRepo")) | (StatusCode::FORBIDDEN, _) => HubError::Denied {
                what,
                advice: "ask for access on the model's page, and set HF_TOKEN or hub.token_file to a token of yours",
            },
            (StatusCode::UNAUTHORIZED, _) if self.token.is_some() => HubError::Denied {
                what,
                advice: "see that the name is right, and that the access token is valid and may read it",
            },
            (StatusCode::UNAUTHORIZED, _) => HubError::Denied {
                what,
                advice: "see that the name is right; if it is, set HF_TOKEN or hub.token_file to an access token",
            },
            (StatusCode::NOT_FOUND, _) => HubError::Unknown { hub: self.endpoint.clone(), what },
            (status, _) if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
                HubError::Busy { status }
            }
            (status, _) => answer(format!("status {status} for {what}")),
        }
    }

    pub(super) fn unreachable(&self, error: &dyn std::error::Error) -> HubError {
        HubError::Unreachable { hub: self.endpoint.clone(), reason: error.to_string() }
    }
}

/// Where a redirect leads: a whole URL, or a path on the same host.
pub(super) fn follow(from: &Uri, location: &str) -> Result<Uri, HubError> {
    let unusable = || answer("it redirects to what is no URL");
    let to: Uri = location.parse().map_err(|_| unusable())?;
    let to = if to.scheme().is_some() {
        to
    } else {
        let mut parts = from.clone().into_parts();
        parts.path_and_query = to.into_parts().path_and_query;
        Uri::from_parts(parts).map_err(|_| unusable())?
    };
    match (from.scheme_str(), to.scheme_str()) {
        (Some("https"), Some("http")) => Err(answer("it redirects from https to http")),
        (_, Some("http" | "https")) => Ok(to),
        _ => Err(unusable()),
    }
}

/// The first byte of a `Content-Range`.
fn begin_of(range: &str) -> Option<u64> {
    range.strip_prefix("bytes ")?.split('-').next()?.trim().parse().ok()
}

/// Percent-encodes all but what a path segment may hold as it is.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(byte as char);
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

/// The same of each segment of `path`.
pub(super) fn escape_path(path: &str) -> String {
    path.split('/').map(escape).collect::<Vec<_>>().join("/")
}

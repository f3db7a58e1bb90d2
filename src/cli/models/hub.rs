//! A model hub's two answers: what files a model has, and their bytes.
//!
//! Everything that it says is untrusted: paths are checked before anything is made of them, sizes are
//! bounded before they are believed, and bytes are hashed while they are written. A file is written
//! under another name until it is whole, so that a cut transfer goes on where it ended.

mod checksum;
mod error;
mod fetch;
mod request;
mod settings;

use std::{io::Read as _, time::Duration};

use serde::Deserialize;
use switchboard_mesh::config::{Environment, Secret};
use ureq::{Agent, http::Uri};

pub(crate) use error::HubError;
pub(crate) use fetch::Fetched;

use super::choose;
use crate::config;
use checksum::Checksum;
use error::answer;
use request::{Reply, escape};
use settings::{certificates, is_loopback, proxy, token};

/// The hub that is asked when no setting names another.
const PUBLIC: &str = "https://huggingface.co";
/// A hub that is there answers sooner; without a network the wait should be short.
const CONNECT: Duration = Duration::from_secs(5);
/// Time from a request to its headers, and the longest silence in the midst of a file.
const SILENCE: Duration = Duration::from_secs(30);
/// Bytes of the largest list of files: some 20,000 of them.
const LARGEST_LIST: u64 = 8 << 20;

/// A file that a model has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Its path in the model's folder; checked.
    pub(crate) path: String,
    /// Its bytes, if the hub tells.
    pub(crate) size: Option<u64>,
    /// What to check it with, if the hub tells.
    pub(crate) checksum: Option<Checksum>,
}

/// A model's files at one commit.
#[derive(Debug)]
pub(crate) struct Listing {
    /// The commit.
    pub(crate) commit: String,
    /// The files, in the hub's order. Those with paths that no folder should have are left out.
    pub(crate) files: Vec<Entry>,
    /// The paths that were left out.
    pub(crate) refused: Vec<String>,
}

/// A model hub.
pub(crate) struct Hub {
    agent: Agent,
    endpoint: String,
    token: Option<Secret>,
}

#[derive(Deserialize)]
struct ModelInfo {
    sha: String,
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    #[serde(rename = "blobId")]
    blob_id: Option<String>,
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    sha256: Option<String>,
    size: Option<u64>,
}

impl Hub {
    /// The hub that settings and environment name. Connects to nothing yet.
    ///
    /// # Errors
    /// The setting that cannot be used.
    pub(crate) fn open(settings: &config::Hub, environment: &dyn Environment) -> Result<Self, HubError> {
        let variables = environment.variables();
        let variable = |wanted: &str| {
            let found = variables.iter().find(|(name, value)| name == wanted && !value.is_empty());
            found.map(|(_, value)| value.clone())
        };
        let setting = |key: &str, problem: String| HubError::Setting { key: key.to_owned(), problem };
        let (key, endpoint) = match (settings.endpoint.as_str(), variable("HF_ENDPOINT")) {
            ("", Some(endpoint)) => ("HF_ENDPOINT", endpoint),
            ("", None) => ("hub.endpoint", PUBLIC.to_owned()),
            (endpoint, _) => ("hub.endpoint", endpoint.to_owned()),
        };
        let endpoint = endpoint.trim_end_matches('/').to_owned();
        let uri = endpoint.parse::<Uri>().ok().filter(|uri| {
            matches!(uri.scheme_str(), Some("http" | "https"))
                && uri.host().is_some()
                && uri.query().is_none()
        });
        let uri = uri.ok_or_else(|| {
            setting(key, format!("= {endpoint:?} is not allowed: a URL such as https://hub.example"))
        })?;
        let token = token(settings, &variable)?;
        if token.is_some() && uri.scheme_str() == Some("http") && !is_loopback(uri.host().unwrap_or_default())
        {
            return Err(setting(
                key,
                format!("= {endpoint:?} would carry the access token in clear text: use https, or no token"),
            ));
        }
        let mut agent = Agent::config_builder()
            .http_status_as_error(false)
            // Followed by hand: the token stays with the hub, and headers on the way are read.
            .max_redirects(0)
            .timeout_resolve(Some(CONNECT))
            .timeout_connect(Some(CONNECT))
            .timeout_recv_response(Some(SILENCE))
            .timeout_per_read(Some(SILENCE))
            .user_agent(concat!("switchboard/", env!("CARGO_PKG_VERSION")))
            .proxy(proxy(&variable)?);
        if let Some(roots) = certificates(settings, &variable)? {
            agent = agent.tls_config(ureq::tls::TlsConfig::builder().root_certs(roots).build());
        }
        Ok(Self { agent: agent.build().into(), endpoint, token })
    }

    /// The hub's URL.
    pub(crate) fn name(&self) -> &str {
        &self.endpoint
    }

    /// What files `model` has at `revision`.
    ///
    /// # Errors
    /// When the hub cannot be reached, does not know it, or does not give it.
    pub(crate) fn list(&self, model: &str, revision: &str) -> Result<Listing, HubError> {
        let url = format!("{}/api/models/{model}/revision/{}?blobs=true", self.endpoint, escape(revision));
        let what = format!("model {model} at revision {revision}");
        let Reply { response, .. } = self.get(&url, None, &what)?;
        let mut text = Vec::new();
        let mut body = response.into_body().into_reader().take(LARGEST_LIST + 1);
        body.read_to_end(&mut text).map_err(|error| self.unreachable(&error))?;
        if text.len() as u64 > LARGEST_LIST {
            return Err(answer(format!("its list of files is over {LARGEST_LIST} bytes")));
        }
        let info: ModelInfo = serde_json::from_slice(&text)
            .map_err(|error| answer(format!("its list of files is no such list: {error}")))?;
        if info.sha.is_empty() || info.sha.len() > 64 || !info.sha.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(answer("it names no commit"));
        }
        let mut listing = Listing { commit: info.sha, files: Vec::new(), refused: Vec::new() };
        for sibling in info.siblings {
            if !choose::is_safe(&sibling.rfilename) {
                listing.refused.push(sibling.rfilename);
                continue;
            }
            let lfs = sibling.lfs.as_ref();
            let size = lfs.and_then(|lfs| lfs.size).or(sibling.size);
            // What git holds of a large file is a pointer: its id says nothing of the file.
            let id = if lfs.is_some() { None } else { sibling.blob_id.as_deref() };
            let digits = lfs.and_then(|lfs| lfs.sha256.as_deref()).or(id);
            let checksum = digits.and_then(Checksum::parse);
            listing.files.push(Entry { path: sibling.rfilename, size, checksum });
        }
        Ok(listing)
    }
}

#[cfg(test)]
mod tests;

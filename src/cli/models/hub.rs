//! A model hub's two answers: what files a model has, and their bytes.
//!
//! Everything that it says is untrusted: paths are checked before anything is made of them, sizes are
//! bounded before they are believed, and bytes are hashed while they are written. A file is written
//! under another name until it is whole, so that a cut transfer goes on where it ended.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
    time::Duration,
};

use serde::Deserialize;
use sha1::Sha1;
use sha2::{Digest as _, Sha256};
use switchboard_mesh::config::{Environment, Secret};
use ureq::{
    Agent, Body,
    http::{Response, StatusCode, Uri, header},
};

use super::choose;
use crate::config;

/// The hub that is asked when no setting names another.
const PUBLIC: &str = "https://huggingface.co";
/// A hub that is there answers sooner; without a network the wait should be short.
const CONNECT: Duration = Duration::from_secs(5);
/// Time from a request to its headers, and the longest silence in the midst of a file.
const SILENCE: Duration = Duration::from_secs(30);
/// Bytes of the largest list of files: some 20,000 of them.
const LARGEST_LIST: u64 = 8 << 20;
/// From the hub to its store there are one or two.
const MOST_REDIRECTS: usize = 5;
/// Bytes of a token, a certificate file: more is a wrong path.
const LARGEST_SETTING: u64 = 4 << 20;

/// Why a hub was of no use.
#[derive(Debug, thiserror::Error)]
pub(super) enum HubError {
    /// A setting cannot be used. Change it.
    #[error("{key} {problem}")]
    Setting { key: String, problem: String },
    /// There is no way to the hub. Try again later, or bring the files by other means.
    #[error("the model hub {hub} cannot be reached: {reason}")]
    Unreachable { hub: String, reason: String },
    /// The hub has no such model, revision or file.
    #[error("the model hub {hub} has no {what}")]
    Unknown { hub: String, what: String },
    /// The hub wants to know who is asking.
    #[error("{what} is not given to everyone (or not there at all): {advice}")]
    Denied { what: String, advice: &'static str },
    /// The hub is busy or broken. Try again later.
    #[error("the model hub answered {status}")]
    Busy { status: StatusCode },
    /// The connection ended early. Trying again goes on where it ended.
    #[error("{path}: the connection was cut after {got} of {size} bytes: {reason}")]
    Cut { path: String, got: u64, size: u64, reason: String },
    /// The hub's answer is not what it should be.
    #[error("the model hub's answer cannot be used: {problem}")]
    Answer { problem: String },
    /// What came is not what the hub says it has. It was thrown away.
    #[error("{path} has the {kind} {found}, and {expected} was expected: what came was thrown away")]
    Checksum { path: String, kind: &'static str, found: String, expected: String },
    /// A file cannot be written.
    #[error("{} cannot be written", path.display())]
    Write { path: PathBuf, source: io::Error },
}

impl HubError {
    /// Whether the same request may succeed in a moment.
    pub(super) fn passing(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Busy { .. } | Self::Cut { .. })
    }
}

fn answer(problem: impl Into<String>) -> HubError {
    HubError::Answer { problem: problem.into() }
}

/// A hash that tells whether a file is whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Checksum {
    /// Of the bytes.
    Sha256(String),
    /// As git names a blob: SHA-1 over its length and its bytes.
    Git(String),
}

impl Checksum {
    fn parse(text: &str) -> Option<Self> {
        let text = text.trim_start_matches("W/").trim_matches('"').to_ascii_lowercase();
        if !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        match text.len() {
            64 => Some(Self::Sha256(text)),
            40 => Some(Self::Git(text)),
            _ => None,
        }
    }

    /// The name of its kind, and its digits.
    pub(super) fn parts(&self) -> (&'static str, &str) {
        match self {
            Self::Sha256(digits) => ("sha256", digits),
            Self::Git(digits) => ("git object id", digits),
        }
    }

    /// Whether the file at `path` is of this content.
    pub(super) fn is_of(&self, path: &Path) -> io::Result<bool> {
        let mut file = File::open(path)?;
        let mut hasher = Hasher::new(Some(self), file.metadata()?.len());
        hasher.feed_all(&mut file)?;
        Ok(hasher.finish().as_ref() == Some(self))
    }
}

/// A file that a model has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// Its path in the model's folder; checked.
    pub(super) path: String,
    /// Its bytes, if the hub tells.
    pub(super) size: Option<u64>,
    /// What to check it with, if the hub tells.
    pub(super) checksum: Option<Checksum>,
}

/// A model's files at one commit.
#[derive(Debug)]
pub(super) struct Listing {
    /// The commit.
    pub(super) commit: String,
    /// The files, in the hub's order. Those with paths that no folder should have are left out.
    pub(super) files: Vec<Entry>,
    /// The paths that were left out.
    pub(super) refused: Vec<String>,
}

/// A file that has arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fetched {
    /// Its bytes.
    pub(super) size: u64,
    /// What it was checked with; none where the hub tells nothing.
    pub(super) checksum: Option<Checksum>,
    /// Bytes that were there from an earlier, cut transfer.
    pub(super) resumed: u64,
}

/// A model hub.
pub(super) struct Hub {
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
    pub(super) fn open(settings: &config::Hub, environment: &dyn Environment) -> Result<Self, HubError> {
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
    pub(super) fn name(&self) -> &str {
        &self.endpoint
    }

    /// What files `model` has at `revision`.
    ///
    /// # Errors
    /// When the hub cannot be reached, does not know it, or does not give it.
    pub(super) fn list(&self, model: &str, revision: &str) -> Result<Listing, HubError> {
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

    /// Brings the file `entry` of `model` at `commit` to `destination`, checked, in one attempt. What
    /// arrived of a cut transfer is kept beside it, and the next attempt goes on from there.
    /// `progress` is told how many bytes there are.
    ///
    /// # Errors
    /// [`HubError::passing`] ones are worth another attempt.
    pub(super) fn fetch(
        &self,
        model: &str,
        commit: &str,
        entry: &Entry,
        destination: &Path,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Fetched, HubError> {
        let write = |path: &Path| {
            let path = path.to_owned();
            move |source| HubError::Write { path, source }
        };
        if let Some(folder) = destination.parent() {
            fs::create_dir_all(folder).map_err(write(folder))?;
        }
        let part = part_of(destination, entry);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&part)
            .map_err(write(&part))?;
        let mut have = file.metadata().map_err(write(&part))?.len();
        // Only of a file that is known by its hash can the beginning be trusted to belong to the rest.
        if entry.checksum.is_none() || entry.size.is_some_and(|size| have > size) {
            have = 0;
        }
        let mut known = entry.clone();
        let mut resumed = have;
        if known.size != Some(have) {
            let url = format!("{}/{model}/resolve/{commit}/{}", self.endpoint, escape_path(&entry.path));
            let what = format!("file {} in {model}", entry.path);
            let reply = self.get(&url, (have > 0).then_some(have), &what)?;
            if !reply.partial {
                (have, resumed) = (0, 0);
            }
            known.size = known.size.or(reply.size);
            known.checksum = known.checksum.or(reply.checksum);
            file.set_len(have).map_err(write(&part))?;
            file.seek(SeekFrom::Start(have)).map_err(write(&part))?;
            let mut body = reply.response.into_body().into_reader();
            self.receive(&known, &mut file, &part, &mut body, have, progress)?;
        }
        let size = file.metadata().map_err(write(&part))?.len();
        file.seek(SeekFrom::Start(0)).map_err(write(&part))?;
        let mut hasher = Hasher::new(known.checksum.as_ref(), size);
        hasher.feed_all(&mut file).map_err(write(&part))?;
        let found = hasher.finish();
        if let (Some(found), Some(expected)) = (&found, &known.checksum)
            && found != expected
        {
            let _ = fs::remove_file(&part);
            let (kind, expected) = expected.parts();
            return Err(HubError::Checksum {
                path: entry.path.clone(),
                kind,
                found: found.parts().1.to_owned(),
                expected: expected.to_owned(),
            });
        }
        // Renamed before its bytes are on the disk, it would look whole after a crash.
        file.sync_all().map_err(write(&part))?;
        fs::rename(&part, destination).map_err(write(destination))?;
        Ok(Fetched { size, checksum: known.checksum, resumed })
    }

    /// Writes `body` to `file` behind the `have` bytes that are there.
    fn receive(
        &self,
        known: &Entry,
        file: &mut File,
        part: &Path,
        body: &mut dyn io::Read,
        have: u64,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(), HubError> {
        let largest = choose::largest(&known.path);
        let limit = known.size.unwrap_or(largest).min(largest);
        let mut got = have;
        let mut buffer = vec![0; 1 << 16];
        let reason = loop {
            progress(got);
            match body.read(&mut buffer) {
                Ok(0) => break None,
                Ok(read) => {
                    got += read as u64;
                    if got > limit {
                        let _ = fs::remove_file(part);
                        return Err(answer(format!("{} is longer than {limit} bytes", known.path)));
                    }
                    let written = file.write_all(&buffer[..read]);
                    written.map_err(|source| HubError::Write { path: part.to_owned(), source })?;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break Some(error.to_string()),
            }
        };
        let whole = known.size.is_none_or(|size| got == size);
        match reason {
            None if whole => Ok(()),
            reason => Err(HubError::Cut {
                path: known.path.clone(),
                got,
                size: known.size.unwrap_or(got),
                reason: reason.unwrap_or_else(|| "it ended early".into()),
            }),
        }
    }

    /// Asks for `url`, from byte `from` on, and follows to where it is kept.
    fn get(&self, url: &str, from: Option<u64>, what: &str) -> Result<Reply, HubError> {
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

    fn unreachable(&self, error: &dyn std::error::Error) -> HubError {
        HubError::Unreachable { hub: self.endpoint.clone(), reason: error.to_string() }
    }
}

/// An answer that carries a file.
struct Reply {
    response: Response<Body>,
    /// Whether it begins where it was asked to.
    partial: bool,
    size: Option<u64>,
    checksum: Option<Checksum>,
}

fn token(
    settings: &config::Hub,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<Option<Secret>, HubError> {
    let (key, file) = if settings.token_file.as_os_str().is_empty() {
        if let Some(token) = variable("HF_TOKEN") {
            return visible("HF_TOKEN", &token).map(Some);
        }
        match variable("HF_TOKEN_PATH") {
            Some(path) => ("HF_TOKEN_PATH", PathBuf::from(path)),
            None => return Ok(None),
        }
    } else {
        ("hub.token_file", settings.token_file.clone())
    };
    visible(key, &setting_file(key, &file)?).map(Some)
}

/// A token that can be sent in a header.
fn visible(key: &str, token: &str) -> Result<Secret, HubError> {
    let token = token.trim();
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        let problem = "holds no access token: letters, digits and signs without blanks are allowed".into();
        return Err(HubError::Setting { key: key.into(), problem });
    }
    Ok(Secret::new(token.to_owned()))
}

fn setting_file(key: &str, path: &Path) -> Result<String, HubError> {
    let read = || {
        let mut text = String::new();
        File::open(path)?.take(LARGEST_SETTING).read_to_string(&mut text)?;
        Ok(text)
    };
    read().map_err(|error: io::Error| HubError::Setting {
        key: key.into(),
        problem: format!("= {:?} cannot be read: {error}", path.display().to_string()),
    })
}

fn certificates(
    settings: &config::Hub,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<Option<ureq::tls::RootCerts>, HubError> {
    let (key, path) = if settings.certificates.as_os_str().is_empty() {
        match variable("SSL_CERT_FILE") {
            Some(path) => ("SSL_CERT_FILE", PathBuf::from(path)),
            None => return Ok(None),
        }
    } else {
        ("hub.certificates", settings.certificates.clone())
    };
    let text = setting_file(key, &path)?;
    let mut roots = Vec::new();
    for item in ureq::tls::parse_pem(text.as_bytes()) {
        if let Ok(ureq::tls::PemItem::Certificate(certificate)) = item {
            roots.push(certificate);
        }
    }
    if roots.is_empty() {
        let problem = format!("= {:?} holds no certificate in PEM form", path.display().to_string());
        return Err(HubError::Setting { key: key.into(), problem });
    }
    Ok(Some(ureq::tls::RootCerts::from(roots)))
}

/// The proxy that the usual variables name.
fn proxy(variable: &dyn Fn(&str) -> Option<String>) -> Result<Option<ureq::Proxy>, HubError> {
    let names = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];
    let Some((name, url)) = names.iter().find_map(|name| Some((*name, variable(name)?))) else {
        return Ok(None);
    };
    let unusable = |error: ureq::Error| HubError::Setting {
        key: name.into(),
        // Its value may hold a password.
        problem: format!("cannot be used as a proxy: {error}"),
    };
    let plain = ureq::Proxy::new(&url).map_err(unusable)?;
    let mut builder = ureq::Proxy::builder(plain.protocol()).host(plain.host()).port(plain.port());
    if let Some(user) = plain.username() {
        builder = builder.username(user);
    }
    if let Some(password) = plain.password() {
        builder = builder.password(password);
    }
    let direct = variable("NO_PROXY").or_else(|| variable("no_proxy")).unwrap_or_default();
    for host in direct.split(',').map(str::trim).filter(|host| !host.is_empty()) {
        builder = builder.no_proxy(host);
    }
    builder.build().map(Some).map_err(unusable)
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

/// Where a redirect leads: a whole URL, or a path on the same host.
fn follow(from: &Uri, location: &str) -> Result<Uri, HubError> {
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

/// Where a file is written until it is whole. Its name holds the hash, so that parts of two
/// revisions are never put together.
fn part_of(destination: &Path, entry: &Entry) -> PathBuf {
    let name = destination.file_name().unwrap_or_default().to_string_lossy();
    let digits = entry.checksum.as_ref().map_or("unknown", |checksum| checksum.parts().1);
    destination.with_file_name(format!(".{name}.{}.part", &digits[..digits.len().min(16)]))
}

/// Percent-encodes all but what a path segment may hold as it is.
fn escape(text: &str) -> String {
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

fn escape_path(path: &str) -> String {
    path.split('/').map(escape).collect::<Vec<_>>().join("/")
}

/// The hash that a checksum is of.
enum Hasher {
    Sha256(Sha256),
    Git(Sha1),
    None,
}

impl Hasher {
    fn new(kind: Option<&Checksum>, size: u64) -> Self {
        match kind {
            Some(Checksum::Sha256(_)) => Self::Sha256(Sha256::new()),
            Some(Checksum::Git(_)) => Self::Git(Sha1::new().chain_update(format!("blob {size}\0"))),
            None => Self::None,
        }
    }

    fn feed_all(&mut self, file: &mut File) -> io::Result<()> {
        let mut buffer = vec![0; 1 << 16];
        loop {
            let read = match file.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            match self {
                Self::Sha256(hash) => hash.update(&buffer[..read]),
                Self::Git(hash) => hash.update(&buffer[..read]),
                Self::None => return Ok(()),
            }
        }
    }

    fn finish(self) -> Option<Checksum> {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        match self {
            Self::Sha256(hash) => Some(Checksum::Sha256(hex(&hash.finalize()))),
            Self::Git(hash) => Some(Checksum::Git(hex(&hash.finalize()))),
            Self::None => None,
        }
    }
}

#[cfg(test)]
mod tests;

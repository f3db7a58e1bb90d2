//! What settings and environment say of the way to a hub.

use std::{
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use switchboard_mesh::config::Secret;

use super::HubError;
use crate::config;

/// Bytes of a token, a certificate file: more is a wrong path.
const LARGEST_SETTING: u64 = 4 << 20;

/// The access token, if one is given.
pub(super) fn token(
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

/// The certificates to trust instead of the built-in ones, if a file of them is named.
pub(super) fn certificates(
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
pub(super) fn proxy(variable: &dyn Fn(&str) -> Option<String>) -> Result<Option<ureq::Proxy>, HubError> {
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

pub(super) fn is_loopback(host: &str) -> bool {
    let address = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

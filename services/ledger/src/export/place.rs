//! Where exports go: a folder, or a bucket of an S3-like store.
//!
//! Both are an [`ObjectStore`], so that what is written does not depend on where. Signatures and TLS are made
//! by ring, as everywhere else; the client follows neither redirects nor the environment's proxies, and every
//! request is bounded in time and in tries.

use std::{path::Path as FilePath, sync::Arc, time::Duration};

use bytes::Bytes;
use mesh::error::chain;
use object_store::{
    BackoffConfig, ClientOptions, Error as StoreError, ObjectStore, ObjectStoreExt as _, RetryConfig,
    WriteMultipart,
    aws::AmazonS3Builder,
    client::{HttpClient, HttpConnector, HttpError, HttpErrorKind},
    local::LocalFileSystem,
    path::Path,
    prefix::PrefixStore,
};
use switchboard_mesh as mesh;

use crate::{config::ExportConfig, error::Error, keys};

/// Files beyond it go in parts of it; S3 takes none below 5 MiB.
const PART: usize = 8 << 20;
/// Parts that are under way at once.
const AT_ONCE: usize = 4;
/// How long a connection, and a request with all that goes with it, may take.
const CONNECT: Duration = Duration::from_secs(5);
const REQUEST: Duration = Duration::from_secs(60);
/// Tries of a request after the first, and the time after which there is none.
const RETRIES: usize = 4;
const RETRY_FOR: Duration = Duration::from_secs(60);

const URL: &str = "ledger.export.url";
const ENDPOINT: &str = "ledger.export.endpoint";
const REGION: &str = "ledger.export.region";
const CREDENTIALS: &str = "ledger.export.credentials";
const CERTIFICATES: &str = "ledger.export.certificates";

/// An open place.
pub(crate) struct Place {
    store: Arc<dyn ObjectStore>,
    /// The bucket, unless it is a folder.
    bucket: Option<String>,
}

impl Place {
    /// Opens the place that `config`, which was checked, names: its bucket, else its folder. Credentials are
    /// read anew each time, so that they can be changed under a running node.
    ///
    /// # Errors
    /// `Export` for a folder that cannot be made, `Place` or `File` for what the configuration points to.
    pub(crate) async fn open(config: &ExportConfig) -> Result<Self, Error> {
        let config = config.clone();
        let opening = tokio::task::spawn_blocking(move || {
            let Some((bucket, prefix)) = config.bucket() else {
                return Self::folder(&config.folder);
            };
            let store = s3(&config, bucket)?;
            let store: Arc<dyn ObjectStore> = match prefix {
                "" => Arc::new(store),
                prefix => Arc::new(PrefixStore::new(store, prefix)),
            };
            Ok(Self { store, bucket: Some(bucket.to_owned()) })
        });
        opening.await.map_err(|_| Error::Lost)?
    }

    fn folder(folder: &FilePath) -> Result<Self, Error> {
        let fail = |detail: String| Error::Export { detail };
        std::fs::create_dir_all(folder).map_err(|error| fail(format!("{}: {error}", folder.display())))?;
        let store = LocalFileSystem::new_with_prefix(folder).map_err(|error| fail(error.to_string()))?;
        Ok(Self { store: Arc::new(store), bucket: None })
    }

    /// Writes a file: it is there as a whole or not at all.
    ///
    /// # Errors
    /// `Export`, `Place` or `PlaceAway`. Parts of a file that were sent are taken back, where the store still
    /// listens.
    pub(crate) async fn put(&self, path: &str, bytes: Vec<u8>) -> Result<(), Error> {
        let (path, bytes) = (Path::from(path), Bytes::from(bytes));
        let put = async {
            if bytes.len() <= PART {
                return self.store.put(&path, bytes.into()).await.map(drop);
            }
            let upload = self.store.put_multipart(&path).await?;
            let mut upload = WriteMultipart::new_with_chunk_size(upload, PART);
            for begin in (0..bytes.len()).step_by(PART) {
                if let Err(error) = upload.wait_for_capacity(AT_ONCE).await {
                    let _ = upload.abort().await;
                    return Err(error);
                }
                upload.put(bytes.slice(begin..bytes.len().min(begin + PART)));
            }
            upload.finish().await.map(drop)
        };
        put.await.map_err(|error| self.explain(&error))
    }

    /// An error by what to do about it, and by the key that it is done with. What a store answers is left out
    /// but for its code: it repeats names of keys and what was signed.
    fn explain(&self, error: &StoreError) -> Error {
        let Some(bucket) = &self.bucket else { return Error::Export { detail: chain(error) } };
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
        while let Some(at) = cause {
            if let Some(http) = at.downcast_ref::<HttpError>() {
                let detail = format!("the store cannot be reached: {}", chain(http));
                return match http.kind() {
                    HttpErrorKind::Decode | HttpErrorKind::Unknown => Error::Place { key: ENDPOINT, detail },
                    _ => Error::PlaceAway { key: ENDPOINT, detail },
                };
            }
            cause = at.source();
        }
        let text = chain(error);
        let code = between(&text, "<Code>", "</Code>");
        let status = between(&text, "status code: ", " ");
        let said = match (code, status) {
            (None, None) => "it gave no reason".to_owned(),
            (code, status) => [status, code].into_iter().flatten().collect::<Vec<_>>().join(" "),
        };
        match (error, code.unwrap_or_default(), status.unwrap_or_default()) {
            (_, "AuthorizationHeaderMalformed" | "PermanentRedirect", _) => Error::Place {
                key: REGION,
                detail: format!("bucket {bucket:?} is in another region ({said})"),
            },
            (StoreError::PermissionDenied { .. } | StoreError::Unauthenticated { .. }, ..) => Error::Place {
                key: CREDENTIALS,
                detail: format!("they are not let write to bucket {bucket:?} ({said})"),
            },
            (StoreError::NotFound { .. }, ..) => {
                Error::Place { key: URL, detail: format!("there is no bucket {bucket:?} ({said})") }
            }
            (_, _, status) if status.starts_with('5') || status == "429" => {
                Error::PlaceAway { key: ENDPOINT, detail: format!("the store answers {said}") }
            }
            _ if text.contains("redirect") => {
                Error::Place { key: REGION, detail: format!("bucket {bucket:?} is in another region") }
            }
            _ => Error::Place { key: URL, detail: format!("the store refuses: {said}") },
        }
    }

    #[cfg(test)]
    pub(crate) async fn get(&self, path: &str) -> Vec<u8> {
        self.store.get(&Path::from(path)).await.unwrap().bytes().await.unwrap().to_vec()
    }
}

/// A word of a text, between two others.
fn between<'a>(text: &'a str, begin: &str, end: &str) -> Option<&'a str> {
    let rest = &text[text.find(begin)? + begin.len()..];
    let word = &rest[..rest.find(end).unwrap_or(rest.len())];
    (!word.is_empty() && word.len() <= 64 && word.chars().all(|c| c.is_ascii_alphanumeric())).then_some(word)
}

/// A store that speaks S3.
fn s3(config: &ExportConfig, bucket: &str) -> Result<object_store::aws::AmazonS3, Error> {
    let given = if config.credentials_file.as_os_str().is_empty() {
        config.credentials.clone()
    } else {
        mesh::config::Secret::new(keys::read(&config.credentials_file)?.trim().to_owned())
    };
    let [id, secret, token] = ExportConfig::credentials(&given).ok_or_else(|| Error::Place {
        key: CREDENTIALS,
        detail: crate::config::CREDENTIALS_ALLOWED.to_owned(),
    })?;
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(bucket)
        .with_region(&config.region)
        .with_access_key_id(id)
        .with_secret_access_key(secret)
        .with_retry(RetryConfig {
            backoff: BackoffConfig { max_backoff: Duration::from_secs(5), ..BackoffConfig::default() },
            max_retries: RETRIES,
            retry_timeout: RETRY_FOR,
        })
        .with_http_connector(Wire(client(config)?));
    if !token.is_empty() {
        builder = builder.with_token(token);
    }
    if !config.endpoint.is_empty() {
        // The configuration's check has seen where plain HTTP goes.
        builder = builder.with_endpoint(config.endpoint.trim_end_matches('/')).with_allow_http(true);
    }
    builder.build().map_err(|error| Error::Place { key: URL, detail: chain(&error) })
}

fn client(config: &ExportConfig) -> Result<reqwest::Client, Error> {
    // The client takes the process's provider; where there is one already, it is the same.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut builder = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .http1_only()
        .connect_timeout(CONNECT)
        .timeout(REQUEST);
    if !config.certificates.as_os_str().is_empty() {
        let text = keys::read(&config.certificates)?;
        let found = reqwest::Certificate::from_pem_bundle(text.as_bytes()).unwrap_or_default();
        if found.is_empty() {
            let detail = format!("{} holds no certificate", config.certificates.display());
            return Err(Error::Place { key: CERTIFICATES, detail });
        }
        builder = builder.tls_certs_merge(found);
    }
    builder.build().map_err(|error| Error::Place { key: CERTIFICATES, detail: chain(&error) })
}

/// Gives the client that was made above, whatever the store would make.
#[derive(Debug)]
struct Wire(reqwest::Client);

impl HttpConnector for Wire {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.0.clone()))
    }
}

//! A node that runs models: the role `inference`.
//!
//! It loads the models of a repository folder, and serves `InferenceService` over them, in ONNX or, with the
//! feature `torch`, in Torch; a method without a model for its task answers FAILED_PRECONDITION. Beside it stand
//! the doors that others' clients know: `inference.GRPCInferenceService` (Open Inference Protocol v2) and `tei.v1`. It calls no
//! other role and keeps no state.
//!
//! A request's way: `service` (or a door) checks it, `model` turns its texts into token rows, the
//! `scheduler` puts rows of many requests together and runs them on a `backend`. What goes on in steps goes another
//! way: `generate`, `transcribe` and `vad` have a thread for each model, which takes turns on the scheduler's
//! device.

mod about;
mod backend;
pub mod bench;
mod bounds;
pub mod check;
mod config;
mod doors;
mod error;
mod generate;
mod labels;
mod late;
mod library;
pub mod listing;
mod metrics;
mod model;
mod onnx;
mod placement;
mod places;
mod pooling;
mod profile;
mod registry;
mod repository;
mod scheduler;
mod service;
mod statistics;
mod tokenize;
#[cfg(feature = "torch")]
mod torch;
#[cfg(not(feature = "torch"))]
#[path = "torch/absent.rs"]
mod torch;
mod transcribe;
mod vad;
mod warmup;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use switchboard_mesh as mesh;
use switchboard_proto::inference::v1::inference_service_server::InferenceServiceServer;

pub use config::{Config, Provider};
pub use error::Error;

use crate::{registry::Registry, service::Service};

/// The role.
pub const ROLE: &str = "inference";
/// The full name of its gRPC service.
pub const SERVICE: &str = "switchboard.inference.v1.InferenceService";
/// Bytes of the largest request. The most texts of the greatest length are 32 MiB of ASCII; what is
/// over a bound by a little is still read, so that the answer can name the field.
pub(crate) const LARGEST_REQUEST: usize = 40 << 20;

/// Loads and warms the models, and returns the role ready to serve.
///
/// # Errors
/// When a value of `config` is not allowed, the runtime library or a model cannot be used, or there
/// is no model; the error names the key or the file.
pub async fn start(config: Config, ctx: &mesh::Context) -> Result<mesh::Mounted, mesh::StartError> {
    let failed = |error: Error| mesh::StartError::new(ROLE, error);
    config.check().map_err(|error| mesh::StartError::new(ROLE, error))?;
    let health = ctx.health.clone();
    let lost = move || {
        tracing::error!("a thread that computes has ended; restart the node");
        services().chain([""]).for_each(|service| health.set(service, false));
    };
    let open = move || {
        let repository = repository(&config)?;
        let runtime = onnx::Runtime::load(&library::find(&config.runtime)?)?;
        Registry::open(repository, config, runtime, lost)
    };
    let registry = tokio::task::spawn_blocking(open).await;
    let registry = registry.map_err(|error| mesh::StartError::new(ROLE, error))?.map_err(failed)?;
    let registry = Arc::new(registry);
    about::publish(&registry, ctx);
    let server = InferenceServiceServer::new(Service::new(Arc::clone(&registry)));
    let server = server.max_decoding_message_size(LARGEST_REQUEST);
    let routes = doors::routes(&registry, &ctx.health).add_service(server);
    let long_lived = doors::STREAMS.to_vec();
    Ok(mesh::Mounted { role: ROLE, routes, services: services().collect(), long_lived })
}

/// The full names of all that the role serves.
fn services() -> impl Iterator<Item = &'static str> {
    std::iter::once(SERVICE).chain(doors::SERVICES)
}

/// The folder of models: the configured one; when that is empty, the first of the usual ones.
///
/// # Errors
/// When there is none.
pub fn repository(config: &Config) -> Result<PathBuf, Error> {
    if !config.repository.as_os_str().is_empty() {
        return Ok(config.repository.clone());
    }
    let models = Path::new("models");
    places::find(models, models).ok_or_else(|| {
        let problem = format!(
            "is in none of the usual places: {}; set inference.repository to where it is",
            places::USUAL
        );
        repository::problem(Path::new("models/"), problem)
    })
}

/// What `cargo xtask setup` puts below the workspace's `.cache`.
#[cfg(test)]
mod setup {
    use std::path::PathBuf;

    fn cached(path: &str) -> PathBuf {
        let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../.cache")).join(path);
        assert!(path.exists(), "{} is missing: run `cargo xtask setup`", path.display());
        path.canonicalize().unwrap()
    }

    pub(crate) fn runtime() -> PathBuf {
        cached("onnxruntime/libonnxruntime.so")
    }

    pub(crate) fn model() -> PathBuf {
        cached("models/all-MiniLM-L6-v2")
    }

    pub(crate) fn listener() -> PathBuf {
        cached("models/silero-vad")
    }

    /// A repository with the model in it, whose files are links that a test may replace.
    pub(crate) fn repository() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let model = folder.path().join("all-MiniLM-L6-v2");
        std::fs::create_dir_all(model.join("onnx")).unwrap();
        for file in ["config.json", "tokenizer.json", "onnx/model.onnx"] {
            std::os::unix::fs::symlink(self::model().join(file), model.join(file)).unwrap();
        }
        folder
    }
}

#[cfg(test)]
mod tests {
    use std::{error::Error as _, fs, path::Path};

    use switchboard_mesh::error::chain;

    use super::*;

    async fn refusal(config: Config) -> String {
        let folder = tempfile::tempdir().unwrap();
        match start(config, &mesh::testing::context(folder.path())).await {
            Ok(_) => panic!("it started"),
            Err(error) => {
                assert!(error.source().is_some());
                chain(&error)
            }
        }
    }

    fn over(repository: &Path) -> Config {
        Config {
            repository: repository.to_owned(),
            runtime: setup::runtime(),
            warm_up: std::time::Duration::ZERO,
            ..Config::default()
        }
    }

    #[tokio::test]
    async fn a_missing_repository_is_named() {
        let error = refusal(over(Path::new("/nowhere/models"))).await;
        assert!(error.contains("/nowhere/models"), "{error}");
    }

    #[tokio::test]
    async fn an_empty_repository_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let error = refusal(over(folder.path())).await;
        assert!(error.contains(folder.path().to_str().unwrap()) && error.contains("no model"), "{error}");
    }

    #[tokio::test]
    async fn a_missing_file_is_named() {
        for file in ["config.json", "tokenizer.json", "onnx/model.onnx"] {
            let folder = setup::repository();
            fs::remove_file(folder.path().join("all-MiniLM-L6-v2").join(file)).unwrap();
            let error = refusal(over(folder.path())).await;
            assert!(error.contains(file), "{error}");
        }
    }

    #[tokio::test]
    async fn a_file_that_is_cut_or_garbled_is_named() {
        for file in ["config.json", "tokenizer.json", "onnx/model.onnx"] {
            let folder = setup::repository();
            let path = folder.path().join("all-MiniLM-L6-v2").join(file);
            let whole = fs::read(&path).unwrap();
            for bad in [&whole[..0], &whole[..whole.len() / 2], b"\xff\x00 not a model"] {
                fs::remove_file(&path).unwrap();
                fs::write(&path, bad).unwrap();
                let error = refusal(over(folder.path())).await;
                assert!(error.contains(file), "{} bytes: {error}", bad.len());
            }
        }
    }

    #[tokio::test]
    async fn a_model_of_another_kind_is_named() {
        let folder = setup::repository();
        let path = folder.path().join("all-MiniLM-L6-v2/config.json");
        let config = fs::read_to_string(&path).unwrap();
        for (from, to, wanted) in [
            ("\"BertModel\"", "\"BertForTokenClassification\"", "logits"),
            ("\"max_position_embeddings\": 512", "\"max_position_embeddings\": 1", "max_position_embeddings"),
            ("\"hidden_size\": 384", "\"hidden_size\": 385", "385"),
        ] {
            fs::remove_file(&path).unwrap();
            fs::write(&path, config.replace(from, to)).unwrap();
            let error = refusal(over(folder.path())).await;
            assert!(error.contains(wanted), "{error}");
        }
    }

    #[tokio::test]
    async fn a_runtime_that_cannot_be_used_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let library = fs::read(setup::runtime()).unwrap();
        let cut = folder.path().join("libcut.so");
        fs::write(&cut, &library[..library.len() / 2]).unwrap();
        let text = folder.path().join("libtext.so");
        fs::write(&text, "not a library").unwrap();
        for runtime in [cut, text, folder.path().join("libmissing.so")] {
            let error =
                refusal(Config { runtime: runtime.clone(), ..over(setup::repository().path()) }).await;
            assert!(error.contains(runtime.to_str().unwrap()), "{error}");
        }
    }

    #[tokio::test]
    async fn a_value_that_is_not_allowed_is_named() {
        let error = refusal(Config { max_tokens: 0, ..Config::default() }).await;
        assert!(error.contains("inference.max_tokens = 0"), "{error}");
    }
}

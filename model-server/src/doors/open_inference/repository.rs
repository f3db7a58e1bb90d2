//! Triton's extension that lists, loads and unloads models.

use switchboard_proto::open_inference::{
    RepositoryIndexRequest, RepositoryIndexResponse, RepositoryModelLoadRequest, RepositoryModelLoadResponse,
    RepositoryModelUnloadRequest, RepositoryModelUnloadResponse, repository_index_response::ModelIndex,
};

use super::VERSION;
use crate::{
    doors::shown,
    error::Error,
    registry::{Entry, Registry, State},
};

/// Lists the models.
///
/// # Errors
/// `Invalid` for a repository by name; `File` when the folder cannot be read.
pub(super) fn index(
    registry: &Registry,
    request: &RepositoryIndexRequest,
) -> Result<RepositoryIndexResponse, Error> {
    check_repository(&request.repository_name)?;
    let entries = registry.index()?.into_iter();
    let models = entries.filter(|entry| !request.ready || entry.state == State::Ready).map(describe);
    Ok(RepositoryIndexResponse { models: models.collect() })
}

/// Loads a model, or loads it anew.
///
/// # Errors
/// `Invalid` for a repository by name and for parameters; else as [`Registry::load`].
pub(super) async fn load(
    registry: &Registry,
    request: &RepositoryModelLoadRequest,
) -> Result<RepositoryModelLoadResponse, Error> {
    check_repository(&request.repository_name)?;
    if let Some(name) = request.parameters.keys().min() {
        let problem = "a model is loaded as its files and its model.toml say; no parameter is allowed";
        return Err(Error::invalid(format!("parameters[{}]", shown(name)), problem));
    }
    registry.load(&request.model_name).await?;
    Ok(RepositoryModelLoadResponse {})
}

/// Unloads a model.
///
/// # Errors
/// `Invalid` for a repository by name; else as [`Registry::unload`].
pub(super) async fn unload(
    registry: &Registry,
    request: &RepositoryModelUnloadRequest,
) -> Result<RepositoryModelUnloadResponse, Error> {
    check_repository(&request.repository_name)?;
    registry.unload(&request.model_name).await?;
    Ok(RepositoryModelUnloadResponse {})
}

fn check_repository(name: &str) -> Result<(), Error> {
    if name.is_empty() {
        return Ok(());
    }
    Err(Error::invalid("repository_name", "a node has one repository, which has no name; leave it empty"))
}

fn describe(entry: Entry) -> ModelIndex {
    let (version, state, reason) = match entry.state {
        State::Ready => (VERSION, "READY", entry.reason),
        State::Loading => ("", "LOADING", entry.reason),
        State::Unloaded => ("", "UNAVAILABLE", "unloaded".into()),
        State::Failed => ("", "UNAVAILABLE", entry.reason),
    };
    ModelIndex { name: entry.name, version: version.into(), state: state.into(), reason }
}

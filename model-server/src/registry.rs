//! The models of a node: which are loaded, and loading, reloading and unloading them while it serves.
//!
//! Who has a model keeps it until their request is done: a reload puts the new one beside the old one, and
//! only then takes its place.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwap;

use crate::{
    config::{Config, Provider},
    error::Error,
    metrics,
    model::Model,
    onnx::Runtime,
    repository::{self, TaskName},
    scheduler::Device,
};

/// The models of a node, by name.
pub(crate) struct Registry {
    inner: Arc<Inner>,
}

struct Inner {
    repository: PathBuf,
    config: Config,
    runtime: Runtime,
    device: Device,
    models: ArcSwap<BTreeMap<String, Arc<Model>>>,
    /// Models that are being loaded, or failed to.
    states: Mutex<BTreeMap<String, (State, String)>>,
    /// Held while a model is loaded or unloaded: one after the other.
    changing: tokio::sync::Mutex<()>,
}

/// A model of the repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) state: State,
    /// Why it failed, or what it is waiting for.
    pub(crate) reason: String,
}

/// What a model of the repository is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Serving.
    Ready,
    /// Not serving yet.
    Loading,
    /// Not asked for, or taken away.
    Unloaded,
    /// Its files cannot be used.
    Failed,
}

impl Registry {
    /// Loads every model of `repository`. `lost` is called should the device's threads end.
    ///
    /// # Errors
    /// Names the first file that cannot be used.
    pub(crate) fn open(
        repository: PathBuf,
        config: Config,
        runtime: Runtime,
        lost: impl Fn() + Clone + Send + 'static,
    ) -> Result<Self, Error> {
        let slots = match config.provider {
            Provider::Cpu => config.shared_cores(),
            Provider::Cuda | Provider::TensorRt => 1,
        };
        let no_threads =
            |error| repository::problem(&repository, format!("cannot be given threads: {error}"));
        let shares = [config.batch_share, config.chat_share];
        let device = Device::new("inference", slots, shares, lost).map_err(no_threads)?;
        let mut models = BTreeMap::new();
        for (name, folder) in repository::list(&repository)? {
            let model = Model::load(&repository::describe(&folder)?, &config, &runtime, &device)?;
            metrics::models(1);
            models.insert(name, Arc::new(model));
        }
        let inner = Inner {
            repository,
            config,
            runtime,
            device,
            models: ArcSwap::from_pointee(models),
            states: Mutex::default(),
            changing: tokio::sync::Mutex::new(()),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The loaded model of that name.
    ///
    /// # Errors
    /// `UnknownModel` when there is none.
    pub(crate) fn find(&self, name: &str) -> Result<Arc<Model>, Error> {
        let models = self.inner.models.load();
        models.get(name).cloned().ok_or_else(|| Error::UnknownModel {
            loaded: models.keys().map(String::as_str).collect::<Vec<_>>().join(", "),
        })
    }

    /// The loaded model of that name; when it is empty, the first one for `task`.
    ///
    /// # Errors
    /// `UnknownModel` or `NoModel`. Whether a named model is for the task, it says itself.
    pub(crate) fn for_task(&self, name: &str, task: TaskName) -> Result<Arc<Model>, Error> {
        if !name.is_empty() {
            return self.find(name);
        }
        let models = self.inner.models.load();
        models.values().find(|model| model.card.task.is(task)).cloned().ok_or(Error::NoModel)
    }

    /// The loaded models, in order of name.
    pub(crate) fn list(&self) -> Vec<Arc<Model>> {
        self.inner.models.load().values().cloned().collect()
    }

    /// The longest sound of a request.
    pub(crate) fn longest_audio(&self) -> Duration {
        self.inner.config.max_audio
    }

    /// Every model of the repository, loaded or not, in order of name.
    ///
    /// # Errors
    /// When the repository cannot be read, without its path: callers learn none of this machine.
    pub(crate) fn index(&self) -> Result<Vec<Entry>, Error> {
        let loaded = self.inner.models.load();
        let mut entries: BTreeMap<String, (State, String)> =
            loaded.keys().map(|name| (name.clone(), (State::Ready, String::new()))).collect();
        for name in self.inner.listed()?.into_keys() {
            entries.entry(name).or_insert_with(|| (State::Unloaded, String::new()));
        }
        for (name, state) in self.inner.states().iter() {
            // A model that failed to reload serves on as it was.
            if !loaded.contains_key(name) {
                entries.insert(name.clone(), state.clone());
            }
        }
        Ok(entries.into_iter().map(|(name, (state, reason))| Entry { name, state, reason }).collect())
    }

    /// Loads the model in the folder of that name, or loads it again. Goes on when the future is dropped.
    ///
    /// # Errors
    /// `NoControl` when callers may not; `NotInRepository` when there is no such folder; `File` when the
    /// repository cannot be read, without its path; `Unloadable` when the model's files cannot be used, in
    /// which case one that is loaded serves on.
    pub(crate) async fn load(&self, name: &str) -> Result<(), Error> {
        let name = self.controllable(name)?;
        let inner = Arc::clone(&self.inner);
        let task = tokio::spawn(async move {
            let _changing = inner.changing.lock().await;
            inner.states().insert(name.clone(), (State::Loading, String::new()));
            let (loading, wanted) = (Arc::clone(&inner), name.clone());
            let loaded = tokio::task::spawn_blocking(move || loading.load(&wanted)).await;
            let loaded = loaded.unwrap_or_else(|_| {
                Err(Error::Unloadable { name: name.clone(), reason: "loading it ended by a panic".into() })
            });
            match loaded {
                Ok(model) => {
                    inner.states().remove(&name);
                    let gone = inner.change(|models| models.insert(name, model));
                    if gone.is_none() {
                        metrics::models(1);
                    }
                    end(gone).await;
                    Ok(())
                }
                Err(error) => {
                    if matches!(error, Error::Unloadable { .. }) {
                        tracing::warn!(model = name, error = %error, "the model could not be loaded");
                        inner.states().insert(name, (State::Failed, error.to_string()));
                    } else {
                        // A name that a caller may have made up: nothing is kept of it.
                        inner.states().remove(&name);
                    }
                    Err(error)
                }
            }
        });
        task.await.unwrap_or(Err(Error::Stopped))
    }

    /// Unloads the model of that name; requests that have it are done first.
    ///
    /// # Errors
    /// `NoControl` when callers may not, `UnknownModel` when it is not loaded.
    pub(crate) async fn unload(&self, name: &str) -> Result<(), Error> {
        let name = self.controllable(name)?;
        let _changing = self.inner.changing.lock().await;
        self.find(&name)?;
        self.inner.states().remove(&name);
        let gone = self.inner.change(|models| models.remove(&name));
        metrics::models(-1);
        end(gone).await;
        tracing::info!(model = name, "model unloaded");
        Ok(())
    }

    fn controllable(&self, name: &str) -> Result<String, Error> {
        if self.inner.config.model_control { Ok(name.to_owned()) } else { Err(Error::NoControl) }
    }
}

impl Inner {
    fn states(&self) -> MutexGuard<'_, BTreeMap<String, (State, String)>> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn load(&self, name: &str) -> Result<Arc<Model>, Error> {
        // A name from outside: only one that the repository's own list has becomes a path.
        let found = self.listed()?;
        let folder = found.get(name).ok_or_else(|| Error::NotInRepository {
            there: found.keys().map(String::as_str).collect::<Vec<_>>().join(", "),
        })?;
        let load = || {
            let description = repository::describe(folder)?;
            Model::load(&description, &self.config, &self.runtime, &self.device)
        };
        load().map(Arc::new).map_err(|error| {
            // Callers learn what is wrong with which file, but not where this machine keeps it.
            let folder = format!("{}/", folder.display());
            Error::Unloadable { name: name.to_owned(), reason: error.to_string().replace(&folder, "") }
        })
    }

    /// What is in the repository.
    fn listed(&self) -> Result<BTreeMap<String, PathBuf>, Error> {
        repository::list(&self.repository).map_err(|error| match error {
            Error::File { problem, .. } => repository::problem(Path::new("the repository"), problem),
            other => other,
        })
    }

    /// Changes the map of models, and returns what the change does.
    fn change<R>(&self, change: impl FnOnce(&mut BTreeMap<String, Arc<Model>>) -> R) -> R {
        // One at a time: `changing` is held.
        let mut models = BTreeMap::clone(&self.models.load());
        let result = change(&mut models);
        self.models.store(Arc::new(models));
        result
    }
}

/// Lets go of a model. Who is the last to have it ends its sessions, which takes a while.
async fn end(model: Option<Arc<Model>>) {
    let _ = tokio::task::spawn_blocking(move || drop(model)).await;
}

impl Drop for Inner {
    fn drop(&mut self) {
        metrics::models(-i64::try_from(self.models.load().len()).unwrap_or(0));
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use switchboard_mesh::testing::call;

    use super::*;
    use crate::{library, model::EmbedOptions, setup};

    const TINY: &str = "tiny-embedder";

    fn copy(model: &str, to: &Path) {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/models").join(model);
        fs::create_dir_all(to.join("onnx")).unwrap();
        for file in ["config.json", "tokenizer.json", "onnx/model.onnx"] {
            fs::copy(source.join(file), to.join(file)).unwrap();
        }
    }

    fn open(repository: &Path, model_control: bool) -> Arc<Registry> {
        let config = Config { model_control, warm_up: Duration::ZERO, instances: 1, ..Config::default() };
        let runtime = Runtime::load(&library::find(&setup::runtime()).unwrap()).unwrap();
        Arc::new(Registry::open(repository.to_owned(), config, runtime, || {}).unwrap())
    }

    fn states(registry: &Registry) -> Vec<(String, State)> {
        registry.index().unwrap().into_iter().map(|entry| (entry.name, entry.state)).collect()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn models_come_and_go_while_it_serves() {
        let folder = tempfile::tempdir().unwrap();
        copy(TINY, &folder.path().join("a"));
        let registry = open(folder.path(), true);
        copy("tiny-cross-encoder", &folder.path().join("b"));
        assert_eq!(states(&registry), [("a".into(), State::Ready), ("b".into(), State::Unloaded)]);
        assert!(matches!(registry.for_task("", TaskName::Rerank), Err(Error::NoModel)));
        registry.load("b").await.unwrap();
        assert_eq!(registry.for_task("", TaskName::Rerank).unwrap().card.name, "b");
        registry.unload("a").await.unwrap();
        let error = registry.find("a").err().unwrap().to_string();
        assert!(error.ends_with("loaded: b"), "{error}");
        assert_eq!(states(&registry), [("a".into(), State::Unloaded), ("b".into(), State::Ready)]);
        assert!(matches!(registry.unload("a").await, Err(Error::UnknownModel { .. })));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn requests_outlive_a_reload() {
        let folder = tempfile::tempdir().unwrap();
        copy(TINY, &folder.path().join("a"));
        let registry = open(folder.path(), true);
        let ask = async |registry: &Registry| {
            let model = registry.for_task("", TaskName::Embed).unwrap();
            model.embed(vec!["a question".into()], EmbedOptions::default(), &call("t")).await.unwrap();
        };
        let asking = (0..8).map(|_| {
            let registry = Arc::clone(&registry);
            tokio::spawn(async move {
                for _ in 0..50 {
                    ask(&registry).await;
                }
            })
        });
        let asking: Vec<_> = asking.collect();
        for _ in 0..4 {
            registry.load("a").await.unwrap();
        }
        for asked in asking {
            asked.await.expect("every request is answered");
        }
        // Who has a model keeps it, even when it is unloaded.
        let model = registry.find("a").unwrap();
        registry.unload("a").await.unwrap();
        model.embed(vec!["still".into()], EmbedOptions::default(), &call("t")).await.unwrap();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_model_that_cannot_be_reloaded_serves_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        copy(TINY, &path);
        let registry = open(folder.path(), true);
        fs::write(path.join("onnx/model.onnx"), "not a graph").unwrap();
        let error = registry.load("a").await.unwrap_err().to_string();
        assert!(
            error.contains("onnx/model.onnx") && !error.contains(folder.path().to_str().unwrap()),
            "{error}"
        );
        registry.find("a").unwrap();
        assert_eq!(states(&registry), [("a".into(), State::Ready)]);
        // Unloaded, it is what it failed as once it is tried again.
        registry.unload("a").await.unwrap();
        registry.load("a").await.unwrap_err();
        let entry = registry.index().unwrap().remove(0);
        assert_eq!(entry.state, State::Failed);
        assert!(entry.reason.contains("onnx/model.onnx"), "{}", entry.reason);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_repository_that_cannot_be_read_is_named_without_its_path() {
        let folder = tempfile::tempdir().unwrap();
        copy(TINY, &folder.path().join("repository/a"));
        let registry = open(&folder.path().join("repository"), true);
        fs::remove_dir_all(folder.path().join("repository")).unwrap();
        for error in [registry.load("made up").await.unwrap_err(), registry.index().unwrap_err()] {
            let error = error.to_string();
            assert!(error.starts_with("the repository cannot be read"), "{error}");
        }
        registry.find("a").unwrap();
        // Of a name that nobody could look up, nothing is kept.
        copy(TINY, &folder.path().join("repository/a"));
        assert_eq!(states(&registry), [("a".into(), State::Ready)]);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_name_is_no_path_and_control_is_off_unless_it_is_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        copy(TINY, &folder.path().join("repository/a"));
        copy(TINY, &folder.path().join("outside"));
        let registry = open(&folder.path().join("repository"), true);
        for name in ["../outside", "a/../../outside", "", ".", "b", &"x".repeat(10_000)] {
            assert!(matches!(registry.load(name).await, Err(Error::NotInRepository { .. })), "{name}");
        }
        let registry = open(&folder.path().join("repository"), false);
        assert!(matches!(registry.load("a").await, Err(Error::NoControl)));
        assert!(matches!(registry.unload("a").await, Err(Error::NoControl)));
    }
}

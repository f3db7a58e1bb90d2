//! Folders under `.cache/` that are complete or absent.
//!
//! A folder is made in a temporary place, gets a stamp that lists its files with their sizes, and is
//! then renamed into place; so a run that was killed leaves nothing half done, and a file that was
//! cut short later is noticed. A folder without a stamp was put there by a person and is left alone.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use crate::workspace::Workspace;

const STAMP: &str = ".stamp.json";

/// A folder to be made under `.cache/`.
pub(crate) struct Folder<'a> {
    /// Where it goes.
    pub(crate) path: PathBuf,
    /// What it is made from, with the version; another one makes it anew.
    pub(crate) source: &'a str,
    /// The files without which it is of no use, relative to it.
    pub(crate) needs: &'a [&'a str],
}

/// What is in a folder's place.
#[derive(Debug, PartialEq)]
pub(crate) enum State {
    /// Complete, and made by this version of setup or by a person.
    Ready,
    /// Nothing, or something of setup's own that is outdated or damaged; says which.
    Missing(String),
    /// A person's files, without the one that is named.
    Incomplete(String),
}

impl Folder<'_> {
    /// Looks at what is in place.
    pub(crate) fn state(&self) -> State {
        let stamp = match fs::read(self.path.join(STAMP)) {
            Ok(bytes) => serde_json::from_slice::<Value>(&bytes).unwrap_or_default(),
            Err(_) => {
                let empty = fs::read_dir(&self.path).map_or(true, |mut entries| entries.next().is_none());
                if empty {
                    return State::Missing("not there yet".into());
                }
                let absent =
                    self.needs.iter().find(|name| size(&self.path.join(name)).is_none_or(|n| n == 0));
                return absent.map_or(State::Ready, |name| State::Incomplete((*name).into()));
            }
        };
        if stamp["source"] != self.source {
            return State::Missing(format!(
                "made from {}",
                stamp["source"].as_str().unwrap_or("something else")
            ));
        }
        let files = stamp["files"].as_object().cloned().unwrap_or_default();
        let damaged = |name: &str| size(&self.path.join(name)) != files.get(name).and_then(Value::as_u64);
        let needed = self.needs.iter().copied().find(|name| !files.contains_key(*name) || damaged(name));
        match needed.or_else(|| files.keys().map(String::as_str).find(|name| damaged(name))) {
            Some(name) => State::Missing(format!("{name} is damaged")),
            None => State::Ready,
        }
    }

    /// Makes the folder unless it is ready. `make` fills the temporary folder that it is given.
    pub(crate) fn ensure(
        &self,
        workspace: &Workspace,
        make: impl FnOnce(&Path) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let why = match self.state() {
            State::Ready => return Ok(()),
            State::Missing(why) => why,
            State::Incomplete(name) => bail!(
                "{} has files that did not come from setup, but no {name}: complete the folder, or remove it",
                self.path.display()
            ),
        };
        println!("setup: {} ({why})", self.source);
        let temporary = workspace.cache.join("tmp").join(self.path.file_name().unwrap_or_default());
        fs::create_dir_all(&temporary).with_context(|| format!("cannot make {}", temporary.display()))?;
        make(&temporary)?;
        let mut files = serde_json::Map::new();
        list(&temporary, "", &mut files)?;
        if let Some(name) = self.needs.iter().find(|name| !files.contains_key(**name)) {
            bail!("{} has no {name}", self.source);
        }
        fs::write(temporary.join(STAMP), json!({"source": self.source, "files": files}).to_string())?;
        self.swap(workspace, &temporary).with_context(|| format!("cannot replace {}", self.path.display()))
    }

    /// Puts `temporary` in the folder's place.
    fn swap(&self, workspace: &Workspace, temporary: &Path) -> anyhow::Result<()> {
        if let Some(parent) = self.path.parent() {
            fs::create_dir_all(parent)?;
        }
        // Renamed away first: a running server keeps the files that it has open.
        if self.path.exists() {
            // By name: one run may replace several folders.
            let name = self.path.file_name().unwrap_or_default().to_string_lossy();
            fs::rename(&self.path, workspace.cache.join("tmp").join(format!("old-{name}")))?;
        }
        fs::rename(temporary, &self.path)?;
        Ok(())
    }
}

/// Runs `work` alone among all setups of this clone, with an empty `.cache/tmp/`.
pub(crate) fn exclusively<T>(
    workspace: &Workspace,
    work: impl FnOnce() -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let cache = &workspace.cache;
    fs::create_dir_all(cache).with_context(|| format!("cannot make {}", cache.display()))?;
    let lock = cache.join("setup.lock");
    let file = File::create(&lock).with_context(|| format!("cannot write {}", lock.display()))?;
    if file.try_lock().is_err() {
        println!("setup: waiting for another setup of this clone");
        file.lock().with_context(|| format!("cannot lock {}", lock.display()))?;
    }
    // With the lock held, what is in there was left by a run that was killed.
    let temporary = cache.join("tmp");
    let clear = || if temporary.exists() { fs::remove_dir_all(&temporary) } else { Ok(()) };
    clear()
        .and_then(|()| fs::create_dir(&temporary))
        .with_context(|| format!("cannot clear {}", temporary.display()))?;
    let result = work();
    // Not worth an error: the next run clears it too.
    let _ = clear();
    result
}

/// The size of a file in bytes; `None` when there is no such file.
fn size(path: &Path) -> Option<u64> {
    fs::metadata(path).ok().filter(fs::Metadata::is_file).map(|metadata| metadata.len())
}

/// Adds every file below `root/below`, by its path from `root`, with its size.
fn list(root: &Path, below: &str, files: &mut serde_json::Map<String, Value>) -> anyhow::Result<()> {
    for entry in fs::read_dir(root.join(below))? {
        let entry = entry?;
        let name = entry.file_name().into_string().ok().context("a file name that is not UTF-8")?;
        let name = if below.is_empty() { name } else { format!("{below}/{name}") };
        if entry.file_type()?.is_dir() {
            list(root, &name, files)?;
        } else {
            files.insert(name, entry.metadata()?.len().into());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A workspace in an empty folder of its own, removed at the end.
    struct Scratch(Workspace);

    impl Scratch {
        fn new(name: &str) -> Scratch {
            let root = std::env::temp_dir().join(format!("xtask-install-{name}-{}", std::process::id()));
            let cache = root.join(".cache");
            fs::create_dir_all(&cache).unwrap();
            Scratch(Workspace { downloads: root.join("downloads"), root, cache })
        }

        fn folder<'a>(&self, source: &'a str) -> Folder<'a> {
            Folder {
                path: self.0.cache.join("models/tiny"),
                source,
                needs: &["config.json", "onnx/model.onnx"],
            }
        }

        fn make(&self, source: &str) -> anyhow::Result<()> {
            exclusively(&self.0, || self.folder(source).ensure(&self.0, fill))
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0.root);
        }
    }

    fn fill(folder: &Path) -> anyhow::Result<()> {
        fs::create_dir_all(folder.join("onnx"))?;
        fs::write(folder.join("config.json"), "{}")?;
        Ok(fs::write(folder.join("onnx/model.onnx"), "weights")?)
    }

    #[test]
    fn a_folder_is_made_once_per_version() {
        let scratch = Scratch::new("once");
        scratch.make("tiny 1").unwrap();
        assert_eq!(scratch.folder("tiny 1").state(), State::Ready);
        let again = scratch.folder("tiny 1").ensure(&scratch.0, |_| bail!("made again"));
        assert!(again.is_ok());
        assert_eq!(scratch.folder("tiny 2").state(), State::Missing("made from tiny 1".into()));
        scratch.make("tiny 2").unwrap();
        assert_eq!(scratch.folder("tiny 2").state(), State::Ready);
    }

    #[test]
    fn two_folders_are_replaced_in_one_run() {
        let scratch = Scratch::new("two");
        let other = |source| Folder { path: scratch.0.cache.join("other"), ..scratch.folder(source) };
        for source in ["tiny 1", "tiny 2"] {
            exclusively(&scratch.0, || {
                scratch.folder(source).ensure(&scratch.0, fill)?;
                other(source).ensure(&scratch.0, fill)
            })
            .unwrap();
        }
        assert_eq!(scratch.folder("tiny 2").state(), State::Ready);
        assert_eq!(other("tiny 2").state(), State::Ready);
    }

    #[test]
    fn a_file_that_was_cut_short_is_noticed_and_mended() {
        let scratch = Scratch::new("cut");
        scratch.make("tiny 1").unwrap();
        let model = scratch.folder("tiny 1").path.join("onnx/model.onnx");
        fs::write(&model, "weigh").unwrap();
        assert_eq!(scratch.folder("tiny 1").state(), State::Missing("onnx/model.onnx is damaged".into()));
        scratch.make("tiny 1").unwrap();
        assert_eq!(fs::read_to_string(model).unwrap(), "weights");
    }

    #[test]
    fn a_failed_attempt_leaves_nothing_in_place() {
        let scratch = Scratch::new("failed");
        let attempt = |make: fn(&Path) -> anyhow::Result<()>| {
            exclusively(&scratch.0, || scratch.folder("tiny 1").ensure(&scratch.0, make))
        };
        assert!(attempt(|folder| fill(folder).and_then(|()| bail!("no network"))).is_err());
        let incomplete = attempt(|folder| Ok(fs::write(folder.join("config.json"), "{}")?)).unwrap_err();
        assert_eq!(incomplete.to_string(), "tiny 1 has no onnx/model.onnx");
        assert_eq!(scratch.folder("tiny 1").state(), State::Missing("not there yet".into()));
        assert!(!scratch.0.cache.join("tmp").exists());
    }

    #[test]
    fn a_persons_own_files_are_used_and_never_overwritten() {
        let scratch = Scratch::new("own");
        let folder = scratch.folder("tiny 1");
        fs::create_dir_all(&folder.path).unwrap();
        fs::write(folder.path.join("config.json"), "{\"mine\": true}").unwrap();
        assert_eq!(folder.state(), State::Incomplete("onnx/model.onnx".into()));
        let error = scratch.make("tiny 1").unwrap_err().to_string();
        assert!(error.ends_with("but no onnx/model.onnx: complete the folder, or remove it"), "{error}");
        fill(&folder.path).unwrap();
        assert_eq!(folder.state(), State::Ready);
    }
}

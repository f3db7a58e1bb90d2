//! Where things are: the repository, its `.cache/`, and the downloads that clones share.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;

/// The folders that the commands work in.
pub(crate) struct Workspace {
    /// The repository's root, absolute.
    pub(crate) root: PathBuf,
    /// `.cache/` in it: what setup makes.
    pub(crate) cache: PathBuf,
    /// Downloaded files, shared by all clones of this user; may not exist.
    pub(crate) downloads: PathBuf,
}

/// Features of the binary that need more than Rust and a C compiler (here: C++), as the demo builds it.
pub(crate) const FEATURES: [&str; 2] = ["--features", "switchboard/usearch"];

/// Every feature of the binary, as it is tested. `torch` needs libtorch, which is a large download.
pub(crate) const ALL_FEATURES: [&str; 2] = ["--features", "switchboard/usearch,switchboard/torch"];

impl Workspace {
    /// Finds the repository that this program was started from.
    pub(crate) fn find() -> anyhow::Result<Workspace> {
        // Cargo sets the variable at run time too; the built-in path is wrong once a clone has moved.
        let manifest = env_path("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
        let root = manifest.join("..").canonicalize().context("the repository is gone")?;
        let cache = root.join(".cache");
        let downloads = download_folder(
            env_path("SWITCHBOARD_CACHE"),
            env_path("XDG_CACHE_HOME"),
            env_path("HOME"),
            &cache,
        );
        Ok(Workspace { root, cache, downloads })
    }

    /// A cargo command in the repository's root.
    pub(crate) fn cargo(&self, subcommand: &str) -> Command {
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.arg(subcommand).current_dir(&self.root);
        command
    }
}

/// A non-empty environment variable as a path.
pub(crate) fn env_path(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value: &OsString| !value.is_empty()).map(PathBuf::from)
}

/// The shared download folder: the project's own variable, then the XDG one, then the home folder;
/// without any, the repository's cache.
fn download_folder(
    own: Option<PathBuf>,
    xdg: Option<PathBuf>,
    home: Option<PathBuf>,
    cache: &Path,
) -> PathBuf {
    // The XDG specification says to ignore relative paths.
    let user = || xdg.filter(|path| path.is_absolute()).or_else(|| Some(home?.join(".cache")));
    own.or_else(|| Some(user()?.join("switchboard"))).unwrap_or_else(|| cache.into()).join("downloads")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn downloads_go_to_the_first_folder_that_is_configured() {
        let some = |path: &str| Some(PathBuf::from(path));
        let find = |own, xdg, home| download_folder(own, xdg, home, Path::new("/clone/.cache"));
        assert_eq!(find(some("/own"), some("/xdg"), some("/home/a")), Path::new("/own/downloads"));
        assert_eq!(find(None, some("/xdg"), some("/home/a")), Path::new("/xdg/switchboard/downloads"));
        assert_eq!(
            find(None, some("relative"), some("/home/a")),
            Path::new("/home/a/.cache/switchboard/downloads")
        );
        assert_eq!(find(None, None, None), Path::new("/clone/.cache/downloads"));
    }
}

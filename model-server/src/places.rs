//! Where the runtime library and the models are when no key says so.
//!
//! [`find`] looks beside the executable, then in `.cache/` of the checkout that the executable was
//! built in, then in `.cache/` of the working folder, if that is a checkout. Not in any other working
//! folder: the library is code, and whoever can write to where the program happens to be started
//! would have it run theirs.

use std::path::{Path, PathBuf};

/// The places in words.
pub(crate) const USUAL: &str =
    "beside the executable, or .cache/ of a checkout (which `cargo xtask setup` fills)";

/// The first that there is of `beside` next to the executable and `cached` in a checkout's `.cache/`.
pub(crate) fn find(beside: &Path, cached: &Path) -> Option<PathBuf> {
    let executable = std::env::current_exe().ok();
    let working = std::env::current_dir().ok();
    among(executable.as_deref(), working.as_deref(), beside, cached)
}

fn among(executable: Option<&Path>, working: Option<&Path>, beside: &Path, cached: &Path) -> Option<PathBuf> {
    let next_to = executable.and_then(Path::parent).map(|folder| folder.join(beside));
    let checkouts = [executable.and_then(built_in), working].into_iter().flatten();
    let in_checkouts =
        checkouts.filter(|root| is_checkout(root)).map(|root| root.join(".cache").join(cached));
    next_to.into_iter().chain(in_checkouts).find(|path| path.exists())
}

/// The folder around the `target` folder that holds `executable`.
fn built_in(executable: &Path) -> Option<&Path> {
    executable.ancestors().find(|folder| folder.ends_with("target"))?.parent()
}

fn is_checkout(folder: &Path) -> bool {
    folder.join("Cargo.toml").is_file() && folder.join("model-server/Cargo.toml").is_file()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn make(path: &Path) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
    }

    /// A checkout with a library in its cache.
    fn checkout(root: &Path) -> PathBuf {
        let library = root.join(".cache/onnxruntime/lib.so");
        for path in [&library, &root.join("Cargo.toml"), &root.join("model-server/Cargo.toml")] {
            make(path);
        }
        library
    }

    fn search(executable: &Path, working: &Path) -> Option<PathBuf> {
        among(Some(executable), Some(working), Path::new("lib.so"), Path::new("onnxruntime/lib.so"))
    }

    #[test]
    fn beside_the_executable_comes_before_its_checkout_before_the_working_folder() {
        let folder = tempfile::tempdir().unwrap();
        let (built, other) = (folder.path().join("built"), folder.path().join("other"));
        let (of_built, of_other) = (checkout(&built), checkout(&other));
        let executable = built.join("target/debug/switchboard");
        let beside = executable.with_file_name("lib.so");
        make(&beside);
        assert_eq!(search(&executable, &other), Some(beside.clone()));
        fs::remove_file(beside).unwrap();
        assert_eq!(search(&executable, &other), Some(of_built.clone()));
        fs::remove_file(of_built).unwrap();
        assert_eq!(search(&executable, &other), Some(of_other));
    }

    #[test]
    fn a_library_in_any_other_working_folder_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        make(&folder.path().join(".cache/onnxruntime/lib.so"));
        assert_eq!(search(Path::new("/usr/bin/switchboard"), folder.path()), None);
        let below = folder.path().join("bin/x/switchboard");
        assert_eq!(search(&below, Path::new("/")), None);
    }
}

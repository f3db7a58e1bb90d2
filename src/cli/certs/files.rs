//! The files of certificates and keys.

use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use anyhow::{Context as _, Result};

/// Reads a text file.
pub(super) fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))
}

/// Writes a file that everybody may read, in whole or not at all.
pub(super) fn write(path: &Path, text: &str) -> Result<()> {
    put(path, text, 0o644)
}

/// Writes a file that its owner alone may read, in whole or not at all.
pub(super) fn write_secret(path: &Path, text: &str) -> Result<()> {
    put(path, text, 0o600)
}

fn put(path: &Path, text: &str, mode: u32) -> Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = Path::new(&beside);
    let written = (|| {
        // What an earlier run left may have other rights.
        match fs::remove_file(beside) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(beside)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(beside, path)
    })();
    written.with_context(|| format!("{} cannot be written", path.display()))
}

//! Folders that one process at a time may have.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

/// Takes a folder for this process, and makes it if need be; none where another process has it. It is free
/// again when the file is closed, by whatever means.
///
/// # Errors
/// What the system says of the folder or the file `lock` in it.
pub fn claim(folder: &Path) -> io::Result<Option<File>> {
    fs::create_dir_all(folder)?;
    let mut options = OpenOptions::new();
    let file = options.create(true).truncate(false).write(true).mode(0o600).open(folder.join("lock"))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(fs::TryLockError::WouldBlock) => Ok(None),
        Err(fs::TryLockError::Error(error)) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_one_owner_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("made");
        let first = claim(&folder).unwrap();
        assert!(first.is_some() && claim(&folder).unwrap().is_none());
        drop(first);
        assert!(claim(&folder).unwrap().is_some());
        fs::write(folder.join("file"), "").unwrap();
        assert!(claim(&folder.join("file")).is_err());
    }
}

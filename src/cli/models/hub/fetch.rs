//! A file's way from a hub to its place here.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
};

use super::{
    Entry, Hub, HubError,
    checksum::{Checksum, Hasher},
    error::answer,
    request::escape_path,
};
use crate::cli::models::choose;

/// A file that has arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fetched {
    /// Its bytes.
    pub(crate) size: u64,
    /// What it was checked with; none where the hub tells nothing.
    pub(crate) checksum: Option<Checksum>,
    /// Bytes that were there from an earlier, cut transfer.
    pub(crate) resumed: u64,
}

impl Hub {
    /// Brings the file `entry` of `model` at `commit` to `destination`, checked, in one attempt. What
    /// arrived of a cut transfer is kept beside it, and the next attempt goes on from there.
    /// `progress` is told how many bytes there are.
    ///
    /// # Errors
    /// [`HubError::passing`] ones are worth another attempt.
    pub(crate) fn fetch(
        &self,
        model: &str,
        commit: &str,
        entry: &Entry,
        destination: &Path,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Fetched, HubError> {
        let write = |path: &Path| {
            let path = path.to_owned();
            move |source| HubError::Write { path, source }
        };
        if let Some(folder) = destination.parent() {
            fs::create_dir_all(folder).map_err(write(folder))?;
        }
        let part = part_of(destination, entry);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&part)
            .map_err(write(&part))?;
        let mut have = file.metadata().map_err(write(&part))?.len();
        // Only of a file that is known by its hash can the beginning be trusted to belong to the rest.
        if entry.checksum.is_none() || entry.size.is_some_and(|size| have > size) {
            have = 0;
        }
        let mut known = entry.clone();
        let mut resumed = have;
        if known.size != Some(have) {
            let url = format!("{}/{model}/resolve/{commit}/{}", self.endpoint, escape_path(&entry.path));
            let what = format!("file {} in {model}", entry.path);
            let reply = self.get(&url, (have > 0).then_some(have), &what)?;
            if !reply.partial {
                (have, resumed) = (0, 0);
            }
            known.size = known.size.or(reply.size);
            known.checksum = known.checksum.or(reply.checksum);
            file.set_len(have).map_err(write(&part))?;
            file.seek(SeekFrom::Start(have)).map_err(write(&part))?;
            let mut body = reply.response.into_body().into_reader();
            self.receive(&known, &mut file, &part, &mut body, have, progress)?;
        }
        let size = file.metadata().map_err(write(&part))?.len();
        file.seek(SeekFrom::Start(0)).map_err(write(&part))?;
        let mut hasher = Hasher::new(known.checksum.as_ref(), size);
        hasher.feed_all(&mut file).map_err(write(&part))?;
        let found = hasher.finish();
        if let (Some(found), Some(expected)) = (&found, &known.checksum)
            && found != expected
        {
            let _ = fs::remove_file(&part);
            let (kind, expected) = expected.parts();
            return Err(HubError::Checksum {
                path: entry.path.clone(),
                kind,
                found: found.parts().1.to_owned(),
                expected: expected.to_owned(),
            });
        }
        // Renamed before its bytes are on the disk, it would look whole after a crash.
        file.sync_all().map_err(write(&part))?;
        fs::rename(&part, destination).map_err(write(destination))?;
        Ok(Fetched { size, checksum: known.checksum, resumed })
    }

    /// Writes `body` to `file` behind the `have` bytes that are there.
    fn receive(
        &self,
        known: &Entry,
        file: &mut File,
        part: &Path,
        body: &mut dyn io::Read,
        have: u64,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(), HubError> {
        let largest = choose::largest(&known.path);
        let limit = known.size.unwrap_or(largest).min(largest);
        let mut got = have;
        let mut buffer = vec![0; 1 << 16];
        let reason = loop {
            progress(got);
            match body.read(&mut buffer) {
                Ok(0) => break None,
                Ok(read) => {
                    got += read as u64;
                    if got > limit {
                        let _ = fs::remove_file(part);
                        return Err(answer(format!("{} is longer than {limit} bytes", known.path)));
                    }
                    let written = file.write_all(&buffer[..read]);
                    written.map_err(|source| HubError::Write { path: part.to_owned(), source })?;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break Some(error.to_string()),
            }
        };
        let whole = known.size.is_none_or(|size| got == size);
        match reason {
            None if whole => Ok(()),
            reason => Err(HubError::Cut {
                path: known.path.clone(),
                got,
                size: known.size.unwrap_or(got),
                reason: reason.unwrap_or_else(|| "it ended early".into()),
            }),
        }
    }
}

/// Where a file is written until it is whole. Its name holds the hash, so that parts of two
/// revisions are never put together.
pub(super) fn part_of(destination: &Path, entry: &Entry) -> PathBuf {
    let name = destination.file_name().unwrap_or_default().to_string_lossy();
    let digits = entry.checksum.as_ref().map_or("unknown", |checksum| checksum.parts().1);
    destination.with_file_name(format!(".{name}.{}.part", &digits[..digits.len().min(16)]))
}

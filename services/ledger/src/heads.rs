//! Signed heads outside the store, so that a store that was cut or made again is found.
//!
//! The folder has `checkpoints.jsonl`, to which every checkpoint is appended, and in `latest/` a file for
//! each tenant with the head after its last transaction. That one has two places of a fixed length, which are
//! written in turn, so that a write that was torn leaves the one before. It is written before records are
//! acknowledged, after they are durable in the store; it is forced to the disk when it is made and not again,
//! so that a loss of power may leave an older head there, never one that the store does not have. A file that
//! is there and holds no head of its tenant was damaged, which is an error and never taken for none.

use std::{
    collections::HashMap,
    fs::{File, OpenOptions},
    io::{BufRead as _, BufReader, Read as _, Write as _},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use crate::{chain::sha256, checkpoint::Checkpoint, error::Error, hex};

/// Bytes of a place in a tenant's file: a line of JSON, filled up with blanks.
const PLACE: usize = 1024;

/// The folder, open for writing.
pub(crate) struct Heads {
    folder: PathBuf,
    journal: Mutex<File>,
    /// The place to write next, by tenant.
    next: Mutex<HashMap<String, u64>>,
}

impl Heads {
    /// Opens the folder, which is made where it is missing. A last line that was torn is taken away.
    ///
    /// # Errors
    /// `File`, which names what cannot be used.
    pub(crate) fn open(folder: &Path) -> Result<Self, Error> {
        let latest = folder.join("latest");
        std::fs::create_dir_all(&latest).map_err(|error| Error::file(&latest, &error))?;
        let path = folder.join("checkpoints.jsonl");
        let open = || {
            let journal = OpenOptions::new().read(true).append(true).create(true).open(&path)?;
            let whole = whole_lines(&journal)?;
            if whole < journal.metadata()?.len() {
                journal.set_len(whole)?;
            }
            std::io::Result::Ok(journal)
        };
        let journal = open().map_err(|error| Error::file(&path, &error))?;
        Ok(Self { folder: folder.to_owned(), journal: Mutex::new(journal), next: Mutex::default() })
    }

    /// Appends checkpoints, which are on the disk when it returns. Blocks.
    ///
    /// # Errors
    /// Those of the file system; what was written of a line stays torn until the next one.
    pub(crate) fn append(&self, checkpoints: &[Checkpoint]) -> std::io::Result<()> {
        let mut journal = self.journal.lock().unwrap_or_else(PoisonError::into_inner);
        let before = journal.metadata()?.len();
        let lines: String = checkpoints.iter().map(|checkpoint| checkpoint.to_line() + "\n").collect();
        let written = journal.write_all(lines.as_bytes()).and_then(|()| journal.sync_data());
        if written.is_err() {
            // Whatever else fails then, the next line shall begin where a line ends.
            let _ = journal.set_len(before);
        }
        written
    }

    /// Writes the head after a transaction in place of the one before the last. Blocks for a write to memory.
    ///
    /// # Errors
    /// Those of the file system.
    pub(crate) fn latest(&self, head: &Checkpoint) -> std::io::Result<()> {
        let path = latest_path(&self.folder, &head.tenant);
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let place = match next.get(&head.tenant) {
            Some(place) => *place,
            None => older_place(&path)?,
        };
        let line = head.to_line();
        let bytes = format!("{line:<width$}\n", width = PLACE - 1);
        match OpenOptions::new().write(true).open(&path) {
            Ok(file) => file.write_all_at(bytes.as_bytes(), place * PLACE as u64)?,
            // Whole from the beginning, whatever comes between: one without a head is a damaged one.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let new = path.with_extension("new");
                let mut file = File::create(&new)?;
                file.write_all(bytes.as_bytes())?;
                file.sync_all()?;
                std::fs::rename(&new, &path)?;
                next.insert(head.tenant.clone(), 1);
                return Ok(());
            }
            Err(error) => return Err(error),
        }
        next.insert(head.tenant.clone(), 1 - place);
        Ok(())
    }

    /// Keeps the heads that an earlier process left in the file that is only appended to, before new ones
    /// take their place: what it knew of records that are gone is evidence.
    ///
    /// # Errors
    /// `File`, which names what cannot be used or was damaged.
    pub(crate) fn keep(&self) -> Result<(), Error> {
        let kept = all_latest(&self.folder)?;
        if kept.is_empty() {
            return Ok(());
        }
        self.append(&kept).map_err(|error| Error::file(self.folder.join("checkpoints.jsonl"), &error))
    }
}

/// The length of a file up to the end of its last whole line.
fn whole_lines(file: &File) -> std::io::Result<u64> {
    let mut at = file.metadata()?.len();
    let mut byte = [0];
    while at > 0 {
        file.read_exact_at(&mut byte, at - 1)?;
        if byte[0] == b'\n' {
            break;
        }
        at -= 1;
    }
    Ok(at)
}

/// A tenant's file; its name is made of a hash, since a name that somebody chose is no path.
fn latest_path(folder: &Path, tenant: &str) -> PathBuf {
    folder.join("latest").join(latest_name(tenant))
}

fn latest_name(tenant: &str) -> String {
    hex::encode(&sha256(&[tenant.as_bytes()])[..16]) + ".head"
}

/// What a tenant's file has in its two places; `None` where there is no file.
fn places(path: &Path) -> std::io::Result<Option<[Option<Checkpoint>; 2]>> {
    let mut bytes = Vec::new();
    match File::open(path) {
        // More than the two places is nothing that was written here.
        Ok(file) => file.take(2 * PLACE as u64).read_to_end(&mut bytes)?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let place = |number: usize| {
        let end = bytes.len().min((number + 1) * PLACE);
        let bytes = bytes.get(number * PLACE..end)?;
        let head = Checkpoint::from_line(std::str::from_utf8(bytes).ok()?.trim_end())?;
        (path.file_name() == Some(latest_name(&head.tenant).as_ref())).then_some(head)
    };
    match [place(0), place(1)] {
        [None, None] => Err(std::io::Error::other("it holds no signed head of its tenant: it was damaged")),
        places => Ok(Some(places)),
    }
}

fn older_place(path: &Path) -> std::io::Result<u64> {
    let places = places(path)?.unwrap_or_default();
    Ok(match places.map(|head| head.map(|head| head.sequence)) {
        [Some(first), Some(second)] => u64::from(second < first),
        [Some(_), None] => 1,
        [None, _] => 0,
    })
}

/// The last head in a tenant's file, where there is one.
fn read_latest(path: &Path) -> Result<Option<Checkpoint>, Error> {
    let places = places(path).map_err(|error| Error::file(path, &error))?;
    Ok(places.into_iter().flatten().flatten().max_by_key(|head| head.sequence))
}

/// The last head of each tenant that has a file.
fn all_latest(folder: &Path) -> Result<Vec<Checkpoint>, Error> {
    let latest = folder.join("latest");
    let fail = |error: &std::io::Error| Error::file(&latest, error);
    let entries = match std::fs::read_dir(&latest) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(fail(&error)),
    };
    let mut heads = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| fail(&error))?.path();
        if path.extension().is_some_and(|extension| extension == "head") {
            heads.extend(read_latest(&path)?);
        }
    }
    Ok(heads)
}

/// Every tenant with a head in the folder.
///
/// # Errors
/// `File`, which names what cannot be read.
pub(crate) fn tenants(folder: &Path) -> Result<Vec<String>, Error> {
    let mut tenants = std::collections::BTreeSet::new();
    journal(folder, |head| {
        tenants.insert(head.tenant);
    })?;
    tenants.extend(all_latest(folder)?.into_iter().map(|head| head.tenant));
    Ok(tenants.into_iter().collect())
}

/// Every head of one tenant, in order of sequence. Blocks.
///
/// # Errors
/// `File` when a file cannot be read or a line of it is no checkpoint, with the line's number.
pub(crate) fn read(folder: &Path, tenant: &str) -> Result<Vec<Checkpoint>, Error> {
    let mut heads = Vec::new();
    journal(folder, |head| {
        if head.tenant == tenant {
            heads.push(head);
        }
    })?;
    heads.extend(read_latest(&latest_path(folder, tenant))?);
    heads.sort_by_key(|head| head.sequence);
    Ok(heads)
}

/// Reads the file that is only appended to.
fn journal(folder: &Path, mut each: impl FnMut(Checkpoint)) -> Result<(), Error> {
    let path = folder.join("checkpoints.jsonl");
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Error::file(path, &error)),
    };
    let whole = whole_lines(&file).map_err(|error| Error::file(&path, &error))?;
    for (number, line) in BufReader::new(file.take(whole)).lines().enumerate() {
        let line = line.map_err(|error| Error::file(&path, &error))?;
        each(Checkpoint::from_line(&line).ok_or_else(|| Error::File {
            path: path.clone(),
            detail: format!("line {} is no checkpoint", number + 1),
        })?);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{checkpoint::Signer, plan::Head};

    fn head(tenant: &str, sequence: u64) -> Checkpoint {
        let mut head = Head::of(tenant);
        head.sequence = sequence;
        Signer::try_new(&[1; 32]).unwrap().sign(tenant, &head, 0)
    }

    #[test]
    fn the_last_head_stands_beside_the_checkpoints() {
        let folder = tempfile::tempdir().unwrap();
        let heads = Heads::open(folder.path()).unwrap();
        heads.append(&[head("acme", 10), head("globex", 4)]).unwrap();
        for sequence in 11..15 {
            heads.latest(&head("acme", sequence)).unwrap();
        }
        drop(heads);
        let again = Heads::open(folder.path()).unwrap();
        again.latest(&head("acme", 15)).unwrap();
        let found: Vec<u64> = read(folder.path(), "acme").unwrap().iter().map(|head| head.sequence).collect();
        assert_eq!(found, [10, 15]);
        assert_eq!(tenants(folder.path()).unwrap(), ["acme", "globex"]);
        again.keep().unwrap();
        assert_eq!(read(folder.path(), "acme").unwrap().len(), 3);
    }

    #[test]
    fn a_torn_line_and_a_torn_place_leave_what_was_whole() {
        let folder = tempfile::tempdir().unwrap();
        let heads = Heads::open(folder.path()).unwrap();
        heads.append(&[head("acme", 1)]).unwrap();
        heads.latest(&head("acme", 2)).unwrap();
        heads.latest(&head("acme", 3)).unwrap();
        drop(heads);
        let journal = folder.path().join("checkpoints.jsonl");
        OpenOptions::new().append(true).open(&journal).unwrap().write_all(b"{\"tenant\":\"ac").unwrap();
        let path = latest_path(folder.path(), "acme");
        let file = OpenOptions::new().write(true).open(path).unwrap();
        file.write_all_at(b"{\"tenant\":\"x", PLACE as u64).unwrap();
        let sequences = || -> Vec<u64> {
            read(folder.path(), "acme").unwrap().iter().map(|head| head.sequence).collect()
        };
        assert_eq!(sequences(), [1, 2]);
        let heads = Heads::open(folder.path()).unwrap();
        heads.append(&[head("acme", 4)]).unwrap();
        heads.latest(&head("acme", 5)).unwrap();
        assert_eq!(sequences(), [1, 4, 5]);
    }

    #[test]
    fn a_damaged_file_is_told_and_never_taken_for_none() {
        let folder = tempfile::tempdir().unwrap();
        let heads = Heads::open(folder.path()).unwrap();
        heads.latest(&head("acme", 1)).unwrap();
        heads.latest(&head("globex", 9)).unwrap();
        let path = latest_path(folder.path(), "acme");
        let whole = std::fs::read(&path).unwrap();
        let others = std::fs::read(latest_path(folder.path(), "globex")).unwrap();
        for damaged in [&b""[..], b"{}", &whole[..PLACE / 4], &others] {
            std::fs::write(&path, damaged).unwrap();
            let told = |error: Error| error.to_string().contains("it was damaged");
            assert!(told(read(folder.path(), "acme").unwrap_err()));
            assert!(told(tenants(folder.path()).unwrap_err()));
            let again = Heads::open(folder.path()).unwrap();
            assert!(told(again.keep().unwrap_err()));
            assert!(again.latest(&head("acme", 2)).is_err(), "what is left of it is not written over");
        }
        assert_eq!(read(folder.path(), "globex").unwrap().len(), 1);
        std::fs::write(&path, whole).unwrap();
        assert_eq!(read(folder.path(), "acme").unwrap().len(), 1);
    }

    #[test]
    fn a_line_that_is_no_checkpoint_is_named() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("checkpoints.jsonl"), "{}\n").unwrap();
        assert!(read(folder.path(), "acme").unwrap_err().to_string().contains("line 1"));
    }
}

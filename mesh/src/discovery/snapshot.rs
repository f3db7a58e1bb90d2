//! What was last known, in a file, for a start without a registry.
//!
//! One line says what this is, in which version, and the SHA-256 of the rest, which is JSON. It is written
//! beside its place and moved there, so that a crash leaves the old one or the new one.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs::File,
    io::{self, Read as _, Write as _},
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{
    About, Member,
    layout::{is_id, is_role, told},
};

/// What the first line begins with: what it is, and the version of its format.
const MARK: &str = "switchboard-members 1 ";

/// The largest file that is read or written, in bytes.
const LARGEST: u64 = 64 << 20;

/// A file that is not used.
#[derive(Debug, thiserror::Error)]
pub(super) enum SnapshotError {
    #[error("it cannot be read")]
    Read(#[from] io::Error),
    #[error("it is not a snapshot of this format")]
    Foreign,
    #[error("it is damaged")]
    Damaged,
    #[error("it is of another cluster")]
    Cluster,
    #[error("it is larger than {LARGEST} bytes")]
    TooLarge,
}

#[derive(Deserialize, Serialize)]
struct Stored {
    cluster: String,
    /// Seconds since 1970; for people.
    as_of: u64,
    roles: BTreeMap<String, Vec<StoredNode>>,
}

#[derive(Deserialize, Serialize)]
struct StoredNode {
    id: String,
    address: String,
    about: About,
}

/// Writes what is known of `cluster` now. Blocks.
pub(super) fn write(
    path: &Path,
    cluster: &str,
    members: &BTreeMap<String, Vec<Arc<Member>>>,
) -> io::Result<()> {
    let node = |member: &Arc<Member>| StoredNode {
        id: member.id.clone(),
        address: member.uri.authority().map(ToString::to_string).unwrap_or_default(),
        about: member.about.clone(),
    };
    let as_of = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let roles = members.iter().map(|(role, nodes)| (role.clone(), nodes.iter().map(node).collect()));
    let stored = Stored { cluster: cluster.to_owned(), as_of, roles: roles.collect() };
    let body = serde_json::to_vec(&stored)?;
    let head = format!("{MARK}{}\n", sum(&body));
    if head.len() as u64 + body.len() as u64 > LARGEST {
        return Err(io::Error::other(SnapshotError::TooLarge));
    }
    let beside = path.with_file_name(format!(
        "{}.{}.tmp",
        path.file_name().unwrap_or_default().to_string_lossy(),
        std::process::id()
    ));
    let written = (|| {
        let mut file = File::create(&beside)?;
        file.write_all(head.as_bytes())?;
        file.write_all(&body)?;
        file.sync_all()?;
        std::fs::rename(&beside, path)?;
        // The move itself must last as well.
        path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
    })();
    if written.is_err() {
        let _ = std::fs::remove_file(&beside);
    }
    written
}

/// What was known, by role, and when.
pub(super) struct Kept {
    pub(super) members: BTreeMap<String, Vec<Member>>,
    pub(super) as_of: SystemTime,
}

/// Reads what was known of `cluster`; `None` where there is no file. Blocks.
pub(super) fn read(path: &Path, cluster: &str) -> Result<Option<Kept>, SnapshotError> {
    let metadata = match std::fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        metadata => metadata?,
    };
    if !metadata.is_file() {
        return Err(SnapshotError::Foreign);
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(LARGEST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LARGEST {
        return Err(SnapshotError::TooLarge);
    }
    parse(&bytes, cluster).map(Some)
}

fn parse(bytes: &[u8], cluster: &str) -> Result<Kept, SnapshotError> {
    let rest = bytes.strip_prefix(MARK.as_bytes()).ok_or(SnapshotError::Foreign)?;
    let end = rest.iter().position(|byte| *byte == b'\n').ok_or(SnapshotError::Damaged)?;
    let (sum_told, body) = (&rest[..end], &rest[end + 1..]);
    if sum(body).as_bytes() != sum_told {
        return Err(SnapshotError::Damaged);
    }
    let stored: Stored = serde_json::from_slice(body).map_err(|_| SnapshotError::Damaged)?;
    if stored.cluster != cluster {
        return Err(SnapshotError::Cluster);
    }
    let as_of = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(stored.as_of));
    let roles = stored.roles.into_iter().filter(|(role, _)| is_role(role)).map(|(role, nodes)| {
        let nodes = nodes.into_iter().filter(|node| is_id(&node.id));
        (role, nodes.filter_map(|node| told(&node.id, &node.address, node.about).ok()).collect())
    });
    Ok(Kept { members: roles.collect(), as_of: as_of.unwrap_or(SystemTime::UNIX_EPOCH) })
}

fn sum(body: &[u8]) -> String {
    Sha256::digest(body).iter().fold(String::with_capacity(64), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use proptest::prelude::*;
    use tempfile::TempDir;

    use super::*;

    fn written() -> (TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("members");
        let about = About { zone: "a".into(), started_at: 7, ..About::default() };
        let member = told("one", "10.0.0.7:7070", about).unwrap();
        let members = BTreeMap::from([("inference".to_owned(), vec![Arc::new(member)])]);
        write(&path, "default", &members).unwrap();
        (folder, path)
    }

    #[test]
    fn what_was_written_is_read_again() {
        let (folder, path) = written();
        let Kept { members, as_of } = read(&path, "default").unwrap().unwrap();
        let member = &members["inference"][0];
        assert_eq!((&*member.id, member.uri.to_string()), ("one", "http://10.0.0.7:7070/".into()));
        assert_eq!((&*member.about.zone, member.about.started_at), ("a", 7));
        assert!(SystemTime::now().duration_since(as_of).unwrap() < Duration::from_secs(60));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn none_is_none_and_a_foreign_one_is_refused() {
        let (folder, path) = written();
        assert!(read(&folder.path().join("other"), "default").unwrap().is_none());
        assert!(matches!(read(&path, "another"), Err(SnapshotError::Cluster)));
        assert!(matches!(read(folder.path(), "default"), Err(SnapshotError::Foreign)));
        for foreign in ["", "switchboard-members 2 00\n{}", "SQLite format 3"] {
            std::fs::write(&path, foreign).unwrap();
            assert!(matches!(read(&path, "default"), Err(SnapshotError::Foreign)), "{foreign}");
        }
    }

    #[test]
    fn a_place_that_cannot_be_written_is_an_error_and_leaves_what_was_there() {
        let (folder, path) = written();
        assert!(write(&folder.path().join("none/members"), "default", &BTreeMap::new()).is_err());
        assert!(read(&path, "default").unwrap().is_some());
    }

    #[test]
    fn a_time_beyond_all_times_harms_nothing() {
        let body = format!(r#"{{"cluster":"default","as_of":{},"roles":{{}}}}"#, u64::MAX);
        let text = format!("{MARK}{}\n{body}", sum(body.as_bytes()));
        assert!(parse(text.as_bytes(), "default").is_ok());
    }

    proptest! {
        #[test]
        fn a_damaged_one_is_refused(at in any::<prop::sample::Index>(), flip in 1_u8.., cut in any::<bool>()) {
            let (_folder, path) = written();
            let mut bytes = std::fs::read(&path).unwrap();
            let at = at.index(bytes.len());
            if cut { bytes.truncate(at) } else { bytes[at] ^= flip }
            std::fs::write(&path, &bytes).unwrap();
            prop_assert!(read(&path, "default").is_err());
        }

        #[test]
        fn no_bytes_harm(bytes: Vec<u8>) {
            let _ = parse(&bytes, "default");
            let _ = parse(&[MARK.as_bytes(), &bytes].concat(), "default");
        }
    }
}

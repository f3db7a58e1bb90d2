//! Data of tensors in other files.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use crate::{proto::StringStringEntryProto, short::short};

/// Files that the tensors of one graph may lie in.
const MOST_FILES: usize = 4096;
/// Bytes of a location.
const LONGEST: usize = 1024;

/// Where such files may be, and which were found.
pub(super) struct Places {
    /// What locations are relative to: where the graph was found, links not followed.
    folder: PathBuf,
    /// Folders that files may be in, links followed.
    allowed: [PathBuf; 2],
    /// By location: the file, links followed, and its size.
    found: BTreeMap<String, (PathBuf, u64)>,
}

impl Places {
    pub(super) fn new(graph: &Path, root: &Path) -> io::Result<Self> {
        let beside = graph.canonicalize()?.parent().map(Path::to_owned).unwrap_or_default();
        let folder = graph.parent().map(Path::to_owned).unwrap_or_default();
        Ok(Self { folder, allowed: [root.canonicalize()?, beside], found: BTreeMap::new() })
    }

    /// The files that were found.
    pub(super) fn files(&self) -> Vec<PathBuf> {
        let mut files: Vec<PathBuf> = self.found.values().map(|(path, _)| path.clone()).collect();
        files.sort();
        files.dedup();
        files
    }

    /// Checks that a tensor of `bytes` bytes is where `entries` says.
    pub(super) fn check(&mut self, entries: &[StringStringEntryProto], bytes: u64) -> Result<(), String> {
        let location =
            entry(entries, "location")?.ok_or("lies in another file, but in none that it names")?;
        let offset = number(entries, "offset")?.unwrap_or(0);
        if let Some(length) = number(entries, "length")?.filter(|&length| length != bytes) {
            return Err(format!("needs {bytes} bytes by its shape, but {length} by its length"));
        }
        let size = self.size(location)?;
        match offset.checked_add(bytes) {
            Some(end) if end <= size => Ok(()),
            _ => {
                Err(format!("needs {bytes} bytes at {offset} of {}, which has {size} bytes", short(location)))
            }
        }
    }

    /// The size of the file at `location`, which must be inside the allowed folders.
    fn size(&mut self, location: &str) -> Result<u64, String> {
        if let Some((_, size)) = self.found.get(location) {
            return Ok(*size);
        }
        if self.found.len() == MOST_FILES {
            return Err(format!("is in one file too many: {MOST_FILES} are allowed"));
        }
        let shown = short(location);
        if !is_plain(location) {
            let allowed = "only a relative path without .. and special characters is allowed";
            return Err(format!("lies in {shown}: {allowed}"));
        }
        let unreadable = |error: io::Error| format!("lies in {shown}, which cannot be read: {error}");
        let path = self.folder.join(location).canonicalize().map_err(unreadable)?;
        if !self.allowed.iter().any(|folder| path.starts_with(folder)) {
            return Err(format!("lies in {shown}, which leads out of the model's folder"));
        }
        let metadata = fs::metadata(&path).map_err(unreadable)?;
        if !metadata.is_file() {
            return Err(format!("lies in {shown}, which is not a file"));
        }
        self.found.insert(location.to_owned(), (path, metadata.len()));
        Ok(metadata.len())
    }
}

/// Whether a location is names joined by slashes. What is left out besides `..` and absolute paths: a
/// backslash and a colon, which lead elsewhere on other systems, and `*`, with which ONNX Runtime marks
/// an address in memory in place of a file.
fn is_plain(location: &str) -> bool {
    let allowed = |c: char| !c.is_control() && !"\\:*?\"<>|".contains(c);
    location.len() <= LONGEST
        && location.chars().all(allowed)
        && location.split('/').all(|name| !["", ".", ".."].contains(&name))
}

fn number(entries: &[StringStringEntryProto], key: &str) -> Result<Option<u64>, String> {
    let Some(value) = entry(entries, key)? else {
        return Ok(None);
    };
    let digits = value.bytes().all(|byte| byte.is_ascii_digit());
    let number = value.parse().ok().filter(|&number: &u64| digits && number <= i64::MAX as u64);
    number.map(Some).ok_or_else(|| format!("has the {key} {}, which is no number of bytes", short(value)))
}

/// The value of `key`. Two of them are refused: runtimes differ in which one counts.
fn entry<'a>(entries: &'a [StringStringEntryProto], key: &str) -> Result<Option<&'a str>, String> {
    let mut values = entries.iter().filter(|entry| entry.key == key).map(|entry| entry.value.as_str());
    match (values.next(), values.next()) {
        (value, None) => Ok(value),
        _ => Err(format!("says twice what its {key} is")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(location: &str, offset: &str, length: &str) -> Vec<StringStringEntryProto> {
        let all = [("location", location), ("offset", offset), ("length", length)];
        let given = all.into_iter().filter(|(_, value)| !value.is_empty());
        given.map(|(key, value)| StringStringEntryProto::new(key, value)).collect()
    }

    fn model() -> (tempfile::TempDir, Places) {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("model");
        fs::create_dir_all(root.join("onnx/more")).unwrap();
        fs::write(root.join("onnx/model.onnx"), "").unwrap();
        fs::write(root.join("onnx/data"), [0; 100]).unwrap();
        fs::write(root.join("onnx/more/data"), [0; 10]).unwrap();
        fs::write(folder.path().join("secret"), [0; 100]).unwrap();
        let places = Places::new(&root.join("onnx/model.onnx"), &root).unwrap();
        (folder, places)
    }

    #[test]
    fn data_is_found_where_it_is_said_to_be() {
        let (folder, mut places) = model();
        places.check(&entries("data", "60", "40"), 40).unwrap();
        places.check(&entries("data", "", ""), 100).unwrap();
        places.check(&entries("more/data", "10", ""), 0).unwrap();
        let root = folder.path().canonicalize().unwrap().join("model/onnx");
        assert_eq!(places.files(), [root.join("data"), root.join("more/data")]);
    }

    #[test]
    fn data_that_is_not_there_is_refused() {
        let (_folder, mut places) = model();
        for (location, offset, length, expected) in [
            ("data", "61", "40", "needs 40 bytes at 61 of data, which has 100 bytes"),
            ("data", "9223372036854775807", "", "needs 40 bytes at"),
            ("data", "9223372036854775808", "", "no number of bytes"),
            ("data", "-1", "", "the offset -1"),
            ("data", "+1", "", "the offset +1"),
            ("data", "0", "39", "40 bytes by its shape, but 39 by its length"),
            ("nothing", "0", "40", "cannot be read"),
            ("more", "0", "40", "not a file"),
            ("", "0", "40", "none that it names"),
        ] {
            let error = places.check(&entries(location, offset, length), 40).unwrap_err();
            assert!(error.contains(expected), "{location} {offset} {length}: {error}");
        }
        let twice = [entries("data", "0", ""), entries("", "60", "")].concat();
        assert!(places.check(&twice, 40).unwrap_err().contains("twice what its offset is"));
    }

    #[test]
    fn locations_that_lead_elsewhere_are_refused() {
        let (folder, mut places) = model();
        let absolute = folder.path().join("secret").display().to_string();
        for location in [
            absolute.as_str(),
            "../../secret",
            "more/../data",
            "./data",
            "more//data",
            "data/",
            "..\\..\\secret",
            "C:data",
            "*/_ORT_MEM_ADDR_/*",
            "data\0",
            &"x".repeat(5000),
        ] {
            let error = places.check(&entries(location, "0", "40"), 40).unwrap_err();
            assert!(error.contains("only a relative path") && error.len() < 300, "{location}: {error}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn links_may_lead_to_where_the_graph_is_and_nowhere_else() {
        use std::os::unix::fs::symlink;
        let (folder, mut places) = model();
        let onnx = folder.path().join("model/onnx");
        symlink(folder.path().join("secret"), onnx.join("link")).unwrap();
        let error = places.check(&entries("link", "0", "40"), 40).unwrap_err();
        assert!(error.contains("leads out of the model's folder"), "{error}");

        // As in a hub's cache: names that are links into one folder.
        let (blobs, snapshot) = (folder.path().join("blobs"), folder.path().join("snapshot"));
        fs::create_dir(&blobs).unwrap();
        fs::create_dir(&snapshot).unwrap();
        for (name, blob) in [("model.onnx", "1"), ("model.onnx_data", "2")] {
            fs::write(blobs.join(blob), [0; 100]).unwrap();
            symlink(blobs.join(blob), snapshot.join(name)).unwrap();
        }
        let mut places = Places::new(&snapshot.join("model.onnx"), &snapshot).unwrap();
        places.check(&entries("model.onnx_data", "0", "40"), 40).unwrap();
    }
}

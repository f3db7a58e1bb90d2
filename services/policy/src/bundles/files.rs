//! A bundle's files: what may lie in its folder, and how much of it.
//!
//! ```text
//! <name>/bundle.toml     version = "1.0.0", and a description
//!        *.rego          rules, package `switchboard`
//!        *_test.rego     their tests, `test_*` rules of any package
//!        data.json       what the rules look up, as `data.*`; or data.yaml
//!        *.md            for people
//! ```

use std::{
    fs, io,
    io::Read as _,
    path::{Path, PathBuf},
    time::SystemTime,
};

use regorus::Value;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::BundleError;

/// The most files of rules, tests among them.
const MOST_FILES: usize = 64;
/// The most bytes of one file of rules; a page of rules has some 3,000.
const MOST_RULES: u64 = 256 << 10;
/// The most bytes of the data, which each evaluation can look through.
const MOST_DATA: u64 = 1 << 20;
/// The most names in a folder that are looked at.
const MOST_NAMES: usize = 1_000;

/// A bundle as it was read.
#[derive(Clone)]
pub(crate) struct Sources {
    pub(crate) name: String,
    pub(crate) version: String,
    /// Rules: file name and text.
    pub(crate) rules: Vec<(String, String)>,
    /// Tests of the rules.
    pub(crate) tests: Vec<(String, String)>,
    pub(crate) data: Option<Value>,
    /// SHA-256 of all of it, in hexadecimal.
    pub(crate) hash: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    version: String,
    #[serde(default)]
    #[expect(dead_code, reason = "for people; it may be there")]
    description: String,
}

/// Tells one content of a folder from another without reading it: name, length, time and inode of each file.
pub(crate) type Stamp = Vec<(String, u64, Option<SystemTime>, u64)>;

/// What a folder looks like now.
///
/// # Errors
/// [`BundleError::Read`] when it cannot be listed.
pub(crate) fn stamp(folder: &Path) -> Result<Stamp, BundleError> {
    use std::os::unix::fs::MetadataExt as _;
    names(folder)?
        .into_iter()
        .map(|name| {
            let path = folder.join(&name);
            let about = fs::metadata(&path).map_err(|source| BundleError::Read { path, source })?;
            Ok((name, about.len(), about.modified().ok(), about.ino()))
        })
        .collect()
}

/// Reads the bundle in a folder, whose name is the bundle's.
///
/// # Errors
/// [`BundleError`], which names the file.
pub(crate) fn read(folder: &Path) -> Result<Sources, BundleError> {
    let name = folder.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
    let mut files = Vec::new();
    for name in names(folder)? {
        let most = if name.starts_with("data.") { MOST_DATA } else { MOST_RULES };
        let text = text(&folder.join(&name), most)?;
        files.push((name, text));
    }
    assemble(name, folder, files)
}

/// Makes a bundle of files by name; `folder` is for messages.
///
/// # Errors
/// [`BundleError`], which names the file.
pub(crate) fn assemble(
    name: String,
    folder: &Path,
    mut files: Vec<(String, String)>,
) -> Result<Sources, BundleError> {
    files.sort();
    let hash = hash(&files);
    let (mut rules, mut tests, mut data, mut version) = (Vec::new(), Vec::new(), None, None);
    for (file, text) in files {
        let path = folder.join(&file);
        match file.as_str() {
            "bundle.toml" => version = Some(manifest(path, &text)?),
            "data.json" | "data.yaml" => {
                let value = match file.as_str() {
                    "data.json" => Value::from_json_str(&text).map_err(|error| error.to_string()),
                    _ => Value::from_yaml_str(&text).map_err(|error| error.to_string()),
                };
                let value = value.map_err(|reason| BundleError::Data { path: path.clone(), reason })?;
                if !matches!(value, Value::Object(_)) {
                    return Err(BundleError::Data { path, reason: "an object is expected".to_owned() });
                }
                if data.replace(value).is_some() {
                    let reason = "there is a data.json as well; one of them is enough".to_owned();
                    return Err(BundleError::Data { path, reason });
                }
            }
            rego if rego.ends_with("_test.rego") => tests.push((file, text)),
            _ => rules.push((file, text)),
        }
    }
    let Some(version) = version else {
        let reason = "it is missing; one line is enough: version = \"1.0.0\"".to_owned();
        return Err(BundleError::Manifest { path: folder.join("bundle.toml"), reason });
    };
    if rules.is_empty() {
        return Err(BundleError::NoRules { path: folder.to_owned() });
    }
    if rules.len() + tests.len() > MOST_FILES {
        let allowed = "at most 64 files of rules and tests";
        return Err(BundleError::TooLarge { path: folder.to_owned(), allowed });
    }
    Ok(Sources { name, version, rules, tests, data, hash })
}

fn manifest(path: PathBuf, text: &str) -> Result<String, BundleError> {
    match toml::from_str::<Manifest>(text) {
        Ok(Manifest { version, .. })
            if (1..=64).contains(&version.len()) && !version.contains(char::is_control) =>
        {
            Ok(version)
        }
        Ok(_) => {
            let reason = "version is 1 to 64 bytes without control characters".to_owned();
            Err(BundleError::Manifest { path, reason })
        }
        Err(error) => Err(BundleError::Manifest { path, reason: error.to_string() }),
    }
}

/// The files that belong to a bundle, in order of name. One that looks like nothing known is refused: it would
/// be left out without a word.
fn names(folder: &Path) -> Result<Vec<String>, BundleError> {
    let failed = |source: io::Error| BundleError::Read { path: folder.to_owned(), source };
    let mut names = Vec::new();
    for (at, entry) in fs::read_dir(folder).map_err(failed)?.enumerate() {
        let entry = entry.map_err(failed)?;
        if at >= MOST_NAMES {
            let allowed = "at most 1,000 names in the folder of a bundle";
            return Err(BundleError::TooLarge { path: folder.to_owned(), allowed });
        }
        let Ok(name) = entry.file_name().into_string() else {
            return Err(BundleError::Name { path: entry.path() });
        };
        // What editors and mounts leave behind, and what is for people.
        if name.starts_with('.') || name.ends_with('~') || name.ends_with(".md") {
            continue;
        }
        let known = name.ends_with(".rego") || ["bundle.toml", "data.json", "data.yaml"].contains(&&*name);
        if !known {
            return Err(BundleError::Name { path: entry.path() });
        }
        names.push(name);
    }
    names.sort();
    Ok(names)
}

fn text(path: &Path, most: u64) -> Result<String, BundleError> {
    let failed = |source| BundleError::Read { path: path.to_owned(), source };
    // To open a pipe would wait without end.
    if !fs::metadata(path).map_err(failed)?.is_file() {
        return Err(failed(io::Error::new(io::ErrorKind::InvalidInput, "it is no plain file")));
    }
    let file = fs::File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > most {
        let allowed = if most == MOST_DATA { "at most 1 MiB of data" } else { "at most 256 KiB in a file" };
        return Err(BundleError::TooLarge { path: path.to_owned(), allowed });
    }
    String::from_utf8(bytes).map_err(|error| failed(io::Error::new(io::ErrorKind::InvalidData, error)))
}

fn hash(files: &[(String, String)]) -> String {
    let mut hash = Sha256::new();
    for (name, text) in files {
        // Lengths keep the end of one from being taken for the beginning of the next.
        for part in [name, text] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part.as_bytes());
        }
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

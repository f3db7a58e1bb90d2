//! Where the ledger's own keys come from: the configuration, a file, or a file that is made at the first
//! start.

use std::{
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use mesh::config::Secret;
use switchboard_mesh as mesh;

use crate::{
    checkpoint::{Signer, Trusted},
    config::Config,
    error::Error,
    hex,
    seal::{self, Masters},
};

/// The most bytes of a key file.
const MAX_FILE: u64 = 65_536;

/// The keys of a ledger.
pub(crate) struct Keys {
    pub(crate) signer: Signer,
    pub(crate) masters: Masters,
    pub(crate) trusted: Trusted,
    /// The master key where it was made now: it is kept once it is known that none was lost.
    pub(crate) made: Option<Made>,
}

/// A key that was made and that no file has yet.
pub(crate) struct Made {
    file: PathBuf,
    text: String,
}

impl Made {
    /// Writes its file. Blocks.
    ///
    /// # Errors
    /// `File`.
    pub(crate) fn keep(&self) -> Result<(), Error> {
        write(&self.file, &self.text).map_err(|error| Error::file(&self.file, &error))?;
        tracing::info!(file = %self.file.display(), "a key was made; keep a copy of it apart from the data");
        Ok(())
    }

    /// Says that what the store has was wrapped with a key that is not there.
    pub(crate) fn lost(&self) -> Error {
        Error::File {
            path: self.file.clone(),
            detail: "the file is not there, and the store has keys of subjects that its key wraps; put a copy of it back"
                .into(),
        }
    }
}

/// Reads the keys; those of `folder` that are missing are made. Blocks.
///
/// # Errors
/// `Key` or `File`, which name what is not as it should be.
pub(crate) fn load(config: &Config, folder: &Path) -> Result<Keys, Error> {
    let own = folder.join("keys");
    let signing = file_or(&config.signing_key_file, || own.join("signing.key"));
    let (text, made) = obtain(&config.signing_key, &config.signing_key_file, &signing, || {
        Ok(hex::encode(&seal::random::<32>()?))
    })?;
    if let Some(made) = made {
        made.keep()?;
    }
    let signer = Signer::try_new(&seed(text.trim())?)?;
    let master = file_or(&config.master_keys_file, || own.join("master.keys"));
    let (text, made) = obtain(&config.master_keys, &config.master_keys_file, &master, || {
        Ok(format!("first:{}", hex::encode(&seal::random::<32>()?)))
    })?;
    let masters = Masters::try_new("ledger.master_keys", &text)?;
    let trusted = Trusted::new(trusted(config)?.chain([signer.public()]));
    // For those who check proofs: the public key, by itself.
    if own.is_dir() || made.is_some() {
        std::fs::create_dir_all(&own).map_err(|error| Error::file(&own, &error))?;
        let public = own.join("signing.pub");
        let text = hex::encode(&signer.public()) + "\n";
        if std::fs::read_to_string(&public).ok().as_deref() != Some(&text) {
            std::fs::write(&public, text).map_err(|error| Error::file(&public, &error))?;
        }
    }
    Ok(Keys { signer, masters, trusted, made })
}

/// The public keys that are believed when a ledger is only read: those of the configuration, and this data
/// folder's own where there is one. Blocks.
///
/// # Errors
/// As [`load`].
pub(crate) fn load_trusted(config: &Config, folder: &Path) -> Result<Trusted, Error> {
    let own = file_or(&config.signing_key_file, || folder.join("keys").join("signing.key"));
    let own = if !config.signing_key.expose().is_empty() {
        Some(Signer::try_new(&seed(config.signing_key.expose())?)?.public())
    } else if own.is_file() {
        Some(Signer::try_new(&seed(read(&own)?.trim())?)?.public())
    } else {
        let public = folder.join("keys").join("signing.pub");
        if public.is_file() { hex::decode(read(&public)?.trim()) } else { None }
    };
    Ok(Trusted::new(trusted(config)?.chain(own)))
}

fn trusted(config: &Config) -> Result<impl Iterator<Item = [u8; 32]>, Error> {
    let keys = config.trusted_keys.iter().map(|key| {
        hex::decode::<32>(key).ok_or_else(|| Error::Key {
            key: "ledger.trusted_keys".into(),
            allowed: "64 hexadecimal digits each".into(),
        })
    });
    Ok(keys.collect::<Result<Vec<_>, _>>()?.into_iter())
}

fn seed(text: &str) -> Result<[u8; 32], Error> {
    hex::decode(text).ok_or_else(|| Error::Key {
        key: "ledger.signing_key".into(),
        allowed: "64 hexadecimal digits".into(),
    })
}

fn file_or(file: &Path, usual: impl FnOnce() -> PathBuf) -> PathBuf {
    if file.as_os_str().is_empty() { usual() } else { file.to_owned() }
}

/// The secret itself, or what its file holds. One whose file was not asked for by name is made where that is
/// missing.
fn obtain(
    given: &Secret,
    asked: &Path,
    file: &Path,
    make: impl FnOnce() -> Result<String, Error>,
) -> Result<(String, Option<Made>), Error> {
    if !given.expose().is_empty() {
        return Ok((given.expose().to_owned(), None));
    }
    if asked.as_os_str().is_empty() && !file.exists() {
        let made = Made { file: file.to_owned(), text: make()? };
        return Ok((made.text.clone(), Some(made)));
    }
    Ok((read(file)?, None))
}

/// A small text file.
pub(crate) fn read(file: &Path) -> Result<String, Error> {
    let length = std::fs::metadata(file).map_err(|error| Error::file(file, &error))?.len();
    if length > MAX_FILE {
        return Err(Error::File {
            path: file.to_owned(),
            detail: format!("at most {MAX_FILE} bytes are read"),
        });
    }
    std::fs::read_to_string(file).map_err(|error| Error::file(file, &error))
}

/// Writes a secret that only the owner can read, all of it or nothing.
fn write(file: &Path, text: &str) -> std::io::Result<()> {
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let new = file.with_extension("new");
    let mut out =
        std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    out.write_all(text.as_bytes())?;
    out.write_all(b"\n")?;
    out.sync_all()?;
    std::fs::rename(&new, file)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn keys_are_made_once_and_only_their_owner_reads_them() {
        let folder = tempfile::tempdir().unwrap();
        let first = load(&Config::default(), folder.path()).unwrap();
        first.made.as_ref().unwrap().keep().unwrap();
        let again = load(&Config::default(), folder.path()).unwrap();
        assert_eq!(first.signer.public(), again.signer.public());
        assert!(again.made.is_none());
        let (kept, _) = first.masters.make("acme", "s").unwrap();
        assert!(again.masters.unwrap(&kept).is_ok());
        for name in ["signing.key", "master.keys"] {
            let mode = std::fs::metadata(folder.path().join("keys").join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
        let public = read(&folder.path().join("keys/signing.pub")).unwrap();
        assert_eq!(hex::decode::<32>(public.trim()), Some(first.signer.public()));
    }

    #[test]
    fn a_file_that_is_named_must_be_there() {
        let folder = tempfile::tempdir().unwrap();
        let named = Config { signing_key_file: folder.path().join("none"), ..Config::default() };
        assert!(matches!(load(&named, folder.path()), Err(Error::File { .. })));
        std::fs::write(folder.path().join("none"), "abc").unwrap();
        assert!(matches!(load(&named, folder.path()), Err(Error::Key { .. })));
    }
}

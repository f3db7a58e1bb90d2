//! Finding the ONNX Runtime library, and seeing that it is whole before it is loaded.

use std::{
    env::consts::{DLL_PREFIX, DLL_SUFFIX},
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
};

use crate::{error::Error, places};

/// The library at `configured`; when that is empty, the first one that [`places::find`] finds.
///
/// # Errors
/// Names the path and what is wrong with it.
pub(crate) fn find(configured: &Path) -> Result<PathBuf, Error> {
    let path = if configured.as_os_str().is_empty() { search()? } else { configured.to_owned() };
    // The loader takes a relative path for one beside the executable, or for a name to search.
    let path = std::path::absolute(&path).unwrap_or(path);
    check(&path).map_err(|error| {
        let problem = match error.kind() {
            io::ErrorKind::NotFound => {
                "is not there; install it, or set inference.runtime to where it is".to_owned()
            }
            io::ErrorKind::UnexpectedEof => "is cut short; install it again".to_owned(),
            _ => format!("cannot be read: {error}"),
        };
        Error::Runtime { path: path.clone(), problem }
    })?;
    Ok(path)
}

fn search() -> Result<PathBuf, Error> {
    let name = format!("{DLL_PREFIX}onnxruntime{DLL_SUFFIX}");
    let cached = Path::new("onnxruntime").join(&name);
    places::find(Path::new(&name), &cached).ok_or_else(|| {
        let problem = format!(
            "is in none of the usual places: {}; set inference.runtime to where it is",
            places::USUAL
        );
        Error::Runtime { path: name.into(), problem }
    })
}

/// Sees that the file holds all that its program headers promise: the system's loader maps a cut
/// library without complaint, and the process dies of SIGBUS when it touches what is not there.
///
/// Other formats than 64-bit little-endian ELF are left to their own loaders.
fn check(path: &Path) -> io::Result<()> {
    const PROGRAM_HEADER: u64 = 56;
    let mut file = File::open(path)?;
    let size = file.metadata()?.len();
    let mut header = [0; 64];
    file.read_exact(&mut header)?;
    if !header.starts_with(b"\x7fELF\x02\x01") {
        return Ok(());
    }
    let table = number(&header[32..40]);
    let count = number(&header[56..58]);
    for index in 0..count {
        let mut entry = [0; PROGRAM_HEADER as usize];
        file.seek(SeekFrom::Start(table.saturating_add(index * PROGRAM_HEADER)))?;
        file.read_exact(&mut entry)?;
        let (offset, length) = (number(&entry[8..16]), number(&entry[32..40]));
        if offset.saturating_add(length) > size {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(())
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::setup;

    #[test]
    fn a_whole_library_passes_and_a_cut_one_does_not() {
        check(&setup::runtime()).unwrap();
        let whole = fs::read(setup::runtime()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cut.so");
        for part in [0, 1, 63, 64, 100, whole.len() / 2] {
            fs::write(&path, &whole[..part]).unwrap();
            assert_eq!(check(&path).unwrap_err().kind(), io::ErrorKind::UnexpectedEof, "{part} bytes");
        }
    }
}

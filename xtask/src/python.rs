//! Python packages for the tests with foreign clients and stores and the benchmarks' baseline, in
//! `.cache/python/`.
//!
//! A plain folder for `PYTHONPATH` rather than a virtual environment: Debian's Python cannot make one
//! without a further package, and a folder can be made aside and renamed into place.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};

use crate::debian;
use crate::install::{Folder, State, exclusively};
use crate::process::{output, run};
use crate::setup::{require_pip, scratch};
use crate::wheel::{find, keep, pip};
use crate::workspace::Workspace;

/// What the tests and benchmarks import.
const NEEDS: &[&str] = &[
    "boto3/__init__.py",
    "flask/__init__.py",
    "google/protobuf/__init__.py",
    "grpc/__init__.py",
    "grpc_reflection/__init__.py",
    "grpc_health/__init__.py",
    "moto/server.py",
    "numpy/__init__.py",
    "onnxruntime/__init__.py",
    "tei_client/__init__.py",
    "tokenizers/__init__.py",
    "tritonclient/grpc/__init__.py",
];

/// Makes sure that the packages are in place for the `python3` that is on the path. Silent once they are.
pub(crate) fn packages(workspace: &Workspace) -> anyhow::Result<()> {
    debian::require("python3", &["--version"], &["python3"], "by the tests with clients in Python")?;
    let requirements = workspace.root.join("model-server/tests/clients/requirements.txt");
    let text = fs::read_to_string(&requirements)
        .with_context(|| format!("cannot read {}", requirements.display()))?;
    let pins = pins(&text);
    ensure!(!pins.is_empty(), "{} names no package", requirements.display());
    // Native modules are of one version of Python: another one makes the folder anew.
    let tag =
        output(Command::new("python3").args(["-c", "import sys; print(sys.implementation.cache_tag)"]))?;
    let source = format!("Python packages for {}, revision {:016x}", tag.trim(), revision(&pins));
    let folder = Folder { path: workspace.cache.join("python"), source: &source, needs: NEEDS };
    if folder.state() == State::Ready {
        return Ok(());
    }
    exclusively(workspace, || {
        folder.ensure(workspace, |folder| {
            require_pip()?;
            let wheels = scratch(workspace, "python-wheels")?;
            fetch(workspace, &requirements, &pins, &wheels)?;
            let mut install = pip("install");
            // `--user`, which a person may have set for good, does not go together with `--target`.
            install.env("PIP_USER", "0").env("PIP_ROOT_USER_ACTION", "ignore");
            install.args(["--quiet", "--no-compile", "--no-index", "--find-links"]).arg(&wheels);
            run(install.arg("--target").arg(folder).arg("-r").arg(&requirements))
        })
    })
    .with_context(|| by_hand(&folder, &requirements, workspace))
}

/// Brings the wheels into `wheels`: from the shared downloads when all are there, else from the index.
fn fetch(workspace: &Workspace, requirements: &Path, pins: &[Pin], wheels: &Path) -> anyhow::Result<()> {
    let shared = &workspace.downloads;
    let download = || {
        let mut download = pip("download");
        download.args(["--quiet", "-r"]).arg(requirements).arg("-d").arg(wheels);
        download
    };
    // A package may have one pin for each of several Pythons, and one of them is here at most.
    let is_kept = |pin: &Pin| find(shared, &pin.file_prefix()).is_some();
    if pins.iter().all(|pin| pins.iter().any(|other| other.name == pin.name && is_kept(other))) {
        let mut local = download();
        local.args(["--no-index", "--find-links"]).arg(shared).stdout(Stdio::null()).stderr(Stdio::null());
        // Failing means that they are for another Python: the index has the right ones.
        if run(&mut local).is_ok() {
            println!("setup:   from {}", shared.display());
            return Ok(());
        }
    }
    println!("setup:   downloading 90 MB");
    run(&mut download())?;
    for entry in fs::read_dir(wheels)? {
        // Without the shared copy the next clone downloads again, and nothing else happens.
        let _ = keep(&entry?.path(), shared);
    }
    Ok(())
}

/// A package at its one version.
#[derive(Debug, PartialEq)]
struct Pin {
    name: String,
    version: String,
}

impl Pin {
    /// How the wheel's file name begins.
    fn file_prefix(&self) -> String {
        format!("{}-{}-", self.name.replace('-', "_"), self.version)
    }
}

/// The pins of a requirements file: `name==version`, then a marker or hashes.
fn pins(requirements: &str) -> Vec<Pin> {
    let pin = |line: &str| {
        let (name, version) = line.split_whitespace().next()?.split_once("==")?;
        Some(Pin { name: name.into(), version: version.into() })
    };
    requirements.lines().filter(|line| !line.starts_with([' ', '#'])).filter_map(pin).collect()
}

/// A number that changes when a pin does: FNV-1a, since the standard library's hash may change with Rust.
fn revision(pins: &[Pin]) -> u64 {
    let text: String = pins.iter().map(|pin| pin.file_prefix()).collect();
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// What to put where on a machine that setup cannot serve.
fn by_hand(folder: &Folder, requirements: &Path, workspace: &Workspace) -> String {
    format!(
        "the Python packages for tests and benchmarks are not in place. They need Python 3.10 to 3.14 on \
         Linux with glibc 2.28 or later. Without a Python package index within reach, do one of these by hand \
         and run it again:\n  \
         - put the wheels that {} names into {}\n  \
         - install them where there is an index: `python3 -m pip install --no-deps --target DIR -r {}`, and \
         copy DIR to {}\nThe cause",
        requirements.display(),
        workspace.downloads.display(),
        requirements.display(),
        folder.path.display(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_is_read_without_its_marker_and_hashes() {
        let text =
            "# some\n\nml-dtypes==0.5.4 \\\n    --hash=sha256:aa\nnumpy==2.2.6 ; python_version < \"3.11\"\n";
        let found = pins(text);
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].file_prefix(), "ml_dtypes-0.5.4-");
        assert_eq!(found[1], Pin { name: "numpy".into(), version: "2.2.6".into() });
        assert_ne!(revision(&found), revision(&pins(&text.replace("2.2.6", "2.2.7"))));
    }

    #[test]
    fn every_package_of_the_tests_is_pinned_with_hashes() {
        let text = include_str!("../../model-server/tests/clients/requirements.txt").replace("\\\n", " ");
        let lines: Vec<&str> =
            text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
        assert_eq!(pins(&text).len(), lines.len());
        for line in lines {
            assert!(line.contains("==") && line.contains("--hash=sha256:"), "{line}");
        }
    }
}

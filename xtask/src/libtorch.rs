//! libtorch, which the feature `torch` builds with and runs on, in `.cache/libtorch/`.
//!
//! It is what a CPU needs of the Python package `torch`: the headers and three libraries. The package is built
//! for CUDA, so its library for CPUs asks for two small ones of NVIDIA's, which come from packages of their own.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, ensure};

use crate::install::{Folder, State, exclusively};
use crate::wheel::Wheel;
use crate::workspace::{Workspace, env_path};

/// The version that the crate `tch` is made for.
const TORCH: Wheel = Wheel {
    package: "torch",
    version: "2.13.0",
    hashes: &["60fcdcb2f3876e21146cb4524ef06397d727ca9ad5f020818547e25075fe3cb7"],
    size: "527 MB",
};

const CUDA_RUNTIME: Wheel = Wheel {
    package: "nvidia-cuda-runtime",
    version: "13.0.96",
    hashes: &["7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548"],
    size: "2 MB",
};

const CUPTI: Wheel = Wheel {
    package: "nvidia-cuda-cupti",
    version: "13.0.85",
    hashes: &["4eb01c08e859bf924d222250d2e8f8b8ff6d3db4721288cf35d14252a4d933c8"],
    size: "11 MB",
};

/// Where NVIDIA's packages keep their libraries.
const NVIDIA: &str = "nvidia/cu13/lib/";

const NEEDS: &[&str] = &[
    "build-version",
    "include/torch/script.h",
    "include/torch/csrc/api/include/torch/torch.h",
    "lib/libc10.so",
    "lib/libtorch.so",
    "lib/libtorch_cpu.so",
];

/// Makes sure that libtorch is where `LIBTORCH` says. Silent once it is.
pub(crate) fn libtorch(workspace: &Workspace) -> anyhow::Result<()> {
    let source = format!("libtorch {}, for CPUs", TORCH.version);
    let folder = Folder { path: workspace.cache.join("libtorch"), source: &source, needs: NEEDS };
    // `.cargo/config.toml` sets the variable where nobody else has.
    if let Some(own) = env_path("LIBTORCH").filter(|path| *path != folder.path) {
        let header = own.join("include/torch/script.h");
        ensure!(header.exists(), "LIBTORCH is {}, which has no include/torch/script.h", own.display());
        return Ok(());
    }
    if folder.state() == State::Ready {
        return Ok(());
    }
    exclusively(workspace, || folder.ensure(workspace, |folder| make(workspace, folder)))
        .with_context(|| by_hand(&folder, workspace))
}

fn make(workspace: &Workspace, folder: &Path) -> anyhow::Result<()> {
    ensure!(
        cfg!(target_os = "linux") && std::env::consts::ARCH == "x86_64",
        "setup knows this library for Linux on x86_64 only"
    );
    let libraries = folder.join("lib");
    fs::create_dir_all(&libraries)?;
    let torch = ["libtorch_cpu.so", "libc10.so", "libgomp.so.1"];
    let mut members: Vec<String> = torch.iter().map(|name| format!("torch/lib/{name}")).collect();
    members.push("torch/include/".into());
    let work = TORCH.unpack(workspace, &members)?;
    for name in torch {
        fs::rename(work.join("torch/lib").join(name), libraries.join(name))
            .with_context(|| format!("the wheel has no {name}"))?;
    }
    fs::rename(work.join("torch/include"), folder.join("include")).context("the wheel has no headers")?;
    for (wheel, name) in [(CUDA_RUNTIME, "libcudart.so.13"), (CUPTI, "libcupti.so.13")] {
        wheel.unpack_file(workspace, &format!("{NVIDIA}{name}"), &libraries.join(name))?;
    }
    // The package's own names the libraries for CUDA. To the linker, this text is a library too.
    fs::write(libraries.join("libtorch.so"), "INPUT(libtorch_cpu.so)\n")?;
    // What the crate's build compares with the version that it is made for.
    Ok(fs::write(folder.join("build-version"), format!("{}+cpu\n", TORCH.version))?)
}

/// What to put where on a machine that setup cannot serve.
fn by_hand(folder: &Folder, workspace: &Workspace) -> String {
    let wheels: Vec<String> =
        [TORCH, CUDA_RUNTIME, CUPTI].iter().map(|wheel| format!("{}*.whl", wheel.file_prefix())).collect();
    format!(
        "libtorch, with which the feature `torch` is tested, is not in place. Without a Python package index \
         within reach, do one of these by hand and run it again:\n  \
         - unpack libtorch {} for C++, from an official build, into {}, or elsewhere and set LIBTORCH to it\n  \
         - put the wheels {} into {}\nThe cause",
        TORCH.version,
        folder.path.display(),
        wheels.join(", "),
        workspace.downloads.display(),
    )
}

#[cfg(test)]
mod tests {
    #[test]
    fn cargo_looks_where_setup_puts_it() {
        let config = include_str!("../../.cargo/config.toml");
        assert!(
            config.contains("\nLIBTORCH = { value = \".cache/libtorch\", relative = true }\n"),
            "{config}"
        );
    }
}

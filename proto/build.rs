//! Compiles the contracts with protox, so that no protoc is needed.

#![expect(clippy::disallowed_methods, reason = "cargo speaks to build scripts through the environment")]

use std::{env, path::PathBuf};

use prost::Message as _;

/// Our own contracts.
const ROLES: [&str; 8] =
    ["conversation", "embeddings", "generation", "inference", "knowledge", "ledger", "policy", "reranking"];

/// Contracts of others, whose clients a node serves; a package may have several files.
const FOREIGN: [&str; 3] = ["model_config", "open_inference", "tei"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let own = ROLES.iter().map(|role| format!("switchboard/{role}/v1/{role}.proto"));
    let files: Vec<String> = own.chain(FOREIGN.iter().map(|name| format!("foreign/{name}.proto"))).collect();
    for file in &files {
        println!("cargo:rerun-if-changed={file}");
    }
    let descriptors = protox::Compiler::new(["."])?
        .include_imports(true)
        .include_source_info(true)
        .open_files(&files)?
        .file_descriptor_set();
    let out = PathBuf::from(env::var("OUT_DIR")?);
    std::fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure().compile_fds(descriptors)?;
    Ok(())
}

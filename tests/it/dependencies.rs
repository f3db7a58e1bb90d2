//! The dependency directions: proto, mesh, text, onnx <- services, gateway, model-server <- switchboard.

use std::{collections::BTreeMap, process::Command};

use serde_json::Value;

/// What each crate may use of the workspace.
fn allowed(name: &str) -> &'static [&'static str] {
    const GROUND: &[&str] =
        &["switchboard-proto", "switchboard-mesh", "switchboard-text", "switchboard-onnx"];
    match name {
        "switchboard-proto" | "switchboard-mesh" | "switchboard-text" | "switchboard-onnx" => &[],
        "xtask" => &["switchboard-onnx"],
        "switchboard" => &[
            "switchboard-proto",
            "switchboard-mesh",
            "switchboard-text",
            "switchboard-onnx",
            "switchboard-conversation",
            "switchboard-embeddings",
            "switchboard-gateway",
            "switchboard-generation",
            "switchboard-knowledge",
            "switchboard-ledger",
            "switchboard-model-server",
            "switchboard-policy",
            "switchboard-reranking",
        ],
        _ => GROUND,
    }
}

#[test]
fn dependencies_point_one_way() {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version", "1", "--offline"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let ours: BTreeMap<&str, &Value> =
        packages.iter().map(|package| (package["name"].as_str().unwrap(), package)).collect();
    assert!(ours.len() >= 12, "the workspace was read: {:?}", ours.keys());
    for (name, package) in &ours {
        for dependency in package["dependencies"].as_array().unwrap() {
            let target = dependency["name"].as_str().unwrap();
            if ours.contains_key(target) {
                assert!(allowed(name).contains(&target), "{name} must not depend on {target}");
            }
        }
    }
}

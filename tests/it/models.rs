//! `switchboard models list | check | import | bench`, and `model-server check`, as a user runs them.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Output,
};

use serde_json::{Value, json};

use crate::{
    binary::{folder, json, run, stderr},
    model_server,
};

/// The small models of the model server's own tests.
pub(crate) fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("model-server/fixtures")
}

/// Small models with weights and no graph.
pub(crate) fn weights(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("onnx/fixtures").join(name)
}

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}", stderr(output));
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A model's folder at `folder`, of links to the files of a small model, with `file` replaced.
fn with_file(folder: &Path, file: &str, content: &[u8]) {
    let model = fixtures().join("models/tiny-embedder");
    fs::create_dir_all(folder.join("onnx")).unwrap();
    for name in ["config.json", "tokenizer.json", "onnx/model.onnx"].into_iter().filter(|name| *name != file)
    {
        symlink(model.join(name), folder.join(name)).unwrap();
    }
    fs::write(folder.join(file), content).unwrap();
}

/// What `models check` says of each model, by name.
fn checked(output: &Output) -> impl Fn(&str) -> Value + use<> {
    let all: Value = serde_json::from_slice(&output.stdout).unwrap();
    move |name: &str| {
        let models = all["models"].as_array().unwrap();
        models.iter().find(|model| model["name"] == name).unwrap_or_else(|| panic!("{name}: {all}")).clone()
    }
}

#[test]
fn check_finds_out_what_each_model_is() {
    let output = run(folder().path(), &["models", "check", text(&fixtures().join("models")), "--json"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let model = checked(&output);
    for (name, task, kind, dimensions, max_tokens) in [
        ("tiny-cross-encoder", "rerank", "cross-encoder", 1, 128),
        ("tiny-embedder", "embed", "first token", 32, 64),
        ("tiny-embedder-last", "embed", "last token", 32, 128),
        ("tiny-late-interaction", "rerank", "late interaction", 16, 96),
        ("tiny-sequence-classifier", "classify", "texts, one label", 5, 128),
        ("tiny-token-classifier", "classify", "tokens", 5, 128),
    ] {
        let found = model(name);
        assert_eq!((found["task"].as_str(), found["kind"].as_str()), (Some(task), Some(kind)), "{found}");
        assert_eq!(found["dimensions"], dimensions, "{found}");
        assert_eq!(found["max_tokens"], max_tokens, "{found}");
        assert_eq!(found["batch_variant"], Value::Array(vec![]), "{found}");
        assert_eq!(found["fingerprint"].as_str().map(str::len), Some(32), "{found}");
    }
    let speech = model("tiny-whisper");
    assert_eq!((&speech["task"], &speech["kind"]), (&json!("transcribe"), &json!("Whisper, merged decoder")));
    assert_eq!((&speech["dimensions"], &speech["max_tokens"]), (&Value::Null, &json!(128)), "{speech}");
    assert_eq!(model("tiny-token-classifier")["labels"][1], "B-PER");
    assert_eq!(model("tiny-embedder")["prompts"][0], "passage");
    assert_eq!(model("tiny-embedder-last")["normalize"], false);
}

#[test]
fn both_programs_say_the_same_of_a_folder() {
    let models = folder();
    symlink(fixtures().join("models/tiny-embedder"), models.path().join("good")).unwrap();
    with_file(&models.path().join("worse"), "config.json", b"{}");
    let ours = run(folder().path(), &["models", "check", text(models.path())]);
    let theirs = model_server::run(&["check", text(models.path())]);
    assert_eq!(String::from_utf8(ours.stdout.clone()), String::from_utf8(theirs.stdout));
    let said = String::from_utf8(ours.stdout).unwrap();
    assert!(
        said.starts_with("good: embed, first token\n") && said.contains("\nworse: cannot be served\n"),
        "{said}"
    );
    assert_eq!((ours.status.code(), theirs.status.code()), (Some(1), Some(1)));
}

#[test]
fn check_names_the_file_and_what_is_wrong_with_it() {
    let models = folder();
    let graph = |name: &str| fs::read(fixtures().join("bad").join(name)).unwrap();
    let sound = fs::read(fixtures().join("models/tiny-embedder/onnx/model.onnx")).unwrap();
    let tokenizer = fs::read(fixtures().join("models/tiny-embedder/tokenizer.json")).unwrap();
    let cases: [(&str, &str, Vec<u8>, &[&str]); 13] = [
        ("sound", "onnx/model.onnx", graph("sound.onnx"), &[]),
        ("cut", "onnx/model.onnx", sound[..sound.len() / 2].to_vec(), &[]),
        ("garbled", "onnx/model.onnx", graph("not_a_graph.onnx"), &["not a usable ONNX file"]),
        ("lying", "onnx/model.onnx", graph("huge_dims.onnx"), &["table", "140737488355328 bytes"]),
        ("short", "onnx/model.onnx", graph("short_data.onnx"), &["table", "512 bytes", "has 256"]),
        ("outside", "onnx/model.onnx", graph("external_outside.onnx"), &["table", "../../outside.bin"]),
        ("floats", "onnx/model.onnx", graph("float_ids.onnx"), &["input_ids", "int64"]),
        ("nan", "onnx/model.onnx", graph("nan_weights.onnx"), &["not finite"]),
        ("wide", "onnx/model.onnx", graph("wide_output.onnx"), &["48", "hidden_size"]),
        ("input", "onnx/model.onnx", graph("unknown_input.onnx"), &["pixel_values", "attention_mask"]),
        ("config", "config.json", b"[1".to_vec(), &[]),
        ("tokenizer", "tokenizer.json", tokenizer[..tokenizer.len() / 2].to_vec(), &[]),
        ("settings", "model.toml", b"poling = \"mean\"".to_vec(), &["poling", "pooling"]),
    ];
    for (name, file, content, _) in &cases {
        with_file(&models.path().join(name), file, content);
    }
    let output = run(folder().path(), &["models", "check", text(models.path()), "--json"]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let model = checked(&output);
    assert_eq!(model("sound")["usable"], true);
    for (name, file, _, wanted) in cases.iter().filter(|(name, ..)| *name != "sound") {
        let found = model(name);
        let problem = found["problem"].as_str().unwrap_or_else(|| panic!("{name} passed: {found}"));
        let path = models.path().join(name).join(file);
        assert!(problem.starts_with(text(&path)), "{name}: {problem}");
        assert_eq!(problem.matches(text(&path)).count(), 1, "the path is told once: {problem}");
        for word in *wanted {
            assert!(problem.contains(word), "{name}: {word} is missing in {problem}");
        }
    }
}

#[test]
fn check_takes_a_model_by_name_and_by_path() {
    let models = text(&fixtures().join("models")).to_owned();
    let by_name = run(folder().path(), &["models", "check", "tiny-embedder", "--repository", &models]);
    let by_path = run(folder().path(), &["models", "check", &format!("{models}/tiny-embedder")]);
    assert_eq!(stdout(&by_name), stdout(&by_path));
    let output = run(folder().path(), &["models", "check", "tiny-embeder", "--repository", &models]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("tiny-embeder") && stderr(&output).contains(&models),
        "{}",
        stderr(&output)
    );
    let output = run(folder().path(), &["models", "check", text(&weights("bert"))]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("switchboard models import"), "what to do with mere weights: {said}");
}

#[test]
fn list_has_every_model_and_why_others_cannot_be_used() {
    let models = folder();
    symlink(fixtures().join("models/tiny-token-classifier"), models.path().join("tags")).unwrap();
    symlink(fixtures().join("models/tiny-late-interaction"), models.path().join("late")).unwrap();
    with_file(&models.path().join("broken"), "onnx/model.onnx", b"");
    fs::create_dir(models.path().join(".hidden")).unwrap();
    let arguments = ["models", "list", "--repository", text(models.path())];
    let table = stdout(&run(folder().path(), &arguments));
    let line =
        |begin: &str| table.lines().find(|line| line.starts_with(begin)).unwrap_or_else(|| panic!("{table}"));
    for word in ["classify", "tokens", "5 labels", "128", "float16", "kB"] {
        assert!(line("tags").contains(word), "{word} is missing in\n{table}");
    }
    assert!(line("late").contains("16 components a token"), "{table}");
    assert!(
        table.contains("broken: cannot be served") && table.contains("broken/onnx/model.onnx"),
        "{table}"
    );
    let listed = json(&run(folder().path(), &[&arguments[..], &["--json"]].concat()));
    let names: Vec<_> = listed["models"].as_array().unwrap().iter().map(|model| &model["name"]).collect();
    assert_eq!(names, ["broken", "late", "tags"]);
    assert_eq!(listed["models"][0]["usable"], false, "{listed}");
    assert_eq!(listed["models"][1]["dimensions"], 16, "{listed}");
}

#[test]
fn list_needs_no_runtime() {
    let models = fixtures().join("models");
    let set = "inference.runtime=/nonexistent/libonnxruntime.so";
    let arguments = ["--set", set, "models", "list", "--repository", text(&models)];
    assert!(stdout(&run(folder().path(), &arguments)).contains("tiny-cross-encoder"));
    let output = run(folder().path(), &["--set", set, "models", "check", text(&models)]);
    assert!(stderr(&output).contains("/nonexistent/libonnxruntime.so"), "{}", stderr(&output));
}

#[test]
fn import_makes_a_model_and_says_when_its_batches_are_not_independent() {
    let models = folder();
    let source = weights("bert-sequence");
    let import = |kind: &str| {
        let arguments =
            ["models", "import", text(&source), "--name", kind, "--weights", kind, "--repository"];
        stdout(&run(folder().path(), &[&arguments[..], &[text(models.path())]].concat()))
    };
    for kind in ["fp32", "q8"] {
        let said = import(kind);
        assert!(said.contains(&format!("{kind}: classify, texts, one label")), "{said}");
        assert!(said.contains("3 labels") && !said.contains("warning"), "{said}");
    }
    let said = import("int8");
    for word in ["warning", "the texts beside it", "DynamicQuantize", "--weights q8"] {
        assert!(said.contains(word), "{word} is missing in\n{said}");
    }
    let output = run(folder().path(), &["models", "check", text(models.path()), "--json"]);
    let model = checked(&output);
    assert_eq!(model("q8")["batch_variant"], Value::Array(vec![]));
    assert_ne!(model("int8")["batch_variant"], Value::Array(vec![]));
    assert_ne!(model("q8")["fingerprint"], model("fp32")["fingerprint"]);
}

#[test]
fn import_leaves_what_is_there_alone_and_says_what_it_lacks() {
    let models = folder();
    let import = |source: &Path, more: &[&str]| {
        let arguments = ["models", "import", text(source), "--repository", text(models.path())];
        run(folder().path(), &[&arguments[..], more].concat())
    };
    // In shards, with pooling of its own.
    let made = json(&import(&weights("bert"), &["--json"]));
    assert_eq!(made["check"]["task"], "embed", "{made}");
    let before = fs::read(models.path().join("bert/onnx/model.onnx")).unwrap();
    let again = import(&weights("bert"), &["--weights", "int8"]);
    assert_eq!(again.status.code(), Some(1));
    assert!(stderr(&again).contains("there already"), "{}", stderr(&again));
    assert_eq!(fs::read(models.path().join("bert/onnx/model.onnx")).unwrap(), before);

    let empty = folder();
    let output = import(empty.path(), &["--name", "empty"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("config.json"), "{}", stderr(&output));
    for name in ["../outside", "a/b", ".hidden", ""] {
        let output = import(&weights("bert"), &["--name", name]);
        assert_eq!(output.status.code(), Some(2), "{name:?}: {}", stderr(&output));
    }
    let left: Vec<_> = fs::read_dir(models.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["bert"], "nothing else was made");
}

#[test]
fn bench_measures_every_combination() {
    let models = text(&fixtures().join("models")).to_owned();
    let bench = |more: &[&str]| {
        let arguments = ["models", "bench", "tiny-embedder", "--repository", &models, "--seconds", "0.01"];
        run(folder().path(), &[&arguments[..], more].concat())
    };
    let measured =
        json(&bench(&["--batch", "1,3", "--tokens", "8", "--instances", "1,2", "--threads", "1", "--json"]));
    let cells = measured["cells"].as_array().unwrap();
    let shapes: Vec<_> =
        cells.iter().map(|cell| (cell["instances"].as_u64(), cell["batch"].as_u64())).collect();
    assert_eq!(shapes, [(1, 1), (1, 3), (2, 1), (2, 3)].map(|(a, b)| (Some(a), Some(b))));
    for cell in cells {
        let (p50, p99) = (cell["p50_seconds"].as_f64().unwrap(), cell["p99_seconds"].as_f64().unwrap());
        assert!(p50 > 0.0 && p99 >= p50, "{cell}");
        assert!(cell["texts_per_second"].as_f64().unwrap() > 0.0, "{cell}");
    }
    // It reads 64 tokens: the usual lengths that are longer are left out.
    let table = stdout(&bench(&["--batch", "2"]));
    let lengths: Vec<_> = table.lines().skip(1).map(|line| line.split_whitespace().nth(3).unwrap()).collect();
    assert_eq!(lengths, ["16", "64"], "{table}");
    for (arguments, wanted) in [
        (["--batch", "0"], "--batch"),
        (["--tokens", "65"], "64"),
        (["--threads", "1000"], "--threads"),
        (["--instances", "two"], "two"),
    ] {
        let output = bench(&arguments);
        assert!(!output.status.success());
        assert!(stderr(&output).contains(wanted), "{arguments:?}: {}", stderr(&output));
    }
}

#[test]
fn every_command_about_models_teaches_by_example() {
    for command in ["list", "check", "pull", "import", "bench"] {
        let help = stdout(&run(folder().path(), &["models", command, "--help"]));
        let (_, examples) = help.split_once("Examples:\n").unwrap_or_else(|| panic!("{help}"));
        let first = examples.lines().next().unwrap();
        assert!(first.starts_with(&format!("  switchboard models {command}")), "{help}");
    }
}

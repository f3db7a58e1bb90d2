//! Every family and head against the independent implementation in `fixtures/make_import.py`, and what
//! quantisation changes.

use std::{fs, path::Path};

use switchboard_onnx::{
    ElementType,
    import::{self, Head, ImportError, Options, Weights},
    inspect,
};

use crate::runtime::{Graph, Row, fixture, golden};

/// The models of `fixtures/`, and the outputs that their graphs have.
const MODELS: [(&str, &str); 11] = [
    ("bert", "last_hidden_state"),
    ("bert-sequence", "logits"),
    ("bert-token", "logits"),
    ("roberta", "last_hidden_state"),
    ("roberta-sequence", "logits"),
    ("xlm-roberta-sequence", "logits"),
    ("camembert-token", "logits"),
    ("distilbert", "last_hidden_state"),
    ("distilbert-sequence", "logits"),
    ("distilbert-token", "logits"),
    ("colbert", "token_embeddings"),
];

fn imported(name: &str, weights: Weights, folder: &Path) -> Graph {
    let file = folder.join("model.onnx");
    import::graph(&fixture(name), &file, &Options { weights, ..Options::default() }).unwrap();
    Graph::load(&file)
}

/// Differences between two lists of vectors, as parts of the root mean square of the first.
struct Difference {
    largest: f32,
    root_mean_square: f32,
}

impl Difference {
    fn between(expected: &[Vec<Vec<f32>>], found: &[Vec<Vec<f32>>]) -> Self {
        let (expected, found) = (expected.concat().concat(), found.concat().concat());
        assert_eq!(expected.len(), found.len());
        assert!(found.iter().all(|value| value.is_finite()));
        let norm = |values: &[f32]| (values.iter().map(|v| v * v).sum::<f32>() / values.len() as f32).sqrt();
        let apart: Vec<f32> = expected.iter().zip(&found).map(|(a, b)| (a - b).abs()).collect();
        let largest = apart.iter().copied().fold(0.0, f32::max);
        Self { largest: largest / norm(&expected), root_mean_square: norm(&apart) / norm(&expected) }
    }

    /// Of a batch from its golden outputs.
    fn from_golden(graph: &mut Graph, rows: &[Row], output: &str) -> Self {
        let golden: Vec<_> = rows.iter().map(|row| row.output.clone()).collect();
        Self::between(&golden, &graph.outputs(rows, output))
    }

    /// Of the rows of a batch from the same rows alone.
    fn from_alone(graph: &mut Graph, rows: &[Row], output: &str) -> Self {
        let alone: Vec<_> = rows.iter().map(|row| graph.outputs(&[row.alone()], output).remove(0)).collect();
        Self::between(&alone, &graph.outputs(rows, output))
    }
}

#[test]
fn every_model_computes_what_the_reference_does() {
    // 32-bit floats against 64-bit ones, over two layers.
    const TOLERANCE: f32 = 2e-5;
    for (name, output) in MODELS {
        let folder = tempfile::tempdir().unwrap();
        let mut graph = imported(name, Weights::Fp32, folder.path());
        let rows = golden(name);
        let error = Difference::from_golden(&mut graph, &rows, output).largest;
        assert!(error < TOLERANCE, "{name}: {error}");
        let error = Difference::from_alone(&mut graph, &rows, output).largest;
        assert!(error < TOLERANCE, "{name} alone: {error}");
    }
}

#[test]
fn block_weights_are_near_and_rows_stay_their_own() {
    // A step is a 127th of the largest of at most 32 values, here and in the inputs: some 0.5 % of a
    // value, which grows over the eight multiplications of two layers. With random weights nothing
    // outweighs it; MiniLM's sentence vectors have a cosine of 0.999 to the exact ones.
    const TOLERANCE: f32 = 0.05;
    // Promise 10 of the design: a row of a batch equals the same row alone.
    const ALONE: f32 = 2e-5;
    for (name, output) in MODELS {
        let folder = tempfile::tempdir().unwrap();
        let mut graph = imported(name, Weights::Weights8, folder.path());
        let rows = golden(name);
        let error = Difference::from_golden(&mut graph, &rows, output).root_mean_square;
        assert!(error < TOLERANCE, "{name}: {error}");
        let error = Difference::from_alone(&mut graph, &rows, output).largest;
        assert!(error < ALONE, "{name} alone: {error}");
    }
}

#[test]
fn dynamic_integers_are_near_and_rows_depend_on_their_batch() {
    // Steps are larger than with blocks: one scale serves a whole batch, and weights have 7 bits.
    const TOLERANCE: f32 = 0.15;
    // Were rows independent, it would be as small as in the other tests.
    const DEPENDENT: f32 = 1e-3;
    for (name, output) in MODELS {
        let folder = tempfile::tempdir().unwrap();
        let mut graph = imported(name, Weights::Int8Dynamic, folder.path());
        let rows = golden(name);
        let error = Difference::from_golden(&mut graph, &rows, output).root_mean_square;
        assert!(error < TOLERANCE, "{name}: {error}");
        let apart = Difference::from_alone(&mut graph, &rows, output).largest;
        assert!(apart > DEPENDENT, "{name} alone: {apart}");
    }
}

#[test]
fn an_inspection_tells_what_was_made() {
    for (name, output) in MODELS {
        for (weights, mixing, element) in [
            (Weights::Fp32, &[][..], ElementType::Float),
            (Weights::Weights8, &[], ElementType::Uint8),
            (
                Weights::Int8Dynamic,
                &["DynamicQuantizeLinear", "DynamicQuantizeMatMul", "QAttention"],
                ElementType::Int8,
            ),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let graph = imported(name, weights, folder.path());
            let found = inspect(&folder.path().join("model.onnx"), folder.path()).unwrap();
            let inputs: Vec<&str> = found.inputs.iter().map(|input| input.name.as_str()).collect();
            assert_eq!(inputs, graph.inputs(), "{name}");
            // Only BERT tells two types apart.
            assert_eq!(inputs.contains(&"token_type_ids"), name.starts_with("bert") || name == "colbert");
            assert_eq!(found.outputs[0].name, output);
            assert_eq!(found.outputs[0].element, Some(ElementType::Float));
            assert_eq!(found.batch_variant, mixing, "{name}");
            assert!(found.weights.contains_key(&element), "{name}: {:?}", found.weights);
        }
    }
}

#[test]
fn a_text_longer_than_the_positions_is_an_error_and_no_crash() {
    for name in ["bert", "roberta", "distilbert"] {
        for weights in [Weights::Fp32, Weights::Weights8, Weights::Int8Dynamic] {
            let folder = tempfile::tempdir().unwrap();
            let mut graph = imported(name, weights, folder.path());
            let long = vec![5; 25];
            let row = Row { ids: long, mask: vec![1; 25], types: vec![0; 25], output: Vec::new() };
            assert!(!graph.runs(std::slice::from_ref(&row)), "{name} {weights}");
            let unknown = Row { ids: vec![100, 5], mask: vec![1; 2], types: vec![0; 2], output: Vec::new() };
            assert!(!graph.runs(&[unknown]), "{name} {weights}");
            assert!(graph.runs(&golden(name)), "{name} {weights}: it runs on");
        }
    }
}

#[test]
fn tensors_in_a_second_file_are_the_same_tensors() {
    let folder = tempfile::tempdir().unwrap();
    let rows = golden("bert");
    let expected = imported("bert", Weights::Fp32, folder.path()).run(&rows, "last_hidden_state");
    let file = folder.path().join("split/graph.onnx");
    let options = Options { largest_file: 10_000, ..Options::default() };
    let report = import::graph(&fixture("bert"), &file, &options).unwrap();
    assert!(fs::metadata(&file).unwrap().len() < 15_000 && report.bytes > 25_000, "{report}");
    let found = inspect(&file, folder.path()).unwrap();
    let data = file.with_file_name("graph.onnx_data").canonicalize().unwrap();
    assert_eq!(found.external_files, [data]);
    assert_eq!(Graph::load(&file).run(&rows, "last_hidden_state"), expected);
}

/// Names of the files below `folder`, in order.
fn files(folder: &Path) -> Vec<String> {
    let mut names = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                names.push(path.strip_prefix(folder).unwrap().display().to_string());
            }
        }
    }
    names.sort();
    names
}

#[test]
fn a_model_folder_is_made_whole() {
    let repository = tempfile::tempdir().unwrap();
    let destination = repository.path().join("models/minute");
    let report = import::bert(&fixture("bert"), &destination, &Options::default()).unwrap();
    assert_eq!((report.head, report.layers), (Head::None, 2));
    assert_eq!(report.to_string(), "bert, encoder: 2 layers, 29 tensors, 0.0 MB, 32-bit float weights");
    let expected = [
        "1_Pooling/config.json",
        "README.md",
        "config.json",
        "modules.json",
        "onnx/model.onnx",
        "tokenizer.json",
    ];
    assert_eq!(files(&destination), expected);
    assert_eq!(fs::read_dir(repository.path().join("models")).unwrap().count(), 1);
    Graph::load(&destination.join("onnx/model.onnx"));

    let again = import::bert(&fixture("bert"), &destination, &Options::default()).unwrap_err();
    assert!(matches!(again, ImportError::Exists { .. }), "{again}");
    assert_eq!(files(&destination), expected);
}

/// A copy of a fixture, for a test to break.
fn copy(name: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for file in files(&fixture(name)) {
        let to = folder.path().join(&file);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(fixture(name).join(&file), to).unwrap();
    }
    folder
}

#[track_caller]
fn refused(source: &Path, expected: &str) {
    let repository = tempfile::tempdir().unwrap();
    let error = import::bert(source, &repository.path().join("model"), &Options::default()).unwrap_err();
    let error = error.to_string();
    assert!(error.contains(expected) && error.len() < 600, "{error}");
    assert_eq!(fs::read_dir(repository.path()).unwrap().count(), 0, "nothing is left behind");
}

fn change(folder: &Path, file: &str, from: &str, to: &str) {
    let path = folder.join(file);
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{text}");
    fs::write(&path, text.replace(from, to)).unwrap();
}

#[test]
fn a_missing_file_is_named() {
    for (model, file) in [
        ("bert", "config.json"),
        ("bert", "tokenizer.json"),
        ("bert", "model-00002-of-00002.safetensors"),
        ("roberta", "model.safetensors"),
    ] {
        let source = copy(model);
        fs::remove_file(source.path().join(file)).unwrap();
        refused(source.path(), &format!("{file} cannot be read"));
    }
}

#[test]
fn settings_that_do_not_fit_the_weights_are_named() {
    for (model, from, to, expected) in [
        ("bert", "\"hidden_size\": 16", "\"hidden_size\": 32", "has shape [100, 16], not [100, 32]"),
        (
            "bert",
            "\"num_hidden_layers\": 2",
            "\"num_hidden_layers\": 3",
            "encoder.layer.2.attention.self.query",
        ),
        ("bert", "\"vocab_size\": 100", "\"vocab_size\": 101", "[100, 16], not [101, 16]"),
        (
            "bert",
            "\"max_position_embeddings\": 24",
            "\"max_position_embeddings\": 512",
            "position_embeddings",
        ),
        ("bert-sequence", "\"0\": \"LABEL_0\",", "", "3 outputs, but config.json names 2 labels"),
        ("bert", "BertModel", "BertForSequenceClassification", "tensor pooler.dense.weight"),
        ("distilbert", "DistilBertModel", "DistilBertForTokenClassification", "tensor classifier.weight"),
        (
            "bert-token",
            "\"model_type\": \"bert\"",
            "\"model_type\": \"distilbert\"",
            "dim = null is not a count",
        ),
    ] {
        let source = copy(model);
        change(source.path(), "config.json", from, to);
        refused(source.path(), expected);
    }
}

#[test]
fn a_model_with_weights_after_its_encoder_is_refused() {
    let source = copy("bert");
    change(source.path(), "modules.json", "models.Pooling", "models.Dense");
    refused(source.path(), "sentence_transformers.models.Dense is not supported");
}

#[test]
fn damaged_weights_are_refused() {
    let source = copy("roberta");
    let path = source.path().join("model.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
    refused(source.path(), "runs past the end of the file");
    // Before the buffer of 16 bytes at the end comes the last weight, of 16 bits.
    let last = bytes.len() - 18;
    bytes[last..last + 2].fill(0xff);
    fs::write(&path, bytes).unwrap();
    refused(source.path(), "holds NaN");
}

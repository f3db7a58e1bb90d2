//! Every task against an independent implementation: the goldens come from `fixtures/make_models.py`, in
//! float64, one text at a time. Each row is computed alone and beside all the others. With the feature `torch`,
//! the models that there are as TorchScript too are held to the same.

use std::path::{Path, PathBuf};

use serde::{Deserialize, de::DeserializeOwned};
use switchboard_mesh::testing::call;

use super::{
    tests::{Rig, fixtures, load_with},
    *,
};
use crate::{Config, tokenize::Truncation};

/// The graphs compute in float32; numbers are in the tens.
const LOGIT: f32 = 2e-4;
const PROBABILITY: f32 = 2e-5;
/// A sum over 32 cosines.
const SUM: f32 = 1e-3;

#[derive(Deserialize)]
struct Golden<T> {
    rows: Vec<T>,
}

fn golden<T: DeserializeOwned>(model: &str, folder: &Path) -> (Rig, Vec<T>) {
    let text = std::fs::read_to_string(fixtures().join(format!("goldens/{model}.json"))).unwrap();
    let golden: Golden<T> = serde_json::from_str(&text).unwrap();
    assert!(golden.rows.len() >= 12);
    (load_with(folder, Config::default()).unwrap(), golden.rows)
}

fn onnx(model: &str) -> PathBuf {
    fixtures().join("models").join(model)
}

/// The model's folder with TorchScript in the place of ONNX.
#[cfg(feature = "torch")]
fn script(model: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(onnx(model)).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().is_some_and(|name| name != "onnx") {
            std::os::unix::fs::symlink(&path, folder.path().join(path.file_name().unwrap())).unwrap();
        }
    }
    folder
}

fn truncation(name: &str) -> Truncation {
    match name {
        "start" => Truncation::Start,
        _ => Truncation::End,
    }
}

fn near(found: &[f32], expected: &[f32], tolerance: f32, of: &str) {
    assert_eq!(found.len(), expected.len(), "{of:?}");
    let apart = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(apart <= tolerance, "{apart}: {of:?}");
}

#[derive(Deserialize)]
struct Embedded {
    text: String,
    #[serde(default)]
    prompt: String,
    truncation: String,
    #[serde(default)]
    dimensions: usize,
    tokens: usize,
    truncated: bool,
    raw: Vec<f32>,
    vector: Vec<f32>,
}

async fn embedder(name: &str, folder: &Path, tolerance: f32, normalises: bool) {
    let (Rig { model, .. }, rows) = &golden::<Embedded>(name, folder);
    for row in rows {
        for (normalize, expected) in [(Some(false), &row.raw), (Some(true), &row.vector)] {
            let options = EmbedOptions {
                prompt: row.prompt.clone(),
                normalize,
                dimensions: row.dimensions,
                truncation: truncation(&row.truncation),
            };
            let others = rows.iter().map(|row| row.text.clone());
            let texts = std::iter::once(row.text.clone()).chain(others).collect();
            let together = model.embed(texts, options.clone(), &call("t")).await.unwrap().rows;
            let alone = model.embed(vec![row.text.clone()], options, &call("t")).await.unwrap().rows;
            for found in [&together[0], &alone[0]] {
                assert_eq!((found.tokens, found.truncated), (row.tokens, row.truncated), "{:?}", row.text);
                near(&found.values, expected, tolerance, &row.text);
            }
        }
    }
    let plain = rows.iter().find(|row| row.prompt.is_empty() && row.dimensions == 0).unwrap();
    let found = model.embed(vec![plain.text.clone()], EmbedOptions::default(), &call("t")).await.unwrap();
    let expected = if normalises { &plain.vector } else { &plain.raw };
    near(&found.rows[0].values, expected, tolerance, "as the folder says");
}

#[tokio::test]
async fn the_first_tokens_vector_with_prompts() {
    embedder("tiny-embedder", &onnx("tiny-embedder"), 2e-5, true).await;
}

#[cfg(feature = "torch")]
#[tokio::test]
async fn the_first_tokens_vector_by_torch() {
    let folder = script("tiny-embedder");
    embedder("tiny-embedder", folder.path(), 2e-5, true).await;
    let card = load_with(folder.path(), Config::default()).unwrap().model.card;
    assert_eq!((card.backend, card.dtype.as_str()), ("torch/cpu", "float32"));
}

#[tokio::test]
async fn the_last_tokens_vector_from_a_graph_in_float16() {
    // Half precision has 11 bits; components are up to 3.
    embedder("tiny-embedder-last", &onnx("tiny-embedder-last"), 2e-3, false).await;
}

#[derive(Deserialize)]
struct Crossed {
    query: String,
    text: String,
    truncation: String,
    logit: f32,
    score: f32,
}

#[tokio::test]
async fn a_cross_encoders_scores() {
    cross_encoder(&onnx("tiny-cross-encoder")).await;
}

#[cfg(feature = "torch")]
#[tokio::test]
async fn a_cross_encoders_scores_by_torch() {
    cross_encoder(script("tiny-cross-encoder").path()).await;
}

async fn cross_encoder(folder: &Path) {
    let (Rig { model, .. }, rows) = &golden::<Crossed>("tiny-cross-encoder", folder);
    let others: Vec<String> = rows.iter().map(|row| row.text.clone()).collect();
    for row in rows {
        for (raw, expected, tolerance) in [(true, row.logit, LOGIT), (false, row.score, PROBABILITY)] {
            let texts: Vec<_> = std::iter::once(row.text.clone()).chain(others.clone()).collect();
            for texts in [vec![row.text.clone()], texts] {
                let side = truncation(&row.truncation);
                let answer = model.rerank(row.query.clone(), texts, raw, side, &call("t")).await.unwrap();
                near(&answer.rows[..1], &[expected], tolerance, &row.text);
            }
        }
    }
}

#[derive(Deserialize)]
struct Late {
    query: String,
    text: String,
    sum: f32,
    mean: f32,
}

#[tokio::test]
async fn late_interactions_scores() {
    let (Rig { model, .. }, rows) = &golden::<Late>("tiny-late-interaction", &onnx("tiny-late-interaction"));
    let others: Vec<String> = rows.iter().map(|row| row.text.clone()).collect();
    for row in rows {
        for (raw, expected, tolerance) in [(true, row.sum, SUM), (false, row.mean, SUM / 32.0)] {
            let texts: Vec<_> = std::iter::once(row.text.clone()).chain(others.clone()).collect();
            for texts in [vec![row.text.clone()], texts] {
                let answer =
                    model.rerank(row.query.clone(), texts, raw, Truncation::End, &call("t")).await.unwrap();
                near(&answer.rows[..1], &[expected], tolerance, &row.text);
            }
        }
    }
}

#[derive(Deserialize)]
struct Sorted {
    text: String,
    truncation: String,
    tokens: usize,
    truncated: bool,
    logits: Vec<f32>,
    probabilities: Vec<f32>,
}

#[tokio::test]
async fn a_texts_labels() {
    sequence_classifier(&onnx("tiny-sequence-classifier")).await;
}

#[cfg(feature = "torch")]
#[tokio::test]
async fn a_texts_labels_by_torch() {
    sequence_classifier(script("tiny-sequence-classifier").path()).await;
}

async fn sequence_classifier(folder: &Path) {
    let (Rig { model, .. }, rows) = &golden::<Sorted>("tiny-sequence-classifier", folder);
    let others: Vec<String> = rows.iter().map(|row| row.text.clone()).collect();
    for row in rows {
        for (raw_scores, expected, tolerance) in
            [(true, &row.logits, LOGIT), (false, &row.probabilities, PROBABILITY)]
        {
            let truncation = truncation(&row.truncation);
            let options = ClassifyOptions { raw_scores, truncation, ..ClassifyOptions::default() };
            let texts: Vec<_> = std::iter::once(row.text.clone()).chain(others.clone()).collect();
            for texts in [vec![row.text.clone()], texts] {
                let answer = model.classify(texts, vec![], options, &call("t")).await.unwrap();
                let found = &answer.rows[0];
                assert_eq!((found.tokens, found.truncated), (row.tokens, row.truncated), "{:?}", row.text);
                assert!(found.labels.is_sorted_by(|a, b| a.score >= b.score));
                let mut by_index = found.labels.clone();
                by_index.sort_by_key(|label| label.index);
                let scores: Vec<f32> = by_index.iter().map(|label| label.score).collect();
                near(&scores, expected, tolerance, &row.text);
            }
        }
    }
}

#[derive(Deserialize)]
struct Tagged {
    text: String,
    tokens: usize,
    truncated: bool,
    /// From, up to, and the probability of each label, of each token that stands for characters.
    each: Vec<(usize, usize, Vec<f32>)>,
    /// From, up to, what it is, and its mean probability.
    spans: Vec<(usize, usize, String, f32)>,
}

#[tokio::test]
async fn a_texts_labelled_spans() {
    let (Rig { model, .. }, rows) =
        &golden::<Tagged>("tiny-token-classifier", &onnx("tiny-token-classifier"));
    let texts: Vec<String> = rows.iter().map(|row| row.text.clone()).collect();
    let joined = ClassifyOptions::default();
    let together = model.classify(texts.clone(), vec![], joined, &call("t")).await.unwrap().rows;
    for (row, found) in rows.iter().zip(&together) {
        let alone = model.classify(vec![row.text.clone()], vec![], joined, &call("t")).await.unwrap().rows;
        for found in [found, &alone[0]] {
            assert_eq!((found.tokens, found.truncated), (row.tokens, row.truncated), "{:?}", row.text);
            let spans = |(from, to, kind, _): &(usize, usize, String, f32)| ((*from, *to), kind.clone());
            let expected: Vec<_> = row.spans.iter().map(spans).collect();
            let seen: Vec<_> = found.labels.iter().map(|label| (label.span, label.name.clone())).collect();
            assert_eq!(seen, expected, "{:?}", row.text);
            let scores: Vec<f32> = found.labels.iter().map(|label| label.score).collect();
            let expected: Vec<f32> = row.spans.iter().map(|span| span.3).collect();
            near(&scores, &expected, PROBABILITY, &row.text);
        }
        let each = ClassifyOptions { each_token: true, ..joined };
        let each = model.classify(vec![row.text.clone()], vec![], each, &call("t")).await.unwrap();
        let labels = &each.rows[0].labels;
        assert_eq!(labels.len(), row.each.len(), "{:?}", row.text);
        for (label, (from, to, probabilities)) in labels.iter().zip(&row.each) {
            assert_eq!(label.span, (*from, *to), "{:?}", row.text);
            near(&[label.score], &[probabilities[label.index]], PROBABILITY, &row.text);
        }
    }
    let pairs = model.classify(vec!["a".into()], vec!["b".into()], joined, &call("t")).await.unwrap_err();
    assert!(matches!(&pairs, Error::Invalid { field, .. } if field == "second_texts"), "{pairs}");
}

/// Graphs that lie, or are broken: each is refused with what is wrong, and the process lives.
#[tokio::test]
async fn bad_graphs_are_refused_with_what_is_wrong() {
    for (bad, what) in [
        ("nan_weights", "not finite"),
        ("infinite_weights", "not finite"),
        ("short_data", "table"),
        ("huge_dims", "table"),
        ("negative_dims", "table"),
        ("external_outside", "outside"),
        ("external_absolute", "outside"),
        ("external_missing", "weights.bin"),
        ("float_ids", "input_ids"),
        ("unknown_input", "pixel_values"),
        ("unknown_output", "anything_else"),
        ("wide_output", "48"),
        ("fixed_shape", "does not run"),
        ("not_a_graph", "model.onnx"),
    ] {
        let folder = with_graph(bad);
        let error = load_with(folder.path(), Config::default()).err().expect(bad).to_string();
        assert!(error.contains("onnx/model.onnx") && error.contains(what), "{bad}: {error}");
    }
    load_with(with_graph("sound").path(), Config::default()).unwrap();
}

/// The output of `dense` is twice as wide as the config says of token vectors.
#[tokio::test]
async fn an_output_that_is_named_is_read_as_the_graph_gives_it() {
    let folder = with_graph("dense");
    let modules = r#"[{"type": "sentence_transformers.models.Transformer"},
        {"type": "sentence_transformers.models.Pooling", "path": "1_Pooling"},
        {"type": "sentence_transformers.models.Dense", "path": "2_Dense"}]"#;
    std::fs::write(folder.path().join("modules.json"), modules).unwrap();
    let toml = |text: &str| std::fs::write(folder.path().join("model.toml"), text).unwrap();
    let refusal = || load_with(folder.path(), Config::default()).err().unwrap().to_string();
    toml("output = 'elsewhere'");
    let error = refusal();
    assert!(error.contains("elsewhere, which model.toml names; it gives last_hidden_state"), "{error}");
    // Token vectors are not what its further module makes of them.
    toml("output = 'last_hidden_state'");
    assert!(refusal().contains("a vector for each token"), "{}", refusal());
    toml("output = 'sentence_embedding'");
    let Rig { model, .. } = &load_with(folder.path(), Config::default()).unwrap();
    assert_eq!(model.card.dimensions, 64);
    let vectors = model.embed(vec!["my parcel".into()], EmbedOptions::default(), &call("t")).await.unwrap();
    let (once, again) = vectors.rows[0].values.split_at(32);
    assert!(once == again && once.iter().any(|value| *value != 0.0));
}

/// `tiny-embedder` with another graph.
fn with_graph(name: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let source = fixtures().join("models/tiny-embedder");
    std::fs::create_dir_all(folder.path().join("onnx")).unwrap();
    for file in ["config.json", "tokenizer.json"] {
        std::fs::copy(source.join(file), folder.path().join(file)).unwrap();
    }
    let graph = fixtures().join(format!("bad/{name}.onnx"));
    std::fs::copy(graph, folder.path().join("onnx/model.onnx")).unwrap();
    folder
}

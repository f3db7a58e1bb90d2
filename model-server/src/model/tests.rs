use std::path::{Path, PathBuf};

use serde::Deserialize;
use switchboard_mesh::testing::call;
use tempfile::TempDir;

use super::{embed::Embedding, *};
use crate::{Config, library, onnx::Runtime, repository, scheduler::Device, setup, tokenize::Truncation};

/// Made by `fixtures/make_embeddings.py`: float64, one text at a time, no padding.
const GOLDEN: &str = include_str!("../../fixtures/embeddings.json");

#[derive(Deserialize)]
struct Golden {
    max_tokens: usize,
    rows: Vec<GoldenRow>,
}

#[derive(Deserialize)]
struct GoldenRow {
    text: String,
    tokens: usize,
    truncated: bool,
    vector: Vec<f32>,
}

pub(super) fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")
}

/// A copy of one of the small models, with other files put in.
fn tiny(model: &str, files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let source = fixtures().join("models").join(model);
    std::fs::create_dir_all(folder.path().join("onnx")).unwrap();
    for file in ["config.json", "tokenizer.json", "onnx/model.onnx"] {
        std::fs::copy(source.join(file), folder.path().join(file)).unwrap();
    }
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

/// A model with the device that it runs on.
pub(super) struct Rig {
    pub(super) model: Model,
    _device: Device,
}

pub(super) fn load_with(folder: &Path, config: Config) -> Result<Rig, Error> {
    let runtime = Runtime::load(&library::find(&setup::runtime())?)?;
    let device = Device::new("test", 2, [0.05, 0.2], || {}).unwrap();
    let config = Config { warm_up: Duration::ZERO, ..config };
    let model = Model::load(&repository::describe(folder)?, &config, &runtime, &device)?;
    Ok(Rig { model, _device: device })
}

fn minilm() -> Rig {
    load_with(&setup::model(), Config::default()).unwrap()
}

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

async fn embed(model: &Model, texts: &[&str]) -> Vec<Embedding> {
    let texts = texts.iter().map(|&text| text.to_owned()).collect();
    model.embed(texts, EmbedOptions::default(), &call("t")).await.unwrap().rows
}

#[tokio::test]
async fn vectors_are_those_of_an_independent_implementation() {
    let golden: Golden = serde_json::from_str(GOLDEN).unwrap();
    let Rig { model, .. } = &minilm();
    assert_eq!((model.card.max_tokens, model.card.dimensions), (golden.max_tokens, 384));
    for row in golden.rows {
        let vectors = embed(model, &[&row.text]).await;
        let Embedding { values, tokens, truncated } = &vectors[0];
        assert_eq!((*tokens, *truncated), (row.tokens, row.truncated), "{:?}", row.text);
        let cosine = cosine(values, &row.vector);
        assert!(cosine >= 0.999_99, "{cosine}: {:?}", row.text);
        let length = values.iter().map(|value| value * value).sum::<f32>().sqrt();
        assert!((length - 1.0).abs() < 1e-5, "{length}");
    }
}

#[tokio::test]
async fn a_batch_row_equals_the_row_alone() {
    let golden: Golden = serde_json::from_str(GOLDEN).unwrap();
    let texts: Vec<&str> = golden.rows.iter().map(|row| row.text.as_str()).collect();
    let Rig { model, .. } = &minilm();
    let together = embed(model, &texts).await;
    for (text, row) in texts.into_iter().zip(together) {
        let alone = embed(model, &[text]).await;
        let apart = row.values.iter().zip(&alone[0].values).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        // Float32 sums in another order; components are about 0.05 in size.
        assert!(apart <= 2e-6, "{apart}: {text:?}");
        assert!(cosine(&row.values, &alone[0].values) >= 0.999_999, "{text:?}");
    }
}

#[tokio::test]
async fn vectors_are_cut_before_they_are_scaled() {
    let Rig { model, .. } = &minilm();
    let options = |dimensions, normalize| EmbedOptions { dimensions, normalize, ..EmbedOptions::default() };
    let embed = async |options| model.embed(vec!["shoes".into()], options, &call("t")).await;
    let whole = embed(options(0, Some(false))).await.unwrap().rows.remove(0).values;
    let cut = embed(options(64, None)).await.unwrap().rows.remove(0).values;
    assert_eq!((whole.len(), cut.len()), (384, 64));
    let length = whole[..64].iter().map(|value| value * value).sum::<f32>().sqrt();
    assert!(cut.iter().zip(&whole).all(|(cut, whole)| (cut - whole / length).abs() < 1e-6));
    let error = embed(options(385, None)).await.unwrap_err();
    assert!(matches!(&error, Error::Invalid { field, .. } if field == "dimensions"), "{error}");
}

#[tokio::test]
async fn what_a_model_is_not_for_it_refuses() {
    let Rig { model, .. } = &minilm();
    let texts = || vec!["a".to_owned()];
    let error = model.rerank("q".into(), texts(), false, Truncation::End, &call("t")).await.unwrap_err();
    assert!(error.to_string().contains("all-MiniLM-L6-v2 does not rerank: its task is embed"), "{error}");
    let options = ClassifyOptions::default();
    let error = model.classify(texts(), vec![], options, &call("t")).await.unwrap_err();
    assert!(matches!(error, Error::OtherTask { wanted: "classify", .. }), "{error}");
    let prompt = EmbedOptions { prompt: "query".into(), ..EmbedOptions::default() };
    let error = model.embed(texts(), prompt, &call("t")).await.unwrap_err();
    assert!(matches!(&error, Error::Invalid { field, .. } if field == "prompt"), "{error}");
}

#[tokio::test]
async fn requests_are_counted_however_they_end() {
    let Rig { model, .. } = &minilm();
    embed(model, &["one", "two"]).await;
    let options = || EmbedOptions { truncation: Truncation::Refuse, ..EmbedOptions::default() };
    let long = vec!["word ".repeat(300)];
    assert!(matches!(
        model.embed(long, options(), &call("t")).await,
        Err(Error::TooLong { field, tokens: 302, most: 256 }) if field == "texts[0]"
    ));
    // So much that it cannot be done by the time that it is asked after once.
    let many = vec!["word ".repeat(250); 64];
    drop(futures::poll!(std::pin::pin!(model.embed(many, options(), &call("t")))));
    let counts = model.statistics();
    assert_eq!((counts.success.count, counts.fail.count, counts.cancel.count), (1, 1, 1));
    assert_eq!(counts.inferences, 2);
    assert!(counts.batches.values().map(|total| total.count).sum::<u64>() >= 1);
}

#[tokio::test]
async fn a_default_prompt_gives_way_to_an_empty_one() {
    let prompts = r#"{"prompts": {"query": "query: ", "document": ""}, "default_prompt_name": "query"}"#;
    let prompted = tiny("tiny-embedder", &[("config_sentence_transformers.json", prompts)]);
    let plain = tiny("tiny-embedder", &[]);
    let embed = async |folder: &TempDir, prompt: &str| {
        let Rig { model, .. } = &load_with(folder.path(), Config::default()).unwrap();
        let options = EmbedOptions { prompt: prompt.into(), ..EmbedOptions::default() };
        model.embed(vec!["my parcel".into()], options, &call("t")).await.unwrap().rows.remove(0).values
    };
    let none = embed(&plain, "").await;
    assert_eq!(embed(&prompted, "document").await, none);
    assert_ne!(embed(&prompted, "").await, none);
}

#[tokio::test]
async fn a_text_without_tokens_is_refused_by_its_place() {
    let tokenizer = std::fs::read_to_string(fixtures().join("models/tiny-embedder/tokenizer.json")).unwrap();
    let mut tokenizer: serde_json::Value = serde_json::from_str(&tokenizer).unwrap();
    tokenizer["post_processor"] = serde_json::Value::Null;
    let folder = tiny("tiny-embedder", &[("tokenizer.json", &tokenizer.to_string())]);
    let Rig { model, .. } = &load_with(folder.path(), Config::default()).unwrap();
    let texts = ["my parcel", " ", "the card"].map(String::from).to_vec();
    let error = model.embed(texts, EmbedOptions::default(), &call("t")).await.unwrap_err();
    assert!(error.to_string().starts_with("texts[1]: has no token"), "{error}");
    assert_eq!(model.statistics().fail.count, 1);
}

/// In models that read query and text together, and apart.
#[tokio::test]
async fn what_is_too_long_is_named() {
    for (name, document) in [("tiny-cross-encoder", 128), ("tiny-late-interaction", 96)] {
        let Rig { model, .. } = &load_with(&fixtures().join("models").join(name), Config::default()).unwrap();
        let rerank = async |query: &str, texts: &[&str]| {
            let texts = texts.iter().map(|&text| text.to_owned()).collect();
            model.rerank(query.to_owned(), texts, false, Truncation::Refuse, &call("t")).await.map(|_| ())
        };
        let long = "parcel ".repeat(200);
        let error = rerank(&long, &["my parcel"]).await.unwrap_err();
        assert!(matches!(&error, Error::TooLong { field, .. } if field == "query"), "{name}: {error}");
        let error = rerank("where", &["my parcel", &long]).await.unwrap_err();
        assert!(
            matches!(&error, Error::TooLong { field, most, .. } if field == "texts[1]" && *most == document),
            "{name}: {error}"
        );
        rerank("where", &["my parcel"]).await.unwrap();
        let counts = model.statistics();
        assert_eq!((counts.fail.count, counts.cancel.count, counts.success.count), (2, 0, 1), "{name}");
    }
}

#[tokio::test]
async fn the_fingerprint_follows_all_that_vectors_depend_on() {
    let fingerprint = |folder: &Path, max_tokens| {
        let config = Config { max_tokens, ..Config::default() };
        load_with(folder, config).unwrap().model.card.fingerprint.clone()
    };
    let repository = setup::repository();
    let folder = repository.path().join("all-MiniLM-L6-v2");
    let first = fingerprint(&folder, 256);
    assert_eq!(first.len(), 32);
    assert_eq!(fingerprint(&folder, 256), first);
    assert_ne!(fingerprint(&folder, 128), first);
    std::fs::write(folder.join("model.toml"), "normalize = false").unwrap();
    assert_ne!(fingerprint(&folder, 256), first);
}

#[tokio::test]
async fn a_tokenizer_that_does_not_fit_is_named() {
    let repository = setup::repository();
    let folder = repository.path().join("all-MiniLM-L6-v2");
    let path = folder.join("config.json");
    let config = std::fs::read_to_string(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, config.replace("\"vocab_size\": 30522", "\"vocab_size\": 30521")).unwrap();
    let error = load_with(&folder, Config::default()).err().unwrap().to_string();
    assert!(
        error.contains("tokenizer.json gives ids up to 30521") && error.contains("vocab_size 30521"),
        "{error}"
    );
}

#[tokio::test]
async fn a_provider_that_the_library_lacks_is_named() {
    let config = Config { provider: crate::Provider::Cuda, ..Config::default() };
    let error = load_with(&setup::model(), config).err().unwrap().to_string();
    assert!(error.contains("onnx/cuda"), "{error}");
}

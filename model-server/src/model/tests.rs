use serde::Deserialize;
use switchboard_mesh::testing::call;

use super::*;
use crate::{Config, library, onnx::Runtime, repository, scheduler::Device, setup};

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

/// A model with the device that it runs on.
pub(super) struct Rig {
    pub(super) model: Model,
    _device: Device,
}

pub(super) fn load_with(folder: &std::path::Path, config: Config) -> Result<Rig, Error> {
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
        Err(Error::TooLong { tokens: 302, most: 256 })
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
async fn the_fingerprint_follows_all_that_vectors_depend_on() {
    let fingerprint = |folder: &std::path::Path, max_tokens| {
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

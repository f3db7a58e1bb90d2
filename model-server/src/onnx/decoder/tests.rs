//! Both layouts against PyTorch, and a row among others against the row alone.

use std::path::PathBuf;

use serde::Deserialize;

use super::*;
use crate::{
    config::Provider, generate::Feed, library, placement::Placement, repository::BackendName, setup,
};

#[derive(Deserialize)]
struct Golden {
    rows: Vec<Row>,
}

#[derive(Deserialize)]
struct Row {
    ids: Vec<u32>,
    repetition_penalty: f32,
    found: Found,
}

#[derive(Deserialize)]
struct Found {
    ids: Vec<u32>,
    logprobs: Vec<f32>,
}

fn fixtures() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures")
}

fn language() -> Language {
    Language { layers: 5, heads: 2, head_size: 32, vocabulary: 1280, positions: 512 }
}

fn loaded(file: &str, language: &Language, slots: usize) -> Result<Box<dyn Decoder>, Error> {
    let runtime = Runtime::load(&library::find(&setup::runtime()).unwrap()).unwrap();
    let placement = Placement { backend: BackendName::Onnx, provider: Provider::Cpu, gpu: 0 };
    let options = DecoderOptions { placement, threads: 1, slots, context: 512, precision: None };
    let graph = fixtures().join("models/tiny-lm").join(file);
    load(&runtime, &graph, language, &options, file == "gqa.onnx")
}

fn decoder(file: &str) -> Box<dyn Decoder> {
    loaded(file, &language(), 5).unwrap()
}

/// The prompts with what PyTorch continues them by, greedily and without a penalty.
fn rows() -> Vec<Row> {
    let text = std::fs::read_to_string(fixtures().join("goldens/tiny-lm.json")).unwrap();
    let golden: Golden = serde_json::from_str(&text).unwrap();
    let mut rows = golden.rows;
    rows.retain(|row| row.repetition_penalty == 1.0);
    assert!(rows.len() >= 10);
    rows
}

/// The likeliest token with the logarithm of its probability.
fn likeliest(logits: &[f32]) -> (u32, f32) {
    let (at, most) = logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).unwrap();
    let sum: f64 = logits.iter().map(|logit| f64::from(logit - most).exp()).sum();
    (u32::try_from(at).unwrap(), -sum.ln() as f32)
}

fn near(logprob: f32, expected: f32) {
    assert!((logprob - expected).abs() < 2e-3, "{logprob} and {expected}");
}

/// Continues one prompt in a slot, reading it in parts of `part` tokens.
fn continued(decoder: &mut dyn Decoder, slot: usize, row: &Row, part: usize) {
    let (mut past, mut logits) = (0, Vec::new());
    for tokens in row.ids.chunks(part) {
        logits = decoder.step(&[Feed { slot, past, tokens }]).unwrap();
        past += tokens.len();
    }
    for (&token, &logprob) in row.found.ids.iter().zip(&row.found.logprobs) {
        let (found, odds) = likeliest(&logits);
        assert_eq!(found, token, "after {past} tokens");
        near(odds, logprob);
        logits = decoder.step(&[Feed { slot, past, tokens: &[token] }]).unwrap();
        past += 1;
    }
}

#[test]
fn both_layouts_write_what_pytorch_writes() {
    for file in ["model.onnx", "gqa.onnx"] {
        let mut decoder = decoder(file);
        for (at, row) in rows().iter().enumerate() {
            for part in [512, 7] {
                continued(decoder.as_mut(), at % 5, row, part);
            }
        }
    }
}

#[test]
fn rows_of_any_lengths_share_a_step_and_write_what_each_writes_alone() {
    for (file, in_place) in [("model.onnx", false), ("gqa.onnx", true)] {
        let mut decoder = decoder(file);
        assert_eq!(decoder.shape().batches, in_place);
        let all = rows();
        // A slot is left out in the middle, and another one holds a prompt that nobody continues meanwhile.
        let taken = [(0, &all[0]), (1, &all[1]), (3, &all[2])];
        let idle = &all[3];
        decoder.step(&[Feed { slot: 2, past: 0, tokens: &idle.ids }]).unwrap();
        let mut past = [0; 3];
        let mut logits: Vec<Vec<f32>> = Vec::new();
        for (at, (slot, row)) in taken.iter().enumerate() {
            logits.push(decoder.step(&[Feed { slot: *slot, past: 0, tokens: &row.ids }]).unwrap());
            past[at] = row.ids.len();
        }
        let longest = taken.iter().map(|(_, row)| row.found.ids.len()).max().unwrap();
        for step in 0..longest {
            let live: Vec<usize> = (0..3).filter(|&at| step < taken[at].1.found.ids.len()).collect();
            for &at in &live {
                let (found, odds) = likeliest(&logits[at]);
                assert_eq!(found, taken[at].1.found.ids[step], "row {at}, step {step}");
                near(odds, taken[at].1.found.logprobs[step]);
            }
            let feeds: Vec<Feed<'_>> = live
                .iter()
                .map(|&at| Feed {
                    slot: taken[at].0,
                    past: past[at],
                    tokens: &taken[at].1.found.ids[step..=step],
                })
                .collect();
            let next = decoder.step(&feeds).unwrap();
            for (&at, own) in live.iter().zip(next.chunks(1280)) {
                logits[at] = own.to_vec();
                past[at] += 1;
            }
        }
        // What was held meanwhile is unharmed, and a step can be made again.
        let (first, past) = (&idle.found.ids[..1], idle.ids.len());
        let once = decoder.step(&[Feed { slot: 2, past, tokens: first }]).unwrap();
        if in_place {
            let again = decoder.step(&[Feed { slot: 2, past, tokens: first }]).unwrap();
            assert_eq!(likeliest(&once).0, likeliest(&again).0);
        }
        assert_eq!(likeliest(&once).0, idle.found.ids[1]);
    }
}

#[test]
fn a_graph_that_is_not_what_the_config_says_is_refused() {
    let refused = |change: fn(&mut Language)| {
        let mut language = language();
        change(&mut language);
        loaded("model.onnx", &language, 5).err().map(|error| error.to_string()).unwrap_or_default()
    };
    let missing = refused(|language| language.layers = 6);
    assert!(missing.contains("past_key_values.5.key"), "{missing}");
    let extra = refused(|language| language.layers = 4);
    assert!(extra.contains("past_key_values.4.key") && extra.contains("4 layers"), "{extra}");
    assert_eq!(refused(|_| ()), "");
}

#[test]
fn what_does_not_fit_a_slot_is_refused() {
    let decoder = &mut loaded("gqa.onnx", &language(), 3).unwrap();
    // Keys and values of 5 layers, 2 heads, 32 numbers of 4 bytes.
    assert_eq!(decoder.shape().bytes_per_token, 2 * 5 * 2 * 32 * 4);
    let tokens = vec![1; 513];
    assert!(decoder.step(&[Feed { slot: 0, past: 0, tokens: &tokens }]).is_err());
    assert!(decoder.step(&[Feed { slot: 3, past: 0, tokens: &[1] }]).is_err());
    assert!(decoder.step(&[Feed { slot: 0, past: 2, tokens: &[1] }]).is_err());
    assert!(decoder.step(&[Feed { slot: 0, past: 0, tokens: &tokens[..512] }]).is_ok());
}

//! Decoders against transformers, alone and together; and what is refused.

use std::{collections::BTreeMap, fs, path::Path};

use serde::Deserialize;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{archive::tests::script, decoder};
use crate::{
    Provider,
    backend::{BackendError, Batch, Row},
    error::Error,
    generate::{Decoder, Feed},
    placement::{DecoderOptions, Placement, Precision},
    repository::{self, BackendName},
};

/// Numbers are in the tens.
const LOGIT: f32 = 1e-4;
/// What the goldens' natural logarithms were rounded to and float32's rounding over some 500 tokens.
const LOGARITHM: f64 = 1e-3;

fn options(slots: usize, context: usize) -> DecoderOptions {
    let placement = Placement { backend: BackendName::Torch, provider: Provider::Cpu, gpu: 0 };
    DecoderOptions { placement, threads: 2, slots, context, precision: None }
}

fn lm() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/models/tiny-lm")
}

/// tiny-lm from safetensors, and as TorchScript.
fn both(slots: usize) -> [Box<dyn Decoder>; 2] {
    let folder = lm();
    let load = |script: Option<&Path>| decoder(&folder, script, &options(slots, 512)).unwrap();
    [load(None), load(Some(&folder.join("model.pt")))]
}

#[derive(Deserialize)]
struct Golden {
    rows: Vec<GoldenRow>,
    ends: Vec<u32>,
}

#[derive(Deserialize)]
struct GoldenRow {
    name: String,
    ids: Vec<u32>,
    max_tokens: usize,
    repetition_penalty: f32,
    found: Found,
}

#[derive(Deserialize)]
struct Found {
    ids: Vec<u32>,
    logprobs: Vec<f64>,
}

fn golden() -> Golden {
    let path = lm().join("../../goldens/tiny-lm.json");
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// A row on its way: all of its tokens, and how many the decoder has.
struct Text<'a> {
    row: &'a GoldenRow,
    tokens: Vec<u32>,
    fed: usize,
    ended: bool,
}

impl<'a> Text<'a> {
    fn new(row: &'a GoldenRow) -> Self {
        Self { row, tokens: row.ids.clone(), fed: 0, ended: false }
    }

    fn feed(&self, slot: usize, most: usize) -> Feed<'_> {
        let end = self.tokens.len().min(self.fed.saturating_add(most));
        Feed { slot, past: self.fed, tokens: &self.tokens[self.fed..end] }
    }

    /// Takes what a step gave after `count` tokens more.
    fn take(&mut self, logits: &[f32], count: usize, ends: &[u32]) {
        self.fed += count;
        if self.fed < self.tokens.len() {
            return;
        }
        let sum: f64 = logits.iter().map(|&logit| f64::from(logit).exp()).sum();
        let (token, logarithm) = greedy(logits, &self.tokens, self.row.repetition_penalty);
        let written = self.tokens.len() - self.row.ids.len();
        if let Some(expected) = self.row.found.logprobs.get(written) {
            let found = logarithm - sum.ln();
            assert!((found - expected).abs() < LOGARITHM, "{}: {found} {expected}", self.row.name);
        }
        self.ended = ends.contains(&token) || written + 1 == self.row.max_tokens;
        if !ends.contains(&token) {
            self.tokens.push(token);
        }
    }

    fn check(&self) {
        assert_eq!(self.tokens[self.row.ids.len()..], self.row.found.ids, "{}", self.row.name);
    }
}

/// The token to go on with, and its logit before any penalty.
fn greedy(logits: &[f32], seen: &[u32], penalty: f32) -> (u32, f64) {
    let mut fined = logits.to_vec();
    for &token in seen.iter().collect::<std::collections::BTreeSet<_>>() {
        let logit = &mut fined[token as usize];
        *logit = if *logit < 0.0 { *logit * penalty } else { *logit / penalty };
    }
    let best = (0..fined.len()).max_by(|&a, &b| fined[a].total_cmp(&fined[b])).unwrap();
    (best as u32, f64::from(logits[best]))
}

#[test]
fn texts_alone_are_those_of_transformers() {
    let golden = golden();
    for mut decoder in both(1) {
        for row in &golden.rows {
            let mut text = Text::new(row);
            while !text.ended {
                let feed = text.feed(0, usize::MAX);
                let count = feed.tokens.len();
                let logits = decoder.step(&[feed]).unwrap();
                text.take(&logits, count, &golden.ends);
            }
            text.check();
            decoder.clear(0);
        }
    }
}

/// Rows join one after the other, their prompts in pieces of different lengths, and leave when they end; so
/// steps have rows of one token and of many, and gaps between their slots.
#[test]
fn texts_together_are_those_of_transformers() {
    let golden = golden();
    for mut decoder in both(golden.rows.len()) {
        let vocabulary = decoder.shape().vocabulary;
        let mut texts: Vec<Text<'_>> = golden.rows.iter().map(Text::new).collect();
        for step in 1.. {
            // The later ones' slots come first.
            let slots = texts.len() - 1;
            let going = texts.iter_mut().enumerate().take(step).filter(|(_, text)| !text.ended);
            let mut going: Vec<(usize, &mut Text<'_>)> = going.map(|(n, text)| (slots - n, text)).collect();
            if going.is_empty() {
                break;
            }
            let feeds: Vec<Feed<'_>> =
                going.iter().map(|(slot, text)| text.feed(*slot, 20 + slot * 7)).collect();
            let counts: Vec<usize> = feeds.iter().map(|feed| feed.tokens.len()).collect();
            let logits = decoder.step(&feeds).unwrap();
            for (((_, text), count), logits) in
                going.iter_mut().zip(counts).zip(logits.chunks_exact(vocabulary))
            {
                text.take(logits, count, &golden.ends);
            }
        }
        texts.iter().for_each(Text::check);
    }
}

fn apart(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn a_row_beside_others_equals_the_row_alone() {
    let rows = golden().rows;
    let [mut alone, _] = both(1);
    let [mut beside, _] = both(rows.len());
    let vocabulary = beside.shape().vocabulary;
    // All but the last token, then the last ones side by side: their pasts differ.
    let most: Vec<Feed<'_>> = (0..)
        .zip(&rows)
        .map(|(slot, row)| Feed { slot, past: 0, tokens: &row.ids[..row.ids.len() - 1] })
        .collect();
    let last: Vec<Feed<'_>> = (0..)
        .zip(&rows)
        .map(|(slot, row)| Feed { slot, past: row.ids.len() - 1, tokens: &row.ids[row.ids.len() - 1..] })
        .collect();
    let most_together = beside.step(&most).unwrap();
    let together = beside.step(&last).unwrap();
    for (slot, row) in rows.iter().enumerate() {
        let at = slot * vocabulary..(slot + 1) * vocabulary;
        let found = alone.step(&[Feed { slot: 0, ..most[slot] }]).unwrap();
        let distance = apart(&found, &most_together[at.clone()]);
        assert!(distance < LOGIT, "{}: {distance}", row.name);
        let found = alone.step(&[Feed { slot: 0, ..last[slot] }]).unwrap();
        let distance = apart(&found, &together[at]);
        assert!(distance < LOGIT, "{}: {distance}", row.name);
    }
}

/// A step again, back to an earlier place, and another text in the same slot.
#[test]
fn what_a_slot_holds_is_what_the_caller_says() {
    let tokens: Vec<u32> = (0..60).map(|n| 7 + n * 13 % 500).collect();
    for mut decoder in both(2) {
        let mut step = |past: usize, end: usize| {
            decoder.step(&[Feed { slot: 1, past, tokens: &tokens[past..end] }]).unwrap()
        };
        let whole = step(0, 60);
        assert!(apart(&step(59, 60), &whole) < LOGIT);
        let middle = step(20, 40);
        assert!(apart(&step(0, 40), &middle) < LOGIT);
        assert!(apart(&step(40, 60), &whole) < LOGIT);
        let other = decoder.step(&[Feed { slot: 1, past: 0, tokens: &tokens[30..50] }]).unwrap();
        let same = decoder.step(&[Feed { slot: 0, past: 0, tokens: &tokens[30..50] }]).unwrap();
        assert!(apart(&other, &same) < LOGIT);
    }
}

#[test]
fn a_step_that_cannot_be_made_is_refused() {
    for mut decoder in both(2) {
        let mut refusal = |feeds: &[Feed<'_>]| match decoder.step(feeds) {
            Err(BackendError::Failed(what)) => what,
            other => panic!("{other:?}"),
        };
        let feed = |slot, past, tokens| Feed { slot, past, tokens };
        assert!(refusal(&[]).contains("without rows"));
        assert!(refusal(&[feed(2, 0, &[1])]).contains("there are 2"));
        assert!(refusal(&[feed(0, 0, &[1]), feed(0, 0, &[1])]).contains("each for one row"));
        assert!(refusal(&[feed(0, 0, &[])]).contains("1 to 512 fit"));
        assert!(refusal(&[feed(0, 512, &[1])]).contains("1 to 512 fit"));
        assert!(refusal(&[feed(0, usize::MAX, &[1])]).contains("1 to 512 fit"));
        assert!(refusal(&[feed(0, 0, &[1280])]).contains("there are 1280"));
        decoder.step(&[feed(0, 0, &[1279]), feed(1, 0, &[0])]).unwrap();
    }
}

#[test]
fn the_measures_are_those_of_the_config() {
    let [llama, script] = both(3).map(|decoder| decoder.shape());
    assert_eq!((llama.slots, llama.context, llama.vocabulary), (3, 512, 1280));
    // Keys and values of 5 layers with 2 heads of 32 numbers of 4 bytes.
    assert_eq!((llama.bytes_per_token, llama.batches), (2 * 5 * 2 * 32 * 4, true));
    assert_eq!((script.bytes_per_token, script.batches), (llama.bytes_per_token, false));
    let short = decoder(&lm(), None, &options(1, 100)).unwrap().shape();
    let long = decoder(&lm(), None, &options(1, 100_000)).unwrap().shape();
    assert_eq!((short.context, long.context), (100, 512));
}

/// Settings, shapes and logits by `llama/make_goldens.py`.
#[derive(Deserialize)]
struct Family {
    config: Value,
    shapes: BTreeMap<String, Vec<usize>>,
    /// After so many tokens.
    logits: BTreeMap<usize, Vec<f32>>,
}

fn families() -> BTreeMap<String, Family> {
    serde_json::from_str(include_str!("llama/goldens.json")).unwrap()
}

/// The number at place `at` of a tensor, as the goldens have it.
fn value(name: &str, at: usize) -> f32 {
    let seed = name.bytes().zip(1..).map(|(byte, n)| n * u64::from(byte)).sum::<u64>() % 1000;
    let at = at as f64;
    let wave = (0.7 * seed as f64 + 1.3 * at + 0.001 * at * at).sin();
    (if name.ends_with("norm.weight") { 1.0 + 0.2 * wave } else { 0.4 * wave }) as f32
}

fn tokens(count: u32) -> Vec<u32> {
    (0..count).map(|at| (7 * at * at + 3 * at + 1) % 40).collect()
}

/// A safetensors file with these tensors.
fn safetensors(tensors: &BTreeMap<String, Vec<usize>>, value: impl Fn(&str, usize) -> f32) -> Vec<u8> {
    let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
    for (name, shape) in tensors {
        let from = data.len();
        data.extend((0..shape.iter().product()).flat_map(|at| value(name, at).to_le_bytes()));
        let entry = json!({ "dtype": "F32", "shape": shape, "data_offsets": [from, data.len()] });
        header.insert(name.clone(), entry);
    }
    let header = serde_json::to_vec(&header).unwrap();
    [&(header.len() as u64).to_le_bytes()[..], &header, &data].concat()
}

fn folder(config: &Value) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    folder
}

fn family(family: &Family) -> TempDir {
    let folder = folder(&family.config);
    fs::write(folder.path().join("model.safetensors"), safetensors(&family.shapes, value)).unwrap();
    folder
}

#[test]
fn every_family_and_rotation_is_that_of_transformers() {
    for (name, case) in families() {
        let folder = family(&case);
        let mut decoder = decoder(folder.path(), None, &options(1, 128)).unwrap();
        let all = tokens(100);
        let mut past = 0;
        for (&count, expected) in &case.logits {
            let found = decoder.step(&[Feed { slot: 0, past, tokens: &all[past..count] }]).unwrap();
            let distance = apart(&found, expected);
            assert!(distance < LOGIT, "{name} after {count}: {distance}");
            past = count;
        }
        let at_once = decoder.step(&[Feed { slot: 0, past: 0, tokens: &all }]).unwrap();
        assert!(apart(&at_once, &case.logits[&100]) < LOGIT, "{name}");
    }
}

/// Pieces of attention begin and end within a prompt that is longer than one.
#[test]
fn a_long_prompt_at_once_equals_its_tokens_one_by_one() {
    let mut case = families().remove("llama").unwrap();
    case.config["max_position_embeddings"] = json!(1000);
    let folder = family(&case);
    let mut decoder = decoder(folder.path(), None, &options(2, 1000)).unwrap();
    let all = tokens(900);
    let at_once = decoder.step(&[Feed { slot: 0, past: 0, tokens: &all }]).unwrap();
    let mut last = Vec::new();
    for past in 0..all.len() {
        last = decoder.step(&[Feed { slot: 1, past, tokens: &all[past..=past] }]).unwrap();
    }
    assert!(apart(&at_once, &last) < LOGIT, "{}", apart(&at_once, &last));
}

#[test]
fn half_precision_is_near() {
    let case = families().remove("qwen3").unwrap();
    let folder = family(&case);
    let options = DecoderOptions { precision: Some(Precision::Bfloat16), ..options(1, 128) };
    let mut decoder = decoder(folder.path(), None, &options).unwrap();
    assert_eq!(decoder.shape().bytes_per_token, 2 * 2 * 2 * 8 * 2);
    let found = decoder.step(&[Feed { slot: 0, past: 0, tokens: &tokens(100) }]).unwrap();
    // It has 8 bits, and the logits are up to 4.
    let distance = apart(&found, &case.logits[&100]);
    assert!(distance < 0.2, "{distance}");
}

#[test]
fn weights_in_several_files_are_those_in_one() {
    let case = families().remove("llama").unwrap();
    let folder = folder(&case.config);
    let (first, second): (BTreeMap<_, _>, BTreeMap<_, _>) =
        case.shapes.clone().into_iter().partition(|(name, _)| name.contains("layers.0"));
    let mut map = BTreeMap::new();
    for (file, part) in [("a.safetensors", &first), ("b.safetensors", &second)] {
        fs::write(folder.path().join(file), safetensors(part, value)).unwrap();
        map.extend(part.keys().map(|name| (name.clone(), file)));
    }
    let index = json!({ "weight_map": map }).to_string();
    fs::write(folder.path().join("model.safetensors.index.json"), index).unwrap();
    let mut decoder = decoder(folder.path(), None, &options(1, 128)).unwrap();
    let found = decoder.step(&[Feed { slot: 0, past: 0, tokens: &tokens(9) }]).unwrap();
    assert!(apart(&found, &case.logits[&9]) < LOGIT);
}

fn refusal(folder: &Path, script: Option<&Path>) -> String {
    match decoder(folder, script, &options(1, 128)) {
        Err(error @ Error::File { .. }) => error.to_string(),
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("it loaded"),
    }
}

type Shapes = BTreeMap<String, Vec<usize>>;

#[test]
fn weights_that_do_not_fit_are_named_with_what_is_wanted() {
    let case = families().remove("qwen2").unwrap();
    let error = |change: &dyn Fn(&mut Shapes)| {
        let folder = folder(&case.config);
        let mut shapes = case.shapes.clone();
        change(&mut shapes);
        fs::write(folder.path().join("model.safetensors"), safetensors(&shapes, value)).unwrap();
        let error = refusal(folder.path(), None);
        assert!(error.contains("model.safetensors"), "{error}");
        error
    };
    let missing = error(&|shapes| drop(shapes.remove("model.layers.1.mlp.up_proj.weight")));
    assert!(missing.contains("no F32, F16 or BF16 tensor model.layers.1.mlp.up_proj.weight"), "{missing}");
    assert!(missing.contains("[36, 24]"), "{missing}");
    let bias = error(&|shapes| drop(shapes.remove("model.layers.0.self_attn.q_proj.bias")));
    assert!(bias.contains("model.layers.0.self_attn.q_proj.bias") && bias.contains("[48]"), "{bias}");
    let shape = error(&|shapes| drop(shapes.insert("model.norm.weight".into(), vec![23])));
    assert!(shape.contains("model.norm.weight of shape [23]") && shape.contains("[24]"), "{shape}");
    let extra = error(&|shapes| drop(shapes.insert("model.layers.2.mlp.up_proj.weight".into(), vec![1])));
    assert!(extra.contains("a tensor model.layers.2.mlp.up_proj.weight"), "{extra}");
}

#[test]
fn weights_that_are_no_numbers_are_named() {
    let case = families().remove("llama").unwrap();
    for bad in [f32::NAN, f32::INFINITY] {
        let folder = folder(&case.config);
        let broken = |name: &str, at| match (name, at) {
            ("model.layers.1.self_attn.v_proj.weight", 17) => bad,
            _ => value(name, at),
        };
        fs::write(folder.path().join("model.safetensors"), safetensors(&case.shapes, broken)).unwrap();
        let error = refusal(folder.path(), None);
        assert!(
            error.contains("model.layers.1.self_attn.v_proj.weight with values that are not finite"),
            "{error}"
        );
    }
}

#[test]
fn files_that_are_cut_or_missing_are_named() {
    let case = families().remove("llama").unwrap();
    let folder = family(&case);
    let path = folder.path().join("model.safetensors");
    let whole = fs::read(&path).unwrap();
    for end in [0, 7, 100, whole.len() / 2, whole.len() - 1] {
        fs::write(&path, &whole[..end]).unwrap();
        let error = refusal(folder.path(), None);
        assert!(error.contains("model.safetensors"), "cut at {end}: {error}");
    }
    fs::remove_file(&path).unwrap();
    assert!(refusal(folder.path(), None).contains("model.safetensors cannot be read"));
    assert!(refusal(folder.path(), Some(&folder.path().join("model.pt"))).contains("model.pt"));
}

#[test]
fn more_memory_than_there_is_is_told_with_what_wants_it() {
    let case = families().remove("llama").unwrap();
    let folder = family(&case);
    let error = decoder(folder.path(), None, &options(1 << 40, 128)).err().unwrap().to_string();
    assert!(error.contains("config.json") && error.contains("slots for 128 tokens"), "{error}");
}

/// A TorchScript decoder that gives what `body` says.
fn scripted(body: &str) -> (TempDir, std::path::PathBuf) {
    let folder = folder(&families().remove("llama").unwrap().config);
    let file = folder.path().join("model.pt");
    let forward = format!(
        "  def forward(self: __torch__.M,\n    input_ids: Tensor,\n    attention_mask: Tensor,\n    \
         position_ids: Tensor,\n    past: Tensor) -> Tuple[Tensor, Tensor]:\n{body}"
    );
    fs::write(&file, script(&forward)).unwrap();
    (folder, file)
}

#[test]
fn a_script_that_gives_something_else_is_refused_and_the_process_lives() {
    for (body, what) in [
        ("    return (input_ids, past)", "present"),
        ("    return (input_ids, torch.cat([past, past], 4))", "present"),
        ("    return (past, torch.zeros([2, 2, 1, 2, 3, 8]))", "logits"),
        ("    return (torch.div(torch.ones([1, 3, 40]), 0), torch.zeros([2, 2, 1, 2, 3, 8]))", "not finite"),
        ("    ops.prim.RaiseException(\"by design\")\n    return (past, past)", "by design"),
        ("    return (past, torch.matmul(past, torch.zeros([7, 7])))", "cannot be multiplied"),
    ] {
        let (folder, file) = scripted(body);
        let mut decoder = decoder(folder.path(), Some(&file), &options(1, 128)).unwrap();
        match decoder.step(&[Feed { slot: 0, past: 0, tokens: &[1, 2, 3] }]) {
            Err(BackendError::Failed(error)) => assert!(error.contains(what), "{body}: {error}"),
            other => panic!("{body}: {other:?}"),
        }
    }
    let (folder, file) = scripted("    return (past, torch.zeros([1099511627776, 1024]))");
    let mut decoder = decoder(folder.path(), Some(&file), &options(1, 128)).unwrap();
    let error = decoder.step(&[Feed { slot: 0, past: 0, tokens: &[1] }]).unwrap_err();
    assert!(matches!(error, BackendError::OutOfMemory(_)), "{error}");
}

#[test]
fn a_script_that_cannot_be_loaded_is_named() {
    let (folder, file) = scripted("    return (past, no_such_function(past))");
    let error = refusal(folder.path(), Some(&file));
    assert!(error.contains("model.pt cannot be run by torch/cpu"), "{error}");
    fs::write(&file, script("  def forward(self: __torch__.M,\n    x: Tensor) -> Tensor:\n    return x"))
        .unwrap();
    let error = refusal(folder.path(), Some(&file));
    assert!(error.contains("takes x; wanted input_ids, attention_mask, position_ids, past"), "{error}");
    let whole = fs::read(lm().join("model.pt")).unwrap();
    for end in [0, 100, whole.len() / 2, whole.len() - 1] {
        fs::write(&file, &whole[..end]).unwrap();
        let error = refusal(folder.path(), Some(&file));
        assert!(error.contains("model.pt cannot be used as TorchScript"), "cut at {end}: {error}");
    }
}

/// A folder of tiny-embedder whose TorchScript is this.
fn embedder(forward: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let source = lm().join("../tiny-embedder");
    for file in ["config.json", "tokenizer.json"] {
        fs::copy(source.join(file), folder.path().join(file)).unwrap();
    }
    fs::write(folder.path().join("model.pt"), script(forward)).unwrap();
    folder
}

fn takes(parameters: &str, gives: &str, body: &str) -> String {
    format!("  def forward(self: __torch__.M,\n    {parameters}) -> {gives}:\n    {body}")
}

const USUAL: &str = "input_ids: Tensor,\n    attention_mask: Tensor";

fn run(folder: &Path) -> Result<(usize, bool), String> {
    let description = repository::describe(folder).map_err(|error| error.to_string())?;
    let placement = Placement { backend: description.backend, provider: Provider::Cpu, gpu: 0 };
    let mut model = super::load(&description, placement, 1).map_err(|error| error.to_string())?;
    let rows = [Row::single(vec![1, 2, 3]), Row::single(vec![4])];
    let batch = Batch::new(rows.iter(), 0);
    let output = model.run(&batch).map_err(|error| error.to_string())?;
    Ok((output.width, output.each_token))
}

#[test]
fn an_output_is_a_tensor_the_first_of_a_tuple_or_named_in_a_dictionary() {
    let tokens = "torch.ones([2, 3, 5])";
    for (gives, body, found) in [
        ("Tensor", format!("return {tokens}"), (5, true)),
        ("Tensor", "return torch.ones([2, 7], dtype=15)".into(), (7, false)),
        ("Tuple[Tensor, Tensor]", format!("return ({tokens}, input_ids)"), (5, true)),
        (
            "Dict[str, Tensor]",
            format!(
                "return {{\"pooled\": input_ids, \"sentence_embedding\": torch.ones([2, 4]), \"token_embeddings\": {tokens}}}"
            ),
            (5, true),
        ),
    ] {
        let folder = embedder(&takes(USUAL, gives, &body));
        assert_eq!(run(folder.path()).unwrap(), found, "{body}");
    }
    let body = "return {\"last_hidden_state\": input_ids, \"b\": torch.ones([2, 4])}";
    let folder = embedder(&takes(USUAL, "Dict[str, Tensor]", body));
    fs::write(folder.path().join("model.toml"), "output = 'b'").unwrap();
    assert_eq!(run(folder.path()).unwrap(), (4, false));
    fs::write(folder.path().join("model.toml"), "output = 'c'").unwrap();
    let error = run(folder.path()).unwrap_err();
    assert!(error.contains("no tensor c; it gives last_hidden_state, b"), "{error}");
}

#[test]
fn a_script_is_given_what_it_names_and_refused_where_it_wants_what_there_is_not() {
    let all = "attention_mask: Tensor,\n    input_ids: Tensor,\n    token_type_ids: Optional[Tensor]=None,\n    \
               head_mask: Optional[Tensor]=None";
    // The sum over ids alone is that large.
    let body = "return torch.mul(torch.ones([2, 10]), torch.sum(input_ids))";
    assert_eq!(run(embedder(&takes(all, "Tensor", body)).path()).unwrap(), (10, false));
    for (parameters, what) in [
        ("input_ids: Tensor", "takes no attention_mask"),
        ("input_ids: Tensor,\n    attention_mask: Tensor,\n    pixels: Tensor", "takes pixels: Tensor"),
        ("input_ids: List[int],\n    attention_mask: Tensor", "takes input_ids: List[int]"),
    ] {
        let folder = embedder(&takes(parameters, "Tensor", "return torch.ones([2, 2])"));
        let error = run(folder.path()).unwrap_err();
        assert!(error.contains("model.pt") && error.contains(what), "{error}");
    }
}

#[test]
fn an_output_that_cannot_be_read_says_what_it_is() {
    for (gives, body, what) in [
        ("Tensor", "return input_ids", "Int64"),
        ("Tensor", "return torch.ones([3, 2])", "shape [3, 2] for 2 x 3"),
        ("Tensor", "return torch.ones([2, 4, 5])", "shape [2, 4, 5]"),
        ("int", "return 3", "neither"),
        ("Tuple[int, Tensor]", "return (3, input_ids)", "begin"),
        ("Dict[int, Tensor]", "return {3: input_ids}", "last_hidden_state or"),
        ("Tensor", "return torch.matmul(torch.ones([2, 3]), torch.ones([2, 3]))", "cannot be multiplied"),
    ] {
        let error = run(embedder(&takes(USUAL, gives, body)).path()).unwrap_err();
        assert!(error.contains(what), "{body}: {error}");
    }
}

/// The file's tables and code are looked into, but its tensors are not: whatever is in them, the process lives.
#[test]
fn a_file_with_any_bit_turned_is_refused_or_runs() {
    let whole = fs::read(lm().join("../tiny-embedder/model.pt")).unwrap();
    let folder = embedder("");
    for n in 0..150 {
        let mut bytes = whole.clone();
        // Most of what is not tensors lies at the ends.
        let at = if n % 2 == 0 { n * 31 % 20_000 } else { whole.len() - 1 - n * 31 % 40_000 };
        bytes[at] ^= 1 << (n % 8);
        fs::write(folder.path().join("model.pt"), &bytes).unwrap();
        if let Err(error) = run(folder.path()) {
            assert!(error.len() < 2000, "{error}");
        }
    }
}

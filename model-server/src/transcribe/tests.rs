//! The small model of `fixtures/models/tiny-whisper`, which writes touch tones as words, against what
//! transformers makes of the same weights.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use switchboard_mesh::{Deadline, testing::call};

use super::{
    decode::{Decoded, Decoder, Row},
    *,
};
use crate::{
    config::Config,
    onnx::{Runtime, Whisper as Graphs, WhisperFiles},
    placement::Placement,
    repository::{self, BackendName, Decoders, Task, json},
    scheduler::Device,
    setup,
};

pub(crate) fn fixture(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(path)
}

/// Logits of the small model.
pub(super) const SIZE: usize = 1885;

/// Its vocabulary, with parts of its `generation_config.json` replaced.
pub(super) fn vocabulary(changes: &[(&str, &str)]) -> Vocabulary {
    let (folder, source) = (tempfile::tempdir().unwrap(), fixture("models/tiny-whisper"));
    let mut text = std::fs::read_to_string(source.join("generation_config.json")).unwrap();
    for &(from, to) in changes {
        assert!(text.contains(from), "there is no {from}");
        text = text.replace(from, to);
    }
    std::fs::write(folder.path().join("generation_config.json"), text).unwrap();
    Vocabulary::read(folder.path(), &source.join("tokenizer.json"), SIZE).unwrap()
}

/// A sound by formula, which is in `fixtures/making/whisper/tones.py`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Sound {
    seconds: f64,
    hum_hz: f64,
    hum_level: f64,
    noise_level: f64,
    seed: u64,
    tones: Vec<(String, usize, usize, f64)>,
    chirp_level: f64,
    chirp_hz: f64,
}

impl Sound {
    pub(crate) fn samples(&self) -> Vec<f32> {
        use std::f64::consts::PI;
        let sine = |hertz: f64, n: usize| (2.0 * PI * hertz * n as f64 / RATE as f64).sin();
        let mut state = self.seed;
        let count = (self.seconds * RATE as f64).round() as usize;
        let sample = |n: usize| {
            let t = n as f64 / RATE as f64;
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let noise = (state >> 11) as f64 / (1_u64 << 52) as f64 - 1.0;
            let mut sample = self.hum_level * sine(self.hum_hz, n) + self.noise_level * noise;
            sample += self.chirp_level * (PI * self.chirp_hz * t * t / self.seconds).sin();
            for (digit, start, end, level) in &self.tones {
                if (*start..*end).contains(&n) {
                    let at = "123456789*0#".find(digit.as_str()).unwrap();
                    let (low, high) =
                        ([697.0, 770.0, 852.0, 941.0][at / 3], [1209.0, 1336.0, 1477.0][at % 3]);
                    sample += level * (sine(low, n - start) + sine(high, n - start)) / 2.0;
                }
            }
            sample as f32
        };
        (0..count).map(sample).collect()
    }
}

#[derive(Deserialize)]
struct Golden {
    long: Long,
    rows: Vec<Case>,
}

#[derive(Deserialize)]
struct Long {
    sound: Sound,
    segments: Vec<(f64, f64, String)>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    sound: Sound,
    language: Option<String>,
    task: Option<String>,
    #[serde(default)]
    before: String,
    found: Found,
    timed: Written,
    plain: Written,
}

#[derive(Deserialize)]
struct Found {
    language: String,
    no_speech_prob: f32,
}

#[derive(Deserialize)]
struct Written {
    ids: Vec<u32>,
    avg_logprob: f32,
    text: String,
    #[serde(default)]
    segments: Vec<(f64, f64, String)>,
}

fn golden() -> Golden {
    json(&fixture("goldens/tiny-whisper.json")).unwrap()
}

/// The model with its merged decoder, or with the two.
fn loaded(merged: bool) -> Loaded {
    load(&fixture("models/tiny-whisper"), merged).unwrap()
}

fn load(folder: &Path, merged: bool) -> Result<Loaded, Error> {
    let description = repository::describe(folder)?;
    let Task::Transcribe(mut whisper) = description.task.clone() else { panic!("{:?}", description.task) };
    assert!(
        !merged || matches!(whisper.decoders, Decoders::Merged(_)),
        "the one is taken where there are both"
    );
    if !merged {
        let [first, rest] = ["decoder_model", "decoder_with_past_model"]
            .map(|name| description.folder.join(format!("onnx/{name}.onnx")));
        whisper.decoders = Decoders::Two { first, rest };
    }
    let runtime = Runtime::load(&setup::runtime()).unwrap();
    let parameters = Parameters::read(&description.folder.join("preprocessor_config.json"))?;
    let files = WhisperFiles::new(&description.graph, &whisper, &parameters);
    let graphs = Graphs::load(&runtime, &files, Placement::of(&Config::default(), BackendName::Onnx), 1)?;
    Loaded::new(&description, &whisper, parameters, Box::new(graphs))
}

impl Loaded {
    /// Decodes cases as one batch.
    fn decode(
        &mut self,
        cases: &[&Case],
        timestamps: bool,
        left: &dyn Fn(usize) -> Option<Duration>,
    ) -> Vec<Option<Decoded>> {
        let (mels, frames) = (self.features.parameters().mels(), self.clock.window);
        let mut values = vec![0.0; cases.len() * mels * frames];
        for (case, window) in cases.iter().zip(values.chunks_exact_mut(mels * frames)) {
            self.features.extract(&case.sound.samples()).window(0, window);
        }
        let before: Vec<Vec<u32>> = cases
            .iter()
            .map(|case| match case.before.as_str() {
                "" => Vec::new(),
                text => self.vocabulary.tokens(text, 100).unwrap(),
            })
            .collect();
        let row = |(case, before): (&&Case, &'_ Vec<u32>)| {
            let language = case.language.as_deref().and_then(|tag| self.vocabulary.language(tag).unwrap());
            (before.clone(), language.cloned())
        };
        let owned: Vec<_> = cases.iter().zip(&before).map(row).collect();
        let rows: Vec<Row<'_>> = owned
            .iter()
            .map(|(before, language)| Row { before, language: language.as_ref(), most: 100, seed: 0 })
            .collect();
        let translate = cases[0].task.as_deref() == Some("translate");
        let (engine, vocabulary) = (self.engine.as_mut(), &self.vocabulary);
        let mut decoder =
            Decoder { engine, vocabulary, positions: self.positions, timestamps, translate, left };
        decoder.decode(Windows { rows: rows.len(), frames, values }, &rows).unwrap()
    }
}

fn forever(_: usize) -> Option<Duration> {
    Some(Duration::from_secs(60))
}

#[test]
fn tokens_are_those_of_transformers_with_either_form_of_the_decoder() {
    let golden = golden();
    for merged in [true, false] {
        let mut model = loaded(merged);
        for case in &golden.rows {
            for (timestamps, wanted) in [(true, &case.timed), (false, &case.plain)] {
                let name = format!("{}, merged: {merged}, times: {timestamps}", case.name);
                // At the first temperature alone, as they were made.
                let once = |_: usize| Some(Duration::from_nanos(1));
                let found = model.decode(&[case], timestamps, &once).remove(0).unwrap();
                assert_eq!(found.tokens, wanted.ids, "{name}");
                assert!((found.likelihood - wanted.avg_logprob).abs() < 2e-3, "{name}: {}", found.likelihood);
                let off = (found.no_speech - case.found.no_speech_prob).abs();
                assert!(off < 2e-3, "{name}: {}", found.no_speech);
                if let Some(language) = found.language {
                    assert_eq!(model.vocabulary.languages[language].tag, case.found.language, "{name}");
                }
                assert_eq!(
                    model.vocabulary.text(&found.tokens).unwrap().trim(),
                    wanted.text.trim(),
                    "{name}"
                );
            }
        }
    }
}

#[test]
fn a_row_of_a_batch_gets_the_tokens_that_it_gets_alone() {
    let golden = golden();
    let mut model = loaded(true);
    let alike = |case: &&Case| case.language.is_none() && case.task.is_none() && case.before.is_empty();
    let cases: Vec<&Case> = golden.rows.iter().filter(alike).collect();
    for timestamps in [true, false] {
        let together = model.decode(&cases, timestamps, &forever);
        for (case, found) in cases.iter().zip(together) {
            let alone = model.decode(&[*case], timestamps, &forever).remove(0).unwrap();
            let found = found.unwrap();
            assert_eq!((found.tokens, found.language), (alone.tokens, alone.language), "{}", case.name);
            assert!((found.likelihood - alone.likelihood).abs() < 1e-3, "{}", case.name);
        }
    }
}

#[test]
fn a_row_whose_caller_has_gone_is_left_out_and_changes_no_other() {
    let golden = golden();
    let mut model = loaded(true);
    let cases: Vec<&Case> = golden.rows[..3].iter().collect();
    let found = model.decode(&cases, true, &|row| (row != 1).then_some(Duration::from_secs(60)));
    let tokens = |row: usize| found[row].as_ref().map(|found| &found.tokens);
    assert_eq!(tokens(0), Some(&cases[0].timed.ids));
    assert_eq!(tokens(1), None);
    assert_eq!(tokens(2), Some(&cases[2].timed.ids));
}

fn transcriber(device: &Device) -> Transcriber {
    loaded(true).open("tiny-whisper", device.turns(1)).unwrap()
}

fn device() -> Device {
    Device::new("test", 1, [0.05, 0.2], || {}).unwrap()
}

fn close(found: &[Segment], wanted: &[(f64, f64, String)]) -> bool {
    let near = |time: Duration, wanted: f64| (time.as_secs_f64() - wanted).abs() < 1e-6;
    let same = |(segment, (start, end, text)): (&Segment, &(f64, f64, String))| {
        near(segment.start, *start) && near(segment.end, *end) && segment.text == text.trim()
    };
    found.len() == wanted.len() && found.iter().zip(wanted).all(same)
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_at_once_get_words_and_times() {
    let (golden, device) = (golden(), device());
    let transcriber = Arc::new(transcriber(&device));
    let asking = golden.rows.into_iter().map(|case| {
        let transcriber = Arc::clone(&transcriber);
        tokio::spawn(async move {
            let options = TranscribeOptions {
                locale: case.language.clone().unwrap_or_default(),
                prompt: case.before.clone(),
                translate: case.task.as_deref() == Some("translate"),
                ..TranscribeOptions::default()
            };
            let found = transcriber.transcribe(case.sound.samples(), options, &call("t")).await.unwrap();
            (case, found)
        })
    });
    for asked in asking.collect::<Vec<_>>() {
        let (case, found) = asked.await.unwrap();
        assert!(close(&found.segments, &case.timed.segments), "{}: {found:?}", case.name);
        assert_eq!(found.text, case.timed.text.trim(), "{}", case.name);
        assert!((0.0..=1.0).contains(&found.confidence), "{}", case.name);
        let spoken = case.language.unwrap_or(case.found.language);
        assert_eq!(found.locale, spoken, "{}", case.name);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_longer_than_a_window_goes_on_in_the_next() {
    let (Long { sound, segments }, device) = (golden().long, device());
    let found = transcriber(&device);
    let options = TranscribeOptions { locale: "en-GB".into(), ..TranscribeOptions::default() };
    let found = found.transcribe(sound.samples(), options, &call("t")).await.unwrap();
    assert!(close(&found.segments, &segments), "{found:?}");
    assert_eq!(found.text, "nine zero five two seven three one");
}

#[tokio::test(flavor = "multi_thread")]
async fn languages_that_the_model_does_not_speak_are_named() {
    let device = device();
    let transcriber = transcriber(&device);
    let options = TranscribeOptions { locale: "tlh-Latn".into(), ..TranscribeOptions::default() };
    let error = transcriber.transcribe(vec![0.0; 1600], options, &call("t")).await.unwrap_err().to_string();
    assert_eq!(error, "locale: \"tlh-Latn\" is not spoken by this model; it speaks de, en, es");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_in_time_is_refused_and_what_is_gone_gives_its_places_back() {
    let device = device();
    let transcriber = transcriber(&device);
    let ask = |seconds: usize, call: switchboard_mesh::Call| {
        let transcriber = &transcriber;
        async move { transcriber.transcribe(vec![0.1; seconds * RATE], TranscribeOptions::default(), &call).await }
    };
    let late = call("t").until(Deadline::after(Duration::ZERO));
    assert!(matches!(ask(1, late).await, Err(Error::Deadline)));
    // Long ones, until there are no places left.
    let mut waiting = Vec::new();
    let full = loop {
        let mut asked = Box::pin(ask(600, call("t")));
        match futures::poll!(asked.as_mut()) {
            std::task::Poll::Pending => waiting.push(asked),
            std::task::Poll::Ready(answer) => break answer,
        }
    };
    assert!(matches!(full, Err(Error::Overloaded { .. })), "{full:?}");
    assert_eq!(waiting.len(), queue::MOST_WINDOWS / 20);
    drop(waiting);
    ask(1, call("t")).await.unwrap();
}

#[test]
fn a_language_is_the_same_by_whichever_code() {
    let vocabulary = vocabulary(&[("<|de|>", "<|jw|>"), ("<|es|>", "<|no|>")]);
    let tags: Vec<&str> = vocabulary.languages.iter().map(|language| language.tag.as_str()).collect();
    assert_eq!(tags, ["en", "jv", "no"]);
    for (tag, wanted) in [("jv-ID", "jv"), ("jw", "jv"), ("nb-NO", "no"), ("NO", "no"), ("en_GB", "en")] {
        assert_eq!(vocabulary.language(tag).unwrap().unwrap().tag, wanted, "{tag}");
    }
}

#[test]
fn models_of_english_alone_speak_no_other_language() {
    let vocabulary = vocabulary(&[("\"is_multilingual\": true", "\"is_multilingual\": false")]);
    assert!(vocabulary.languages.is_empty() && vocabulary.transcribe.is_none());
    assert_eq!(vocabulary.language("en-US").unwrap(), None);
    let error = vocabulary.language("de").unwrap_err();
    assert!(error.contains("en alone"), "{error}");
    // Their prompts name neither language nor task.
    let mut model = Loaded { vocabulary, ..loaded(true) };
    let found = model.decode(&[&golden().rows[0]], true, &forever).remove(0).unwrap();
    assert_eq!(found.language, None);
    assert!(model.vocabulary.is_timestamp(found.tokens[0]), "{found:?}");
}

#[test]
fn files_that_do_not_fit_are_named() {
    let source = fixture("models/tiny-whisper");
    let text = |file: &str| std::fs::read_to_string(source.join(file)).unwrap();
    let changed = |file: &str, from: &str, to: &str| {
        assert!(text(file).contains(from), "{file} has no {from}");
        (file.to_owned(), Some(text(file).replace(from, to)))
    };
    let cases = [
        (("onnx/encoder_model.onnx".to_owned(), None), "onnx/encoder_model.onnx cannot be read"),
        (("onnx/decoder_model_merged.onnx".to_owned(), None), ""),
        (("generation_config.json".to_owned(), None), "generation_config.json"),
        (("preprocessor_config.json".to_owned(), None), "preprocessor_config.json"),
        (("tokenizer.json".to_owned(), None), "tokenizer.json"),
        (
            changed("preprocessor_config.json", "\"feature_size\": 80", "\"feature_size\": 128"),
            "takes 80 mel bands",
        ),
        (
            changed("preprocessor_config.json", "\"chunk_length\": 30", "\"chunk_length\": 20"),
            "takes 3000 frames",
        ),
        (
            changed("config.json", "\"decoder_attention_heads\": 2", "\"decoder_attention_heads\": 0"),
            "decoder_attention_heads = 0",
        ),
        (
            changed("config.json", "\"decoder_attention_heads\": 2", "\"decoder_attention_heads\": 4"),
            "does not run",
        ),
        (changed("config.json", "\"vocab_size\": 1885", "\"vocab_size\": 1000"), "vocab_size is 1000"),
        (changed("config.json", "\"vocab_size\": 1885", "\"vocab_size\": 9999"), "vocab_size is 9999"),
        (
            changed(
                "generation_config.json",
                "\"no_timestamps_token_id\": 383",
                "\"no_timestamps_token_id\": 4000",
            ),
            "names the token 4001",
        ),
    ];
    for ((file, content), wanted) in cases {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("onnx")).unwrap();
        let names = ["config.json", "generation_config.json", "preprocessor_config.json", "tokenizer.json"];
        let graphs = [
            "encoder_model.onnx",
            "decoder_model.onnx",
            "decoder_with_past_model.onnx",
            "decoder_model_merged.onnx",
            "model.safetensors",
        ];
        for name in names.into_iter().map(str::to_owned).chain(graphs.map(|graph| format!("onnx/{graph}"))) {
            match (&content, name == file) {
                (Some(content), true) => std::fs::write(folder.path().join(&name), content).unwrap(),
                (None, true) => {}
                // A graph finds its weights beside itself, wherever a link to it leads.
                _ => drop(std::fs::copy(source.join(&name), folder.path().join(&name)).unwrap()),
            }
        }
        match load(folder.path(), !file.contains("merged")) {
            Ok(_) => assert_eq!(wanted, "", "{file} is not missed"),
            Err(error) => {
                let error = error.to_string();
                assert!(!wanted.is_empty() && error.contains(wanted), "{file}: {error}");
            }
        }
    }
}

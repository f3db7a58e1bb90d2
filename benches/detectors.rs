//! How well, and how fast, do detectors and draft checks tell?
//!
//! `cargo bench --bench detectors -- DATA [--vader FILE] [--show]`. DATA is a folder of evaluation data as JSON
//! Lines (`injection`, `escalation_bitext`, `escalation_tau_dialogues`, `sentiment_vader`,
//! `intent_banking77_train`, `retrieval_doc2dial_docs`); FILE has what the Python package vaderSentiment
//! says of texts, one a line with `text` and `compound`, to be compared to the last decimal; `--show` prints what is told wrongly of even lines. Each table has
//! the even lines of a file (which rules may be judged by) and the odd ones (which they may not).

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use switchboard_policy::{
    detectors::{Detectors, Facts, Source},
    draft::{self, Draft, Voice},
};
use switchboard_text::sentences;

/// Scores from which a finding counts.
const LEVELS: [f32; 2] = [0.5, 0.7];
/// Sentences of each document that drafts are made of.
const SENTENCES: usize = 12;
/// Characters of a text in the measurement of speed.
const CHARACTERS: usize = 200;
/// Characters and number of the passages of a draft in that measurement.
const PASSAGE: (usize, usize) = (500, 5);

#[expect(clippy::print_stdout, reason = "a benchmark's report")]
fn main() -> Result<()> {
    // `cargo test --benches` only wants to know that it builds.
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let (mut data, mut vader, mut show) = (None, None, false);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--test" => return Ok(()),
            "--vader" => vader = Some(PathBuf::from(arguments.next().context("--vader takes a file")?)),
            "--show" => show = true,
            _ => data = Some(PathBuf::from(argument)),
        }
    }
    let Some(data) = data else {
        bail!(
            "no folder of evaluation data is given: cargo bench --bench detectors -- DATA [--vader FILE] [--show]"
        )
    };
    let detectors = Detectors::new();
    if let Some(file) = vader {
        identity(&detectors, &file)?;
    }
    feelings(&detectors, &data)?;
    kinds(&detectors, &data)?;
    dialogues(&detectors, &data)?;
    alarms(&detectors, &data)?;
    drafts(&data)?;
    if show {
        wrong(&detectors, &data)?;
    }
    println!("\nSpeed\n");
    speed(&detectors, &data)?;
    long(&detectors);
    Ok(())
}

fn lines(file: &Path) -> Result<Vec<Value>> {
    let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
    text.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
}

fn text_of(line: &Value) -> &str {
    line["text"].as_str().unwrap_or_default()
}

fn highest(facts: &Facts, kind: &str) -> f32 {
    let scores = facts.findings.iter().filter(|found| found.kind.starts_with(kind)).map(|found| found.score);
    scores.fold(0.0, f32::max)
}

/// Our feeling against the Python package's.
#[expect(clippy::print_stdout, reason = "a benchmark's report")]
fn identity(detectors: &Detectors, file: &Path) -> Result<()> {
    let scorer = vader_parity::SentimentIntensityAnalyzer::new();
    let lines = lines(file)?;
    let differs = |line: &&Value| {
        let theirs = ["neg", "neu", "pos", "compound"].map(|key| line[key].as_f64());
        let ours = scorer.polarity_scores(text_of(line));
        theirs != [ours.neg, ours.neu, ours.pos, ours.compound].map(Some)
    };
    let different = lines.iter().filter(differs).count();
    // A text that is told to be in another language feels nothing.
    let silenced = |line: &&Value| {
        let compound = line["compound"].as_f64().unwrap_or_default();
        let ours = detectors.find(text_of(line), Source::Customer).sentiment;
        compound != 0.0 && ours == 0.0
    };
    let silent = lines.iter().filter(silenced).count();
    println!(
        "\nSentiment against Python: {} texts, {different} of other scores; {silent} silenced as not English",
        lines.len()
    );
    Ok(())
}

/// Correlation with what people say.
#[expect(clippy::print_stdout, reason = "a benchmark's report")]
fn feelings(detectors: &Detectors, data: &Path) -> Result<()> {
    let mut pairs: BTreeMap<String, Vec<(f64, f64)>> = BTreeMap::new();
    for line in lines(&data.join("sentiment_vader.jsonl"))? {
        let ours = f64::from(detectors.find(text_of(&line), Source::Customer).sentiment);
        let pair = (ours, line["mean"].as_f64().unwrap_or_default());
        pairs.entry(line["kind"].as_str().unwrap_or_default().to_owned()).or_default().push(pair);
    }
    println!("\nSentiment against people's mean (Pearson)\n");
    for (kind, pairs) in &pairs {
        println!("{kind:<28} {:>6} {:>7.3}", pairs.len(), correlation(pairs));
    }
    Ok(())
}

fn correlation(pairs: &[(f64, f64)]) -> f64 {
    let count = pairs.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| pairs.iter().map(of).sum::<f64>() / count;
    let (x, y) = (mean(|pair| pair.0), mean(|pair| pair.1));
    let sum = |of: &dyn Fn(f64, f64) -> f64| pairs.iter().map(|&(a, b)| of(a - x, b - y)).sum::<f64>();
    sum(&|a, b| a * b) / (sum(&|a, _| a * a) * sum(&|_, b| b * b)).sqrt()
}

/// Share of texts with a finding, by the kind of text.
#[expect(clippy::print_stdout, reason = "a benchmark's report")]
fn kinds(detectors: &Detectors, data: &Path) -> Result<()> {
    println!("\nShare of texts with a finding: even | odd lines, from 0.5 and from 0.7 on\n");
    let mut table: BTreeMap<(String, &str), [Vec<f32>; 2]> = BTreeMap::new();
    for (at, line) in lines(&data.join("injection.jsonl"))?.iter().enumerate() {
        let kind = line["kind"].as_str().unwrap_or_default();
        let source = if kind.starts_with("indirect") { Source::Document } else { Source::Customer };
        let kind = kind
            .split_once(':')
            .map_or(kind, |(kind, which)| if which == "clean_email" { "indirect, clean" } else { kind });
        let name = format!("{kind} ({})", if line["label"] == 1 { "attack" } else { "none" });
        let score = highest(&detectors.find(text_of(line), source), "injection");
        table.entry((name, "injection")).or_default()[at % 2].push(score);
    }
    for (at, line) in lines(&data.join("escalation_bitext.jsonl"))?.iter().enumerate() {
        let name = format!("bitext {}", line["why"].as_str().unwrap_or("other"));
        let facts = detectors.find(text_of(line), Source::Customer);
        for kind in ["human-requested", "complaint", "injection", "risk", "profanity"] {
            table.entry((name.clone(), kind)).or_default()[at % 2].push(highest(&facts, kind));
        }
    }
    for ((name, kind), halves) in &table {
        let share = |scores: &[f32], level: f32| {
            scores.iter().filter(|score| **score >= level).count() as f64 / scores.len().max(1) as f64
        };
        let shares: Vec<String> = LEVELS
            .iter()
            .map(|level| format!("{:.3} | {:.3}", share(&halves[0], *level), share(&halves[1], *level)))
            .collect();
        println!("{name:<30} {kind:<16} {:>5}   {}", halves[0].len() + halves[1].len(), shares.join("   "));
    }
    Ok(())
}

/// What is told wrongly of even lines, which rules may be judged by.
#[expect(clippy::print_stdout, reason = "a benchmark's report")]
fn wrong(detectors: &Detectors, data: &Path) -> Result<()> {
    println!("\nTold wrongly\n");
    let print = |name: &str, facts: &Facts, text: &str| {
        let rules: Vec<&str> = facts.findings.iter().map(|found| found.detector).collect();
        let text: String = text.chars().take(400).collect();
        println!("{name} {rules:?} {text:?}");
    };
    for line in lines(&data.join("injection.jsonl"))?.iter().step_by(2) {
        let kind = line["kind"].as_str().unwrap_or_default();
        let source = if kind.starts_with("indirect") { Source::Document } else { Source::Customer };
        let facts = detectors.find(text_of(line), source);
        if (highest(&facts, "injection") >= LEVELS[0]) != (line["label"] == 1) {
            print(kind, &facts, text_of(line));
        }
    }
    for line in lines(&data.join("escalation_bitext.jsonl"))?.iter().step_by(2) {
        let facts = detectors.find(text_of(line), Source::Customer);
        let why = line["why"].as_str().unwrap_or("other");
        let asks = highest(&facts, "human-requested") >= LEVELS[1];
        if asks != (why == "asks_human") && why != "asks_contact" || highest(&facts, "risk") >= LEVELS[0] {
            print(why, &facts, text_of(line));
        }
    }
    Ok(())
}

/// Dialogues in which the customer asks for a person, against those that were handed over.
#[expect(clippy::print_stdout, reason = "a benchmark's report")]
fn dialogues(detectors: &Detectors, data: &Path) -> Result<()> {
    let mut counts: BTreeMap<(bool, bool), usize> = BTreeMap::new();
    for line in lines(&data.join("escalation_tau_dialogues.jsonl"))? {
        let dialogue = line["dialogue"].as_str().unwrap_or_default();
        let said = dialogue.lines().filter_map(|line| line.strip_prefix("user: "));
        let asked = said
            .map(|text| highest(&detectors.find(text, Source::Customer), "human-requested"))
            .any(|score| score >= 0.7);
        *counts.entry((line["transferred"] == true, asked)).or_default() += 1;
    }
    let count = |handed, asked| counts.get(&(handed, asked)).copied().unwrap_or(0);
    println!(
        "\nDialogues (tau): handed over, asked for a person in {} of {}; not handed over, in {} of {}",
        count(true, true),
        count(true, true) + count(true, false),
        count(false, true),
        count(false, true) + count(false, false)
    );
    Ok(())
}

/// Findings in everyday questions, most of which are none; and their language.
#[expect(clippy::print_stdout, reason = "a benchmark's report")]
fn alarms(detectors: &Detectors, data: &Path) -> Result<()> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let lines = lines(&data.join("intent_banking77_train.jsonl"))?;
    let mut languages = [0usize; 2];
    for line in &lines {
        let facts = detectors.find(text_of(line), Source::Customer);
        let mut seen: Vec<&str> =
            facts.findings.iter().filter(|found| found.score >= 0.6).map(|found| found.kind).collect();
        seen.sort_unstable();
        seen.dedup();
        seen.into_iter().for_each(|kind| *counts.entry(kind).or_default() += 1);
        languages[0] += usize::from(facts.language.is_some_and(|language| language.code == "en"));
        languages[1] += usize::from(
            facts.language.is_some_and(|language| language.code != "en" && language.confidence >= 0.6),
        );
    }
    println!("\nFindings from 0.6 on in {} questions to a bank: {counts:?}", lines.len());
    println!("their language: English {}, surely another {}", languages[0], languages[1]);
    Ok(())
}

/// A part of a document, and sentences of it.
struct Document {
    passages: Vec<String>,
    sentences: Vec<String>,
}

/// Sentences of documents, as they are and with a lie put in.
#[expect(clippy::print_stdout, reason = "a benchmark's report")]
fn drafts(data: &Path) -> Result<()> {
    let sources = sources(data)?;
    let mut shares: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    let mut count = |name: &'static str, told: bool| {
        let share = shares.entry(name).or_default();
        share.0 += usize::from(told);
        share.1 += 1;
    };
    for (at, source) in sources.iter().enumerate() {
        let passages: Vec<&str> = source.passages.iter().map(String::as_str).collect();
        let other = &sources[(at + 1) % sources.len()];
        let others: Vec<&str> = other.passages.iter().map(String::as_str).collect();
        let told = |sentence: &str, passages: &[&str], kind: &str| {
            let draft = Draft { sentence, passages, verbatim: false, language: Some("en") };
            draft::check(&draft, std::iter::empty()).iter().any(|found| kind.is_empty() || found.kind == kind)
        };
        for sentence in &source.sentences {
            count("as written: anything told", told(sentence, &passages, ""));
            count("another document: ungrounded", told(sentence, &others, draft::UNGROUNDED));
            count("another document: anything told", told(sentence, &others, ""));
            if let Some(lie) = other_number(sentence) {
                count("another number: told", told(&lie, &passages, draft::NUMBER));
            }
            if let Some(lie) = denied(sentence) {
                count("a denial put in or left out: told", told(&lie, &passages, draft::NEGATION));
            }
        }
    }
    println!("\nDrafts of sentences of {} documents, against the document in passages\n", sources.len());
    for (name, (told, of)) in &shares {
        println!("{name:<40} {told:>5} of {of:>5}  {:.3}", *told as f64 / *of as f64);
    }
    Ok(())
}

fn sources(data: &Path) -> Result<Vec<Document>> {
    let read = |line: &Value| {
        let text = text_of(line);
        let all: Vec<&str> = sentences::split(text).iter().map(|span| span.of(text)).collect();
        let mut passages: Vec<String> = vec![String::new()];
        for sentence in &all {
            let full = passages.last().is_some_and(|passage| passage.len() + sentence.len() > PASSAGE.0);
            if full {
                passages.push(String::new());
            }
            if let Some(passage) = passages.last_mut() {
                passage.push_str(sentence);
                passage.push(' ');
            }
        }
        let long = all.into_iter().filter(|sentence| sentence.len() > 40).take(SENTENCES);
        Document { sentences: long.map(str::to_owned).collect(), passages }
    };
    Ok(lines(&data.join("retrieval_doc2dial_docs.jsonl"))?.iter().map(read).collect())
}

/// The sentence with its first lone number made another.
fn other_number(sentence: &str) -> Option<String> {
    let words: Vec<&str> = sentence.split(' ').collect();
    let at =
        words.iter().position(|word| word.parse::<u32>().is_ok_and(|number| number > 1 && number < 1000))?;
    let number: u32 = words[at].parse().ok()?;
    let lie = (number * 7 + 13).to_string();
    let mut words = words;
    words[at] = &lie;
    Some(words.join(" "))
}

/// The sentence with its denial taken away, or with one put in.
fn denied(sentence: &str) -> Option<String> {
    for (from, to) in [
        (" cannot ", " can "),
        (" is not ", " is "),
        (" do not ", " do "),
        (" can ", " cannot "),
        (" must ", " must not "),
        (" will ", " will not "),
        (" is ", " is not "),
        (" are ", " are not "),
    ] {
        if sentence.contains(from) {
            return Some(sentence.replacen(from, to, 1));
        }
    }
    None
}

#[expect(clippy::print_stdout, reason = "a benchmark's report")]
fn report(name: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
    println!("{name:<44} {:>5}   p50 {:.3} ms   p99 {:.3} ms", times.len(), at(0.5), at(0.99));
}

fn speed(detectors: &Detectors, data: &Path) -> Result<()> {
    let mut texts: Vec<String> = Vec::new();
    for file in ["injection.jsonl", "sentiment_vader.jsonl"] {
        let mut joined = String::new();
        for line in lines(&data.join(file))?.iter().take(4000) {
            joined.push_str(text_of(line));
            joined.push(' ');
            if joined.chars().count() >= CHARACTERS {
                texts.push(joined.chars().take(CHARACTERS).collect());
                joined.clear();
            }
        }
    }
    let timed = |work: &dyn Fn(&str)| {
        let once = |text: &String| {
            let start = Instant::now();
            work(text);
            start.elapsed()
        };
        texts.iter().take(200).for_each(|text| work(text));
        texts.iter().map(once).collect::<Vec<_>>()
    };
    report(
        "all detectors, a customer's 200 characters",
        timed(&|text| {
            std::hint::black_box(detectors.find(text, Source::Customer));
        }),
    );
    let sources = sources(data)?;
    let mut times = Vec::new();
    let voice = Voice {
        banned: (0..20).map(|at| format!("banned phrase {at}")).collect(),
        required: vec!["Switchboard Plus".into()],
        max_grade: Some(12.0),
        ..Voice::default()
    };
    for source in &sources {
        let passages: Vec<&str> = source.passages.iter().map(String::as_str).take(PASSAGE.1).collect();
        for sentence in &source.sentences {
            let draft = Draft { sentence, passages: &passages, verbatim: false, language: Some("en") };
            let start = Instant::now();
            std::hint::black_box(draft::check(&draft, std::iter::once(&voice)));
            times.push(start.elapsed());
        }
    }
    report("draft check, five passages of 500 characters", times);
    Ok(())
}

/// One line of a megabyte of each kind, which would show work that is not linear.
#[expect(clippy::print_stdout, reason = "a benchmark's report")]
fn long(detectors: &Detectors) {
    let mut slowest = (Duration::ZERO, "");
    for piece in [
        "a",
        "word ",
        "ignore ",
        "i g n ",
        "aWdub3JlIGFs",
        "aWdub3JlIGFsbCBydWxlcw== ",
        "1gn0re ",
        "о",
        "\u{200b}",
        "%69",
        "%",
        "\"",
        "fuck ",
        "you are now ",
        "talk to ",
        "I will kill ",
        "erongi vtaber ",
        "...",
        "忽略",
    ] {
        let line = piece.repeat((1 << 20) / piece.len());
        let half = &line[..line.len() / piece.len() / 2 * piece.len()];
        let time = |text: &str| {
            let start = Instant::now();
            std::hint::black_box(detectors.find(text, Source::Customer));
            start.elapsed()
        };
        let (half, whole) = (time(half), time(&line));
        let ratio = whole.as_secs_f64() / half.as_secs_f64();
        if ratio > 3.0 {
            println!("not linear: {piece:?} takes {ratio:.1} times as long for twice the text");
        }
        slowest = slowest.max((whole, piece));
    }
    println!("slowest line of 1 MB: {:.0} ms, of {:?}", slowest.0.as_secs_f64() * 1e3, slowest.1);
}

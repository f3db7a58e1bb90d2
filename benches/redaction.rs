//! How fast is redaction, and how much does it find?
//!
//! Without arguments: megabytes a second on one core, all kinds looked for, in ordinary messages (whole
//! and as streams) and in texts made to be slow. With `-- --data DIR`: the texts in DIR whose personal
//! data is marked, `pii_presidio_synth_v2.jsonl` (a JSON object a line: text, and spans of type, start and end in
//! characters); F1 for each kind, beside a handful of regular expressions. `benches/presidio.py` measures
//! Presidio by the same rules.

#![expect(clippy::print_stdout, reason = "a bench prints its tables")]

#[path = "redaction/evaluate.rs"]
mod evaluate;
#[path = "redaction/texts.rs"]
mod texts;

use std::{hint::black_box, path::PathBuf, time::Instant};

use switchboard_text::redaction::{Kinds, Stream, find_kinds};

/// How often each text is read; the median counts.
const ROUNDS: usize = 7;

/// How long the pieces of a stream are, in bytes: a few tokens of a model.
const CHUNK_BYTES: usize = 24;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // `cargo test --benches` only wants to know that it builds.
    if arguments.iter().any(|argument| argument == "--test") {
        return;
    }
    if let Some(at) = arguments.iter().position(|argument| argument == "--data") {
        let folder = arguments.get(at + 1).map(PathBuf::from).expect("--data needs a folder");
        evaluate::print(&folder);
        speed_of_files(&folder);
        return;
    }
    println!("\n{:<44}{:>8}{:>14}{:>10}", "1 MB of", "MB/s", "as a stream", "finds");
    row("ordinary messages", &texts::ordinary(1 << 20));
    row(
        "messages without numbers",
        &texts::ordinary(1 << 20).replace(|c: char| c.is_ascii_digit() || c == '@', ""),
    );
    for (name, text) in texts::adversarial(1 << 20) {
        row(&name, &text);
    }
}

/// The speed on the other texts of a folder, as they are.
fn speed_of_files(folder: &std::path::Path) {
    println!("\n{:<44}{:>8}{:>14}{:>10}", "file", "MB/s", "as a stream", "finds");
    for name in
        ["escalation_bitext", "escalation_tau_dialogues", "intent_banking77_train", "pii_presidio_synth_v2"]
    {
        if let Ok(text) = std::fs::read_to_string(folder.join(name).with_extension("jsonl")) {
            row(name, &evaluate::texts(&text));
        }
    }
}

fn row(name: &str, text: &str) {
    let whole = median(|| find_kinds(black_box(text), Kinds::ALL).len());
    let streamed = median(|| {
        let mut stream = Stream::new(Kinds::ALL);
        let mut rest = black_box(text);
        let mut pieces = 0;
        while !rest.is_empty() {
            let (chunk, behind) = rest.split_at(rest.ceil_char_boundary(CHUNK_BYTES.min(rest.len())));
            pieces += stream.push(chunk).len();
            rest = behind;
        }
        pieces + stream.finish().len()
    });
    let speed = |seconds: f64| text.len() as f64 / seconds / 1e6;
    let finds = find_kinds(text, Kinds::ALL).len();
    println!("{name:<44}{:>8.0}{:>14.0}{finds:>10}", speed(whole), speed(streamed));
}

fn median<T>(mut work: impl FnMut() -> T) -> f64 {
    let mut times: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let begun = Instant::now();
            black_box(work());
            begun.elapsed().as_secs_f64()
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[ROUNDS / 2]
}

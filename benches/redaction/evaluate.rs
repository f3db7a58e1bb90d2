//! How much of the personal data in marked texts is found.

use std::{collections::BTreeMap, ops::Range, path::Path, time::Instant};

use regex::Regex;
use serde_json::Value;
use switchboard_text::redaction::{Kind, find};

/// What the texts call a kind.
const MARKS: [(&str, Kind); 8] = [
    ("EMAIL_ADDRESS", Kind::Email),
    ("CREDIT_CARD", Kind::Card),
    ("IBAN_CODE", Kind::Iban),
    ("US_SSN", Kind::NationalId),
    ("US_DRIVER_LICENSE", Kind::NationalId),
    ("IP_ADDRESS", Kind::Ip),
    ("PHONE_NUMBER", Kind::Phone),
    ("STREET_ADDRESS", Kind::Address),
];

type Spans = Vec<(Kind, Range<usize>)>;

struct Marked {
    text: String,
    spans: Spans,
}

/// The texts of a file, one after the other: what its lines call text or dialogue.
pub(crate) fn texts(lines: &str) -> String {
    let objects = lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let texts = objects.filter_map(|line| {
        ["text", "dialogue"].iter().find_map(|key| line[*key].as_str().map(|text| format!("{text}\n")))
    });
    texts.collect()
}

/// Prints the table.
pub(crate) fn print(folder: &Path) {
    let path = folder.join("pii_presidio_synth_v2.jsonl");
    let lines = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let marked: Vec<Marked> = lines.lines().map(read).collect();
    println!("\n{} texts with marked personal data", marked.len());
    let ours = measure(&marked, |text| {
        find(text).into_iter().map(|entity| (entity.kind, entity.span.chars)).collect()
    });
    let naive = Naive::new();
    let theirs = measure(&marked, |text| naive.find(text));
    println!("{:<14}{:>8}{:>28}{:>28}", "", "", "switchboard", "regular expressions");
    println!(
        "{:<14}{:>8}{:>8}{:>10}{:>10}{:>8}{:>10}{:>10}",
        "kind", "marked", "found", "F1 exact", "touched", "found", "F1 exact", "touched"
    );
    let kinds = [Kind::Email, Kind::Card, Kind::Iban, Kind::NationalId, Kind::Ip, Kind::Phone, Kind::Address];
    for kind in kinds {
        let (a, b) = (ours.of(kind), theirs.of(kind));
        println!(
            "{:<14}{:>8}{:>8}{:>10.3}{:>10.3}{:>8}{:>10.3}{:>10.3}",
            kind.as_str(),
            a.marked,
            a.found,
            a.f1(a.exact),
            a.f1(a.touched),
            b.found,
            b.f1(b.exact),
            b.f1(b.touched)
        );
    }
    println!("texts a second {:>20.0}{:>28.0}", ours.speed, theirs.speed);
}

fn read(line: &str) -> Marked {
    let line: Value = serde_json::from_str(line).expect("JSON Lines");
    let number = |value: &Value| value.as_u64().expect("an offset") as usize;
    let spans = line["spans"].as_array().into_iter().flatten().filter_map(|span| {
        let (_, kind) = MARKS.into_iter().find(|(name, _)| span["type"] == *name)?;
        Some((kind, number(&span["start"])..number(&span["end"])))
    });
    Marked { text: line["text"].as_str().expect("a text").to_owned(), spans: spans.collect() }
}

#[derive(Clone, Copy, Default)]
struct Counts {
    marked: usize,
    found: usize,
    /// Found with the same extent.
    exact: usize,
    /// Found with a part of it.
    touched: usize,
}

impl Counts {
    fn f1(&self, hits: usize) -> f64 {
        2.0 * hits as f64 / (self.marked + self.found).max(1) as f64
    }
}

struct Measured {
    kinds: BTreeMap<Kind, Counts>,
    speed: f64,
}

impl Measured {
    fn of(&self, kind: Kind) -> Counts {
        self.kinds.get(&kind).copied().unwrap_or_default()
    }
}

fn measure(marked: &[Marked], find: impl Fn(&str) -> Spans) -> Measured {
    // Once to warm up.
    let found: Vec<Spans> = marked.iter().map(|each| find(&each.text)).collect();
    let begun = Instant::now();
    const TIMES: usize = 20;
    for _ in 0..TIMES {
        for each in marked {
            std::hint::black_box(find(&each.text));
        }
    }
    let speed = (TIMES * marked.len()) as f64 / begun.elapsed().as_secs_f64();
    let mut kinds: BTreeMap<Kind, Counts> = BTreeMap::new();
    for (each, found) in marked.iter().zip(found) {
        for (kind, _) in &each.spans {
            kinds.entry(*kind).or_default().marked += 1;
        }
        for (kind, range) in found {
            let counts = kinds.entry(kind).or_default();
            counts.found += 1;
            let same = |(other, span): &&(Kind, Range<usize>)| {
                *other == kind && span.start < range.end && range.start < span.end
            };
            if let Some((_, span)) = each.spans.iter().find(same) {
                counts.touched += 1;
                counts.exact += usize::from(*span == range);
            }
        }
    }
    Measured { kinds, speed }
}

/// What one writes in an afternoon.
struct Naive(Vec<(Kind, Regex)>);

impl Naive {
    fn new() -> Self {
        let patterns = [
            (Kind::Email, r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+"),
            (Kind::Iban, r"\b[A-Za-z]{2}\d{2}[A-Za-z0-9]{11,30}\b"),
            (Kind::NationalId, r"\b\d{3}-\d{2}-\d{4}\b"),
            (Kind::Ip, r"\b\d{1,3}(?:\.\d{1,3}){3}\b"),
            (Kind::Card, r"\b(?:\d[ -]?){12,18}\d\b"),
            (Kind::Phone, r"(?:\+\d{1,3}[ .-]?)?(?:\(\d{1,4}\)[ .-]?)?\d{2,4}(?:[ .-]\d{2,4}){1,4}"),
            (Kind::Address, r"\b\d{1,5} (?:[A-Z]\w+ ){1,3}(?:Street|St|Avenue|Ave|Road|Rd|Drive|Dr|Lane)\b"),
        ];
        Self(patterns.map(|(kind, pattern)| (kind, Regex::new(pattern).expect("a constant pattern"))).into())
    }

    fn find(&self, text: &str) -> Spans {
        let mut taken: Vec<Range<usize>> = Vec::new();
        let mut spans = Spans::new();
        for (kind, pattern) in &self.0 {
            for found in pattern.find_iter(text) {
                let range = found.range();
                if taken.iter().all(|other| other.end <= range.start || range.end <= other.start) {
                    let chars = |at: usize| text[..at].chars().count();
                    spans.push((*kind, chars(range.start)..chars(range.end)));
                    taken.push(range);
                }
            }
        }
        spans
    }
}

//! The views of a text that are looked at, and what is found in each.
//!
//! The plain view is looked at for everything. The others are of interest for orders and foul words alone:
//! nobody hides that they want to speak to a person. Each view is made only when the text shows that there
//! is something to it, and all lead back to the text as written.

use std::collections::BTreeMap;

use switchboard_text::fold::{self, Folded};

use super::{
    Detectors, Raw, Source,
    injection::{self, ENOUGH, INJECTION},
    marks::Told,
    person, profanity,
};

/// How many marks of each sort are told.
const MOST_MARKS: usize = 32;
/// How far apart weak signs may stand, in bytes, to count together: a long text has some of each.
const NEAR: usize = 4000;
/// What hiding an order adds to how sure it is: nobody does so by chance.
const HIDDEN: f32 = 0.9;

/// Looks at all views of a text.
pub(super) fn look(detectors: &Detectors, text: &str, source: Source) -> Vec<Raw> {
    let folded = Folded::new(text);
    let mut found = phrases(detectors, &folded, source);
    take_back(&mut found);
    if source != Source::Customer {
        found.retain(|found| found.kind == INJECTION);
    }
    let (mut backwards, mut rotated) = (false, false);
    let (mut formats, mut masked) = (0, 0);
    for (told, bytes) in detectors.marks.find(folded.as_str()) {
        match told {
            Told::Format if formats < MOST_MARKS => {
                formats += 1;
                let (detector, score) = injection::MARK;
                found.push(Raw { bytes: folded.origin(bytes), kind: INJECTION, score, detector });
            }
            Told::Masked if source == Source::Customer && masked < MOST_MARKS => {
                masked += 1;
                found.push(Raw {
                    bytes: folded.origin(bytes),
                    kind: profanity::PROFANITY,
                    score: 0.8,
                    detector: "masked",
                });
            }
            Told::Format | Told::Masked => {}
            Told::Backwards => backwards = true,
            Told::Rotated => rotated = true,
        }
    }
    let squeezed = detectors.marks.squeezed(folded.as_str(), MOST_MARKS);
    found.extend(squeezed.into_iter().map(|bytes| Raw {
        bytes: folded.origin(bytes),
        kind: INJECTION,
        score: 0.9,
        detector: "without-spaces",
    }));
    let mut hidden = Vec::new();
    hidden.extend(folded.joined());
    for one in ['i', 'l'] {
        hidden.extend(folded.unleeted(one));
    }
    // Letters spaced out, and figures for some of them.
    hidden.extend(hidden.first().and_then(|view| view.unleeted('i')));
    hidden.extend(backwards.then(|| folded.reversed()));
    hidden.extend(rotated.then(|| folded.rotated()));
    for view in &hidden {
        found.extend(phrases(detectors, view, source).into_iter().filter(|found| {
            let foul = found.kind == profanity::PROFANITY && source == Source::Customer;
            foul || (found.kind == INJECTION && found.score >= ENOUGH)
        }));
    }
    let (decoded, all) = Folded::decoded(text);
    // Who encodes more than is ever decoded may hide something behind it.
    if let Some(last) = decoded.last().filter(|_| !all) {
        let bytes = last.origin(0..last.as_str().len());
        found.push(Raw { bytes, kind: INJECTION, score: ENOUGH, detector: "much-encoded" });
    }
    for view in fold::tags(text).into_iter().chain(decoded) {
        let orders = phrases(detectors, &view, source);
        let orders = orders.into_iter().filter(|found| found.kind == INJECTION && found.score >= ENOUGH);
        found.extend(orders.map(|found| Raw { score: found.score.max(HIDDEN), ..found }));
    }
    found
}

/// Takes away requests for a person that are refused, and the refusals.
fn take_back(found: &mut Vec<Raw>) {
    let (refused, kept): (Vec<Raw>, Vec<Raw>) =
        std::mem::take(found).into_iter().partition(|found| found.kind == person::REFUSED);
    *found = kept;
    let overlaps = |a: &Raw, b: &Raw| a.bytes.start < b.bytes.end && b.bytes.start < a.bytes.end;
    found.retain(|found| {
        !(person::REFUSABLE.contains(&found.detector) && refused.iter().any(|other| overlaps(found, other)))
    });
}

fn phrases(detectors: &Detectors, view: &Folded, source: Source) -> Vec<Raw> {
    let hits = detectors.phrases.find(view.as_str());
    let raw = |hit: super::phrases::Hit| {
        let rule = &detectors.rules[hit.rule];
        let asked = source == Source::Customer && injection::TASKS.contains(&rule.name);
        let score = if asked { rule.score * injection::ASKED } else { rule.score };
        Raw { bytes: view.origin(hit.bytes), kind: rule.kind, score, detector: rule.name }
    };
    hits.into_iter().map(raw).collect()
}

/// What weak signs near to each other make together: each rule counts once.
pub(super) fn together(found: &[Raw]) -> Vec<Raw> {
    let mut weak: Vec<&Raw> =
        found.iter().filter(|found| found.kind == INJECTION && found.score < ENOUGH).collect();
    weak.sort_by_key(|found| found.bytes.start);
    let mut made: Vec<Raw> = Vec::new();
    let mut at = 0;
    while let Some(first) = weak.get(at) {
        let near = weak[at..].iter().take_while(|found| found.bytes.start <= first.bytes.start + NEAR);
        let mut scores: BTreeMap<&str, f32> = BTreeMap::new();
        let (mut count, mut end) = (0, first.bytes.end);
        for found in near {
            scores.insert(found.detector, found.score);
            end = end.max(found.bytes.end);
            count += 1;
        }
        let score = injection::combined(scores.into_values());
        if score >= ENOUGH {
            made.push(Raw {
                bytes: first.bytes.start..end,
                kind: INJECTION,
                score,
                detector: injection::COMBINED,
            });
        }
        // A sign that makes nothing with those behind it takes none of them along.
        at += if score >= ENOUGH { count } else { 1 };
    }
    made
}

//! What is found in one region of a text.

use std::{cmp::Reverse, collections::BTreeMap, ops::Range};

use super::{
    Hit, Kind, Kinds,
    context::Hints,
    dates,
    numbers::{self, Digits},
    patterns,
    plain::{self, Plain, View},
    postal, records,
    scanner::{CONTEXT_BYTES, Signs},
    spoken::{self, Written},
};

/// The detectors of some kinds, with the memory that they use again and again.
pub(super) struct Detectors {
    kinds: Kinds,
    plain: Plain,
    written: Written,
    digits: Digits,
    found: Vec<Hit>,
}

impl Detectors {
    pub(super) fn new(kinds: Kinds) -> Self {
        Self {
            kinds,
            plain: Plain::default(),
            written: Written::default(),
            digits: Digits::default(),
            found: Vec::new(),
        }
    }

    /// Finds what lies in a region of a text, in order and not overlapping, reading a little of the
    /// text before it too. The region has at least what `signs` say.
    pub(super) fn find(&mut self, text: &str, region: Range<usize>, signs: Signs, hits: &mut Vec<Hit>) {
        // The fewest digits of anything: an IPv4 address, a year or a code with words around it.
        let words = signs.has(Signs::RUN);
        if !(signs.digits > 0 || signs.has(Signs::COLONS) || words || signs.may_hold_email()) {
            return;
        }
        let context = text.ceil_char_boundary(region.start.saturating_sub(CONTEXT_BYTES));
        let stretch = &text[context..region.end];
        let Self { kinds, plain, written, digits: groups, found } = self;
        let view = if signs.has(Signs::HIGH | Signs::ESCAPE) || !stretch.is_ascii() {
            plain.read(stretch)
        } else {
            View::plain(stretch)
        };
        let from = view.place_of(region.start - context);
        found.clear();
        direct(view.text, from, signs, *kinds, groups, found);
        let before = found.len();
        if words && written.read(view.text, from) {
            let spoken = written.view();
            let from = spoken.place_of(from);
            let count = groups.read(spoken.text, from);
            let hints = Hints::new(spoken.text);
            numeric(spoken.text, from, count, true, &hints, groups, found);
            // What was not spoken was seen as it is.
            let mut at = before;
            while at < found.len() {
                if written.touched(&found[at].bytes) {
                    found[at].bytes = written.view().written(found[at].bytes.clone());
                    at += 1;
                } else {
                    found.swap_remove(at);
                }
            }
        }
        found.retain(|hit| kinds.contains(hit.kind) && hit.bytes.start >= from && !hit.bytes.is_empty());
        for hit in &mut *found {
            let bytes = view.written(hit.bytes.clone());
            hit.bytes = context + bytes.start..context + bytes.end;
        }
        in_order(found, hits);
    }
}

impl Detectors {
    /// What is shown in a stretch that is padded beyond all measure: somebody hides it, and what it is cannot be
    /// told from a part. `None` where only padding is.
    pub(super) fn padded(&self, text: &str, bytes: Range<usize>) -> Option<Hit> {
        let formed = |kind: &Kind| !matches!(kind, Kind::Literal | Kind::Person | Kind::Place);
        let mut kinds = std::iter::once(Kind::Record).chain(Kind::ALL).filter(formed);
        let kind = kinds.find(|kind| self.kinds.contains(*kind))?;
        let shown = |c: char| (c.is_alphanumeric() || c == '@') && !plain::has_no_width(c);
        text[bytes.clone()].contains(shown).then_some(Hit { bytes, kind, score: 0.5, detector: "padded" })
    }
}

/// What stands in a plain text as it is.
fn direct(text: &str, from: usize, signs: Signs, kinds: Kinds, groups: &mut Digits, found: &mut Vec<Hit>) {
    if signs.has(Signs::BRACKET) && signs.digits > 0 && kinds.contains(Kind::Literal) {
        patterns::literals(text, from, found);
    }
    if kinds.contains(Kind::Email) {
        if signs.has(Signs::AT) {
            patterns::emails(text, from, found);
        }
        if signs.may_hold_spoken_email() {
            spoken::emails(text, from, found);
        }
    }
    if signs.has(Signs::COLONS) && kinds.contains(Kind::Ip) {
        patterns::ipv6(text, from, found);
    }
    if signs.digits > 0 {
        let count = groups.read(text, from);
        let hints = Hints::new(text);
        numeric(text, from, count, false, &hints, groups, found);
    }
}

/// What is made of digits.
fn numeric(
    text: &str,
    from: usize,
    count: usize,
    spelled: bool,
    hints: &Hints<'_>,
    digits: &Digits,
    found: &mut Vec<Hit>,
) {
    let groups = &digits.groups;
    if count >= 4 {
        patterns::ipv4(text, hints, groups, found);
        dates::births(text, hints, groups, from, found);
        records::find(text, hints, groups, from, found);
    }
    if count >= 6 {
        patterns::national_ids(text, groups, from, found);
    }
    if count >= 7 {
        numbers::find(text, hints, digits, spelled, found);
        patterns::ibans(text, groups, from, found);
    }
    postal::find(text, hints, groups, from, found);
}

/// Keeps, of hits that overlap, the most specific kind, then the longest, then the first.
fn in_order(found: &mut Vec<Hit>, hits: &mut Vec<Hit>) {
    if found.len() < 2 {
        hits.append(found);
        return;
    }
    found.sort_by_key(|hit| (hit.kind, Reverse(hit.bytes.len()), hit.bytes.start));
    let mut kept: BTreeMap<usize, Hit> = BTreeMap::new();
    for mut hit in found.drain(..) {
        // What is kept does not overlap, so only the last one that begins before the end can reach in.
        while let Some((&start, before)) = kept.range(..hit.bytes.end).next_back()
            && before.bytes.end > hit.bytes.start
        {
            // What was said to be an e-mail address does not uncover the rest of something surer.
            let guess = before.kind == Kind::Email && before.score < hit.score;
            if guess && (hit.bytes.start + 1..hit.bytes.end).contains(&before.bytes.end) {
                hit.bytes.start = before.bytes.end;
                continue;
            }
            // An address goes on around what was found in it.
            hit.bytes.end = if guess || hit.kind == Kind::Address { start } else { hit.bytes.start };
            if hit.bytes.end <= hit.bytes.start {
                break;
            }
        }
        if hit.bytes.start < hit.bytes.end {
            kept.insert(hit.bytes.start, hit);
        }
    }
    hits.extend(kept.into_values());
}

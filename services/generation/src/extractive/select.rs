//! Which sentences answer.
//!
//! The answer comes from the passage with the best evidence, since its sentences explain each
//! other; another passage adds a sentence only when that brings words of the question which the
//! first does not hold.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
};

use switchboard_proto::knowledge::v1::{Hit, Passage, Sentence};
use switchboard_text::words::{self, Language};

use super::question::Question;

/// A further sentence of the passage must score this share of its best one.
const SAME_PASSAGE: f32 = 0.6;
/// A row of a table must score this share, since its rows stand for each other.
const ANOTHER_ROW: f32 = 0.9;
/// What going on from a chosen sentence adds to a sentence's score.
const GOES_ON: f32 = 0.2;
/// A sentence of another passage must score this share of the best one.
const OTHER_PASSAGE: f32 = 0.9;
/// How much less a passage may weigh than the best one and still lend a sentence.
const NEAR: f32 = 0.3;
/// Sentences that share this part of their terms (Jaccard) say the same.
const REPEATS: f32 = 0.6;
/// Sentences that are taken along, each way, because a sentence breaks off.
const MAX_COMPLETION: usize = 4;
/// Words that a verdict begins with, and how many words it has at most: "Yes.", "Leider nein."
const VERDICTS: [&str; 8] = ["yes", "no", "sorry", "unfortunately", "ja", "nein", "doch", "leider"];
const VERDICT_WORDS: usize = 3;

/// A passage with the weight of its evidence.
pub(super) struct Weighed<'a> {
    /// Its position in the evidence.
    pub(super) hit: usize,
    pub(super) passage: &'a Passage,
    /// The terms of its title and headings.
    pub(super) above: HashSet<String>,
    pub(super) weight: f32,
    sentences: BTreeMap<usize, Candidate<'a>>,
}

impl Weighed<'_> {
    /// Whether a sentence of it holds the term.
    pub(super) fn mentions(&self, question: &Question, term: &str) -> bool {
        self.sentences.values().any(|candidate| question.holds(&candidate.terms, term))
    }
}

/// A sentence that may be said.
struct Candidate<'a> {
    terms: HashSet<String>,
    text: &'a str,
    is_row: bool,
    score: f32,
}

impl Candidate<'_> {
    fn repeats(&self, other: &Self) -> bool {
        // The rows of a table share the names of its columns.
        if self.is_row && other.is_row {
            return self.text == other.text;
        }
        let shared = self.terms.intersection(&other.terms).count();
        let all = self.terms.len() + other.terms.len() - shared;
        // Two sentences of numbers alone have no terms; they repeat when they are the same.
        if all == 0 { self.text == other.text } else { shared as f32 / all as f32 >= REPEATS }
    }
}

/// Weighs the passages that have something to say, best first.
pub(super) fn weigh<'a>(question: &Question, evidence: &'a [Hit]) -> Vec<Weighed<'a>> {
    let mut passages: Vec<Weighed<'a>> =
        evidence.iter().enumerate().filter_map(|(position, hit)| read(question, position, hit)).collect();
    let rarity = rarity(question, &passages);
    let total: f32 = rarity.values().sum();
    let top = evidence.iter().map(|hit| hit.score).fold(0.0, f32::max);
    for passage in &mut passages {
        let hit = &evidence[passage.hit];
        let mut best = 0.0_f32;
        let mut named = 0.0_f32;
        for (&at, candidate) in &mut passage.sentences {
            let (mut here, mut above) = (0.0, 0.0);
            for (term, rarity) in &rarity {
                if question.holds(&candidate.terms, term) {
                    here += rarity / total;
                } else if question.holds(&passage.above, term) {
                    above += rarity / total;
                }
            }
            let names = question.wanted.is_some_and(|kind| kind.is_in(candidate.text));
            let wanted = if names { 0.2 } else { 0.0 };
            let meaning = hit.sentences[at].similarity.max(0.0);
            // A heading tells what a section is about, not what this sentence says.
            candidate.score = meaning + 0.5 * here + 0.25 * above + wanted;
            best = best.max(meaning);
            named = named.max(wanted);
        }
        // The search has seen all passages and its order is the best single sign; the rest decides
        // among neighbours.
        let fused = if top > 0.0 { hit.score / top } else { 0.0 };
        passage.weight = 5.0 * fused + best + 0.5 * hit.similarity + 0.5 * hit.coverage + named;
    }
    passages.sort_by(|a, b| b.weight.total_cmp(&a.weight));
    passages
}

fn read<'a>(question: &Question, position: usize, hit: &'a Hit) -> Option<Weighed<'a>> {
    let passage = hit.passage.as_ref()?;
    let sentences: BTreeMap<usize, Candidate<'a>> = hit
        .sentences
        .iter()
        .enumerate()
        .filter(|(_, sentence)| !is_heading(sentence, &passage.heading_path))
        .map(|(at, Sentence { text, .. })| {
            (at, Candidate { terms: question.terms_of(text), text, is_row: is_row(text), score: 0.0 })
        })
        .collect();
    let above = question.terms_above(passage);
    (!sentences.is_empty()).then_some(Weighed { hit: position, passage, above, weight: 0.0, sentences })
}

fn is_heading(sentence: &Sentence, path: &[String]) -> bool {
    let text = sentence.text.trim();
    path.iter().any(|heading| heading.trim() == text) || !text.chars().any(char::is_alphanumeric)
}

/// A row of a table is read as "Service: Standard; Price: €4.95".
fn is_row(text: &str) -> bool {
    text.contains("; ") && text.split("; ").all(|cell| cell.contains(": "))
}

/// How rare each of the question's terms is among the sentences: log((N + 1) / (n + 0.5)), by its
/// weight.
fn rarity<'q>(question: &'q Question, passages: &[Weighed<'_>]) -> HashMap<&'q str, f32> {
    let sentences = || passages.iter().flat_map(|passage| passage.sentences.values());
    let all = sentences().count() as f32;
    let weight = |term: &str| {
        let holding = sentences().filter(|s| question.holds(&s.terms, term)).count() as f32;
        question.weight(term) * ((all + 1.0) / (holding + 0.5)).ln().max(0.1)
    };
    question.terms.iter().map(|term| (term.as_str(), weight(term))).collect()
}

/// Takes the sentences that answer, at most `wanted` before completion, as (hit, sentence) positions
/// in reading order, the best passage's first.
pub(super) fn select(
    question: &Question,
    passages: &[Weighed<'_>],
    evidence: &[Hit],
    wanted: usize,
    language: Language,
) -> Vec<(usize, usize)> {
    let Some((best, others)) = passages.split_first() else { return Vec::new() };
    let asked = best.passage.heading_path.last().is_some_and(|heading| question.is_asked_by(heading));
    // The answer to this very question, when it is short, is the answer as a whole.
    if asked && best.sentences.len() <= wanted + 1 {
        let whole = best.sentences.keys().copied().collect();
        return complete(best.hit, whole, evidence, language);
    }
    let own = within(best, wanted);
    let further = if own.len() < wanted { addition(question, best, &own, others) } else { None };
    let mut positions = complete(best.hit, own, evidence, language);
    if let Some((hit, sentence)) = further {
        positions.extend(complete(hit, BTreeSet::from([sentence]), evidence, language));
    }
    positions
}

/// The best sentences of one passage.
fn within(passage: &Weighed<'_>, wanted: usize) -> BTreeSet<usize> {
    let candidates = &passage.sentences;
    let top = candidates.values().map(|c| c.score).fold(0.0, f32::max);
    let mut chosen = BTreeSet::new();
    while chosen.len() < wanted {
        let next = candidates
            .iter()
            .filter(|(at, c)| !chosen.contains(*at) && chosen.iter().all(|o| !candidates[o].repeats(c)))
            .map(|(&at, c)| {
                let goes_on = !c.is_row && at > 0 && chosen.contains(&(at - 1));
                (c.score + if goes_on { GOES_ON } else { 0.0 }, at)
            })
            .filter(|&(score, at)| {
                score >= top * if candidates[&at].is_row { ANOTHER_ROW } else { SAME_PASSAGE }
            })
            .max_by(|a, b| a.0.total_cmp(&b.0).then(Reverse(a.1).cmp(&Reverse(b.1))));
        let Some((_, at)) = next else { break };
        chosen.insert(at);
    }
    chosen
}

/// A sentence of another passage that brings a word of the question which is still unanswered.
fn addition(
    question: &Question,
    best: &Weighed<'_>,
    own: &BTreeSet<usize>,
    others: &[Weighed<'_>],
) -> Option<(usize, usize)> {
    let said: Vec<&Candidate<'_>> = own.iter().map(|at| &best.sentences[at]).collect();
    let top = said.iter().map(|c| c.score).fold(0.0, f32::max);
    let open: Vec<&String> = question
        .terms
        .iter()
        .filter(|term| {
            !question.holds(&best.above, term) && !said.iter().any(|c| question.holds(&c.terms, term))
        })
        .collect();
    others
        .iter()
        .filter(|passage| passage.weight >= best.weight - NEAR)
        .flat_map(|passage| passage.sentences.iter().map(move |(&at, c)| (passage.hit, at, c)))
        .filter(|(_, _, c)| c.score >= OTHER_PASSAGE * top && said.iter().all(|o| !o.repeats(c)))
        .filter(|(_, _, c)| open.iter().any(|term| question.holds(&c.terms, term)))
        .max_by(|a, b| a.2.score.total_cmp(&b.2.score))
        .map(|(hit, at, _)| (hit, at))
}

/// A sentence that breaks off ("These cannot be returned:") says nothing without what follows, what
/// follows it little without it, and "Yes." is what the rest of its section explains.
fn complete(
    hit: usize,
    chosen: BTreeSet<usize>,
    evidence: &[Hit],
    language: Language,
) -> Vec<(usize, usize)> {
    let sentences = &evidence[hit].sentences;
    let opens = |at: usize| breaks_off(&sentences[at].text, language);
    let mut whole = BTreeSet::new();
    for at in chosen {
        let mut first = at;
        while first > 0 && at - first < MAX_COMPLETION && opens(first - 1) {
            first -= 1;
        }
        let mut last = at;
        while last + 1 < sentences.len() && last - at < MAX_COMPLETION && opens(last) {
            last += 1;
        }
        whole.extend(first..=last);
    }
    if is_verdict(&sentences[0].text) {
        whole.insert(0);
    }
    whole.into_iter().map(|at| (hit, at)).collect()
}

fn is_verdict(text: &str) -> bool {
    let lower = text.to_lowercase();
    let words: Vec<&str> = words::words(&lower).collect();
    words.len() <= VERDICT_WORDS && words.first().is_some_and(|word| VERDICTS.contains(word))
}

/// Whether a sentence goes on in the next one: a colon, a comma, or a function word at its end.
fn breaks_off(text: &str, language: Language) -> bool {
    let text = text.trim_end();
    let last = text.split_whitespace().next_back().unwrap_or_default();
    text.ends_with([':', ',', ';', '–']) || words::is_stop_word(&last.to_lowercase(), language)
}

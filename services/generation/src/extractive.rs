//! The extractive tier: answers with the company's own sentences, and only with those.
//!
//! [`answer`] weighs every sentence of the evidence by meaning (its cosine with the question, from
//! vectors made at ingest) and by words (the share of the question's rare terms that it or its
//! headings hold), takes the best, and adds others only while they bring something new. Before
//! that it asks whether the evidence answers at all: [`answerability`] is a logistic model of a few
//! named features, with its weights in the open.

use std::collections::{BTreeSet, HashMap, HashSet};

use switchboard_proto::knowledge::v1::{Hit, Sentence};
use switchboard_text::words::{self, Language};

/// What is asked and what may be said.
#[derive(Clone, Copy, Debug)]
pub struct Task<'a> {
    /// The question with what it leans on.
    pub question: &'a str,
    /// The evidence, best first.
    pub evidence: &'a [Hit],
    /// The language that the question is in.
    pub language: Language,
    /// Whether the question leans on earlier turns, which lend it evidence of their own.
    pub follows_up: bool,
    /// Terms of the question that occur nowhere in the knowledge base.
    pub unknown_terms: &'a [String],
    /// Most sentences wanted.
    pub max_sentences: usize,
    /// Least probability that the evidence answers, in [0, 1].
    pub min_answerability: f32,
}

/// What to reply.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// These sentences, in reading order, as (hit, sentence) positions in the evidence.
    Answer(Vec<(usize, usize)>),
    /// The evidence does not answer.
    Unanswerable,
    /// The question is too short to tell which of these is meant.
    Clarify(Vec<String>),
}

/// A reply and the probability that the evidence answers the question.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// The reply.
    pub reply: Reply,
    /// In [0, 1].
    pub answerability: f32,
}

/// Hits beyond this rank never lend a sentence: what they add is seldom about the question.
const DEPTH: usize = 5;
/// A further sentence of the best one's passage must score this share of the best.
const SAME_PASSAGE: f32 = 0.72;
/// A further sentence of another passage must score this share of the best.
const OTHER_PASSAGE: f32 = 0.88;
/// Sentences that share this part of their terms (Jaccard) say the same.
const REPEATS: f32 = 0.6;
/// What a follow-up's history adds to its evidence, in logits, whatever the question itself is.
const HISTORY_LENDS: f32 = 0.9;
/// What a question loses, in logits, when all of its words are unknown to the documents.
const UNKNOWN: f32 = 3.0;
/// Sentences that are taken along, each way, because a sentence breaks off.
const MAX_COMPLETION: usize = 4;
/// "Yes", "No", "Leider nein": a verdict has at most this many letters.
const VERDICT_LETTERS: usize = 12;

/// Answers from the evidence, or says that it cannot.
#[must_use]
pub fn answer(task: Task<'_>) -> Verdict {
    let question: BTreeSet<String> = words::terms(task.question, task.language).into_iter().collect();
    let answerability = answerability(task, &question);
    let verdict = |reply| Verdict { reply, answerability };
    let mut candidates = weigh(&question, task);
    candidates.sort_by(|a, b| b.score.total_cmp(&a.score));
    let Some(best) = candidates.first() else { return verdict(Reply::Unanswerable) };
    if question.len() <= 1
        && let Some(topics) = ambiguous(task.evidence)
    {
        return verdict(Reply::Clarify(topics));
    }
    if answerability < task.min_answerability {
        return verdict(Reply::Unanswerable);
    }
    let mut chosen: Vec<&Candidate<'_>> = vec![best];
    for candidate in &candidates[1..] {
        if chosen.len() >= task.max_sentences {
            break;
        }
        let share = if candidate.hit == best.hit { SAME_PASSAGE } else { OTHER_PASSAGE };
        if candidate.score >= share * best.score && chosen.iter().all(|other| !other.repeats(candidate)) {
            chosen.push(candidate);
        }
    }
    let mut positions: BTreeSet<(usize, usize)> = chosen.iter().map(|c| (c.hit, c.sentence)).collect();
    complete(task, &mut positions);
    verdict(Reply::Answer(positions.into_iter().collect()))
}

/// A sentence of the evidence with its weight.
struct Candidate<'a> {
    hit: usize,
    sentence: usize,
    terms: HashSet<String>,
    text: &'a str,
    score: f32,
}

impl Candidate<'_> {
    fn repeats(&self, other: &Self) -> bool {
        let shared = self.terms.intersection(&other.terms).count();
        let all = self.terms.len() + other.terms.len() - shared;
        // Two sentences of numbers alone have no terms; they repeat when they are the same.
        if all == 0 { self.text == other.text } else { shared as f32 / all as f32 >= REPEATS }
    }
}

fn weigh<'a>(question: &BTreeSet<String>, task: Task<'a>) -> Vec<Candidate<'a>> {
    let (evidence, language) = (task.evidence, task.language);
    let mut candidates = Vec::new();
    let mut headings = Vec::new();
    let mut seen: HashSet<(&str, u32)> = HashSet::new();
    for (position, hit) in evidence.iter().take(DEPTH).enumerate() {
        let Some(passage) = &hit.passage else { continue };
        let above = format!("{} {}", passage.title, passage.heading_path.join(" "));
        let above: HashSet<String> = words::terms(&above, language).into_iter().collect();
        for (index, sentence) in hit.sentences.iter().enumerate() {
            // Passages of one section may overlap by whole sentences.
            if !seen.insert((&passage.document_id, sentence.start))
                || is_heading(sentence, &passage.heading_path)
            {
                continue;
            }
            candidates.push(Candidate {
                hit: position,
                sentence: index,
                terms: words::terms(&sentence.text, language).into_iter().collect(),
                text: &sentence.text,
                score: 0.0,
            });
            headings.push(above.clone());
        }
    }
    let rarity = rarity(question, &candidates);
    let total: f32 = rarity.values().sum();
    for (candidate, above) in candidates.iter_mut().zip(&headings) {
        let mut lexical = 0.0;
        for (term, weight) in &rarity {
            // A heading tells what a section is about, not what this sentence says.
            lexical += weight
                * if candidate.terms.contains(*term) {
                    1.0
                } else if above.contains(*term) {
                    0.6
                } else {
                    0.0
                };
        }
        let lexical = if total > 0.0 { lexical / total } else { 0.0 };
        let sentence = &evidence[candidate.hit].sentences[candidate.sentence];
        let rank = 1.0 / (1.0 + candidate.hit as f32);
        // Meaning and words count alike; the passage's rank decides among equals.
        candidate.score = 0.4 * sentence.similarity.max(0.0) + 0.4 * lexical + 0.2 * rank;
    }
    candidates
}

/// How rare each of the question's terms is among the candidates: log((N + 1) / (n + 0.5)).
fn rarity<'q>(question: &'q BTreeSet<String>, candidates: &[Candidate<'_>]) -> HashMap<&'q str, f32> {
    let all = candidates.len() as f32;
    question
        .iter()
        .map(|term| {
            let holding = candidates.iter().filter(|c| c.terms.contains(term)).count() as f32;
            (term.as_str(), ((all + 1.0) / (holding + 0.5)).ln().max(0.1))
        })
        .collect()
}

fn is_heading(sentence: &Sentence, path: &[String]) -> bool {
    let text = sentence.text.trim();
    path.iter().any(|heading| heading.trim() == text) || !text.chars().any(char::is_alphanumeric)
}

/// A sentence that breaks off ("These cannot be returned:") says nothing without what follows, what
/// follows it little without it, and "Yes." is what the rest of its section explains.
fn complete(task: Task<'_>, positions: &mut BTreeSet<(usize, usize)>) {
    for (hit, sentence) in positions.clone() {
        let sentences = &task.evidence[hit].sentences;
        let opens = |at: usize| breaks_off(&sentences[at].text, task.language);
        let mut first = sentence;
        while first > 0 && sentence - first < MAX_COMPLETION && opens(first - 1) {
            first -= 1;
        }
        let mut last = sentence;
        while last + 1 < sentences.len() && last - sentence < MAX_COMPLETION && opens(last) {
            last += 1;
        }
        positions.extend((first..=last).map(|at| (hit, at)));
        let verdict = &sentences[0].text;
        if sentence > 0 && verdict.chars().filter(|c| c.is_alphabetic()).count() <= VERDICT_LETTERS {
            positions.insert((hit, 0));
        }
    }
}

/// Whether a sentence goes on in the next one: a colon, a comma, or a function word at its end.
fn breaks_off(text: &str, language: Language) -> bool {
    let text = text.trim_end();
    let last = text.split_whitespace().next_back().unwrap_or_default();
    text.ends_with([':', ',', ';', '–']) || words::is_stop_word(&last.to_lowercase(), language)
}

/// The probability that the evidence answers the question, in [0, 1].
///
/// A logistic model of the best passage's cosine, the best sentence's, and how far the lists of
/// words and of vectors agree. Its weights were fitted on public help pages against questions from
/// other domains (area under the curve 0.985; at 0.5 it keeps 94 % of the answerable questions and
/// lets 5 % of the others through). It cannot tell a question whose topic the documents treat, but
/// whose answer they lack: there it is hardly better than its parts (0.70).
fn answerability(task: Task<'_>, question: &BTreeSet<String>) -> f32 {
    if task.evidence.is_empty() || question.is_empty() {
        return 0.0;
    }
    let max = |of: fn(&Hit) -> f32| task.evidence.iter().map(of).fold(0.0_f32, f32::max);
    let passage = max(|hit| hit.similarity);
    let sentence = max(|hit| hit.sentences.iter().map(|s| s.similarity).fold(0.0, f32::max));
    let unknown = (task.unknown_terms.len() as f32 / question.len() as f32).min(1.0);
    let z = if passage > 0.0 || sentence > 0.0 {
        let agree =
            task.evidence.iter().filter(|hit| within(hit.lexical_rank) && within(hit.dense_rank)).count();
        let agree = agree as f32 / task.evidence.len() as f32;
        let lean = if task.follows_up { HISTORY_LENDS } else { 0.0 };
        8.0 * sentence + 10.0 * passage + 2.5 * agree - 10.0 - lean - UNKNOWN * unknown
    } else {
        // Without vectors the words have to carry the decision alone, and must nearly all be there.
        12.0 * (max(|hit| hit.coverage) - 0.75) - UNKNOWN * unknown
    };
    1.0 / (1.0 + (-z).exp())
}

/// Ranks up to this one count as found by a list.
fn within(rank: u32) -> bool {
    (1..=10).contains(&rank)
}

/// The topics of the evidence when a question of one word could mean any of them.
fn ambiguous(evidence: &[Hit]) -> Option<Vec<String>> {
    let mut topics: Vec<String> = Vec::new();
    for hit in evidence.iter().take(DEPTH) {
        let title = &hit.passage.as_ref()?.title;
        if !title.is_empty() && !topics.contains(title) {
            topics.push(title.clone());
        }
    }
    // Two documents may say the same; three are a choice.
    (topics.len() >= 3).then(|| topics.into_iter().take(3).collect())
}

#[cfg(test)]
mod tests {
    use switchboard_proto::knowledge::v1::Passage;

    use super::*;

    fn hit(document: &str, heading: &str, sentences: &[(&str, f32)], coverage: f32) -> Hit {
        let mut start = 0;
        let spans: Vec<Sentence> = sentences
            .iter()
            .map(|(text, similarity)| {
                let end = start + text.chars().count() as u32;
                let span = Sentence { start, end, text: (*text).into(), similarity: *similarity };
                start = end + 1;
                span
            })
            .collect();
        Hit {
            passage: Some(Passage {
                document_id: document.into(),
                title: document.into(),
                heading_path: vec![heading.into()],
                ..Passage::default()
            }),
            similarity: spans.iter().map(|s| s.similarity).fold(0.0, f32::max),
            coverage,
            sentences: spans,
            ..Hit::default()
        }
    }

    fn task<'a>(question: &'a str, evidence: &'a [Hit]) -> Task<'a> {
        Task {
            question,
            evidence,
            language: Language::English,
            follows_up: false,
            unknown_terms: &[],
            max_sentences: 3,
            min_answerability: 0.5,
        }
    }

    #[test]
    fn the_sentence_that_answers_is_chosen_and_the_rest_left_out() {
        let evidence = [hit(
            "returns",
            "Shoes",
            &[
                ("We love shoes.", 0.35),
                ("Shoes that were worn outside cannot be returned.", 0.85),
                ("Our shops open at nine.", 0.05),
            ],
            0.9,
        )];
        let verdict = answer(task("Can I return shoes I have worn outside?", &evidence));
        assert_eq!(verdict.reply, Reply::Answer(vec![(0, 1)]));
    }

    #[test]
    fn a_sentence_said_twice_is_used_once() {
        let line = ("Refunds arrive within five days.", 0.9);
        let evidence = [hit("a", "Refunds", &[line], 1.0), hit("b", "Refunds", &[line], 1.0)];
        let verdict = answer(task("When do refunds arrive?", &evidence));
        assert_eq!(verdict.reply, Reply::Answer(vec![(0, 0)]));
    }

    #[test]
    fn weak_evidence_is_no_answer() {
        let evidence = [hit("returns", "Shoes", &[("Shoes can be returned.", 0.1)], 0.0)];
        assert_eq!(answer(task("Who won the election?", &evidence)).reply, Reply::Unanswerable);
        assert_eq!(answer(task("anything", &[])).reply, Reply::Unanswerable);
    }

    #[test]
    fn a_list_comes_with_the_line_that_introduces_it() {
        let evidence = [hit(
            "returns",
            "Exceptions",
            &[("These cannot be returned:", 0.5), ("swimwear without its seal", 0.9), ("gift cards", 0.2)],
            0.9,
        )];
        let Reply::Answer(chosen) = answer(task("Can I return swimwear without a seal?", &evidence)).reply
        else {
            panic!("an answer was expected");
        };
        assert!(chosen.starts_with(&[(0, 0), (0, 1)]), "{chosen:?}");
    }

    #[test]
    fn a_sentence_that_breaks_off_is_completed() {
        let evidence = [hit(
            "lost",
            "When is a parcel lost?",
            &[
                ("A parcel is lost when it was not seen for", 0.4),
                ("7 days in Ireland, or", 0.9),
                ("15 days abroad.", 0.3),
                ("Please be patient.", 0.1),
            ],
            0.9,
        )];
        let verdict = answer(task("After how many days in Ireland is it lost?", &evidence));
        assert_eq!(verdict.reply, Reply::Answer(vec![(0, 0), (0, 1), (0, 2)]));
    }

    #[test]
    fn yes_comes_before_its_explanation() {
        let evidence =
            [hit("faq", "Do you wrap gifts?", &[("Yes.", 0.1), ("Wrapping costs 3 euros.", 0.8)], 0.9)];
        let verdict = answer(task("Do you wrap gifts?", &evidence));
        assert_eq!(verdict.reply, Reply::Answer(vec![(0, 0), (0, 1)]));
    }

    #[test]
    fn one_word_with_many_meanings_is_asked_back() {
        let evidence: Vec<Hit> =
            ["Returns", "Shipping", "Warranty"].map(|t| hit(t, t, &[("Fees apply.", 0.6)], 1.0)).into();
        assert!(
            matches!(answer(task("fees?", &evidence)).reply, Reply::Clarify(topics) if topics.len() == 3)
        );
    }
}

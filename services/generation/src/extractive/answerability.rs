//! Whether the evidence answers at all.

use std::collections::HashSet;

use switchboard_proto::knowledge::v1::Hit;
use switchboard_text::words::Language;

use super::question::Question;

/// What a follow-up's history adds to its evidence, in logits, whatever the question itself is.
const HISTORY_LENDS: f32 = 0.9;
/// What German gets, in logits, because the cosines of an English model are lower on it.
const GERMAN_GETS: f32 = 0.5;
/// Ranks up to this one count as found by a list.
const FOUND: u32 = 10;

/// The probability that the evidence answers the question, in [0, 1].
///
/// A logistic model of the best sentence's cosine, the best passage's, how far the lists of words
/// and of vectors agree, the share of the question's words that one passage holds, and the share
/// that none does. Fitted on public help pages and a made-up shop: at 0.5 it keeps 96 % of 295
/// questions that the pages answer and lets through 1 to 8 % of questions from other domains. It
/// cannot tell a question whose topic the documents treat, but whose answer they lack: of a bank's
/// questions put to the shop, which treats cards and refunds too, 41 % pass.
pub(super) fn answerability(
    question: &Question,
    evidence: &[Hit],
    unknown_terms: &[String],
    follows_up: bool,
) -> f32 {
    if evidence.is_empty() || question.terms.is_empty() {
        return 0.0;
    }
    let all = question.terms.len() as f32;
    let max = |of: fn(&Hit) -> f32| evidence.iter().map(of).fold(0.0_f32, f32::max);
    let passage = max(|hit| hit.similarity);
    let sentence = max(|hit| hit.sentences.iter().map(|s| s.similarity).fold(0.0, f32::max));
    let z = if passage > 0.0 || sentence > 0.0 {
        let agree = evidence.iter().filter(|hit| found(hit.lexical_rank) && found(hit.dense_rank)).count();
        let agree = agree as f32 / evidence.len() as f32;
        let words = match question.language {
            // The search knows how rare a word is, and which were mistyped; of German it knows
            // neither stop words nor compounds.
            Language::English => Words {
                covered: max(|hit| hit.coverage),
                missing: (unknown_terms.len() as f32 / all).min(1.0),
            },
            Language::German => Words::of(question, evidence),
        };
        let lent = if follows_up { HISTORY_LENDS } else { 0.0 };
        let given = if question.language == Language::German { GERMAN_GETS } else { 0.0 };
        7.0 * sentence + 11.0 * passage + 2.0 * agree + 2.5 * words.covered
            - 2.0 * words.missing
            - 10.5
            - lent
            + given
    } else {
        // The words carry the decision alone. Two of three are not quite enough, three of four are,
        // and a question of one or two words must be met.
        let words = Words::of(question, evidence);
        2.0 * (words.covered * words.covered * all - f32::min(1.5, all - 0.25))
    };
    1.0 / (1.0 + (-z).exp())
}

fn found(rank: u32) -> bool {
    (1..=FOUND).contains(&rank)
}

/// How the question's words lie in the documents.
struct Words {
    /// The largest share of them that one passage holds, with its title and headings.
    covered: f32,
    /// The share of them that is found nowhere.
    missing: f32,
}

impl Words {
    fn of(question: &Question, evidence: &[Hit]) -> Self {
        let texts: Vec<HashSet<String>> = evidence
            .iter()
            .filter_map(|hit| hit.passage.as_ref().map(|passage| (hit, passage)))
            .map(|(hit, passage)| {
                let mut terms = question.terms_above(passage);
                terms.extend(hit.sentences.iter().flat_map(|sentence| question.terms_of(&sentence.text)));
                terms
            })
            .collect();
        let share = |count: usize| count as f32 / question.terms.len() as f32;
        let held =
            |text: &HashSet<String>| question.terms.iter().filter(|term| question.holds(text, term)).count();
        let lost = |term: &&String| !texts.iter().any(|text| question.holds(text, term));
        Self {
            covered: share(texts.iter().map(held).max().unwrap_or(0)),
            missing: share(question.terms.iter().filter(lost).count()),
        }
    }
}

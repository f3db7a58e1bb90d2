//! What is known of a candidate without a model, and what it is worth.
//!
//! [`of`] turns each candidate into [`COUNT`] numbers, and [`Weights`] sums them to a score. A score
//! says nothing alone; within one request a higher one is better.

mod weights;

use std::collections::{BTreeSet, HashMap, HashSet};

use switchboard_proto::reranking::v1::Candidate;
use switchboard_text::{
    sentences,
    words::{self, Language, QuestionType},
};

pub use weights::Weights;

/// The number of features.
pub const COUNT: usize = 14;

/// The features, in order.
pub const NAMES: [&str; COUNT] = [
    // Where it came in the request, discounted by the logarithm of its place.
    "place",
    // Where it stands among the hits by words, and among those by vectors, discounted likewise.
    "lexical",
    "dense",
    // Cosines of the query with it, and with the best of its sentences.
    "similarity",
    "sentence",
    // The share of the query's words that it holds, by their rarity among all passages.
    "coverage",
    // The share that its title, its headings, its text, and the best sentence of its text hold, by
    // rarity among the candidates.
    "title",
    "headings",
    "text",
    "one_sentence",
    // The share of the query's pairs of neighbouring words that stand near each other in its text.
    "pairs",
    // Whether it holds a figure, where the query asks for a number, a time or a duration.
    "figure",
    // How long it is: the logarithm of its words.
    "length",
    // How well its document did: the discounts of the places of the others with its title, as a share
    // of all candidates'.
    "siblings",
];

/// The features of a candidate, in the order of [`NAMES`].
pub type Row = [f32; COUNT];

/// Characters of a candidate that are read: twice what a passage of ours has.
const READ: usize = 1_000;
/// Characters of a query that are read.
const QUERY_READ: usize = 1_000;
/// Words between two words that still stand near each other.
const NEAR: usize = 3;

/// The features of each candidate, each about in [0, 1].
///
/// `locale` is the BCP 47 tag of the query's language; empty takes English.
#[must_use]
pub fn of(query: &str, locale: &str, candidates: &[Candidate]) -> Vec<Row> {
    let query = cut(query, QUERY_READ);
    let mut asked = Asked::of(query, Language::of_tag(locale));
    let read: Vec<Read> = candidates.iter().map(|candidate| Read::of(candidate, &mut asked)).collect();
    let rarity = rarity(asked.terms.len(), &read);
    let all: f32 = rarity.iter().sum();
    let share = |held: &dyn Fn(usize) -> bool| {
        let held: f32 = (0..).zip(&rarity).filter(|(term, _)| held(*term)).map(|(_, rarity)| rarity).sum();
        if all > 0.0 { held / all } else { 0.0 }
    };
    let wants_figure = matches!(
        words::question_type(query),
        QuestionType::Quantity | QuestionType::Duration | QuestionType::Time
    );
    let siblings = siblings(candidates);
    let row = |(index, (candidate, read)): (usize, (&Candidate, &Read))| {
        [
            discount(index as u32 + 1),
            discount(candidate.lexical_rank),
            discount(candidate.dense_rank),
            candidate.similarity,
            candidate.sentence_similarity,
            candidate.coverage,
            share(&|term| read.title.contains(&term)),
            share(&|term| read.headings.contains(&term)),
            share(&|term| !read.places[term].is_empty()),
            if all > 0.0 { one_sentence(read, &rarity) / all } else { 0.0 },
            pairs(&asked.sequence, read),
            f32::from(u8::from(wants_figure && read.figure)),
            (read.length as f32).ln_1p() / 6.0,
            siblings[index],
        ]
    };
    candidates.iter().zip(&read).enumerate().map(row).collect()
}

/// What a rank, from 1, is worth: the discount of DCG (Järvelin and Kekäläinen 2002), 0 for none.
fn discount(rank: u32) -> f32 {
    if rank == 0 { 0.0 } else { 1.0 / (1.0 + rank as f32).log2() }
}

/// The terms that a query asks for. A term goes by its number.
struct Asked {
    /// In order, each once.
    terms: Vec<String>,
    /// In the query's order.
    sequence: Vec<usize>,
    language: Language,
    /// Words that were met, with the term that each is; candidates share most of theirs, and finding
    /// a word's stem is what takes the time.
    met: HashMap<String, Option<usize>>,
}

impl Asked {
    fn of(query: &str, language: Language) -> Self {
        let sequence = words::terms(query, language);
        let terms: Vec<String> = sequence.iter().cloned().collect::<BTreeSet<_>>().into_iter().collect();
        let sequence = sequence.iter().filter_map(|term| terms.binary_search(term).ok()).collect();
        Self { terms, sequence, language, met: HashMap::new() }
    }

    /// The content words of a text, as the terms that they are.
    fn read(&mut self, text: &str) -> Vec<Option<usize>> {
        let Self { terms, language, met, .. } = self;
        let term = |word: String| match met.get(&word) {
            Some(&term) => term,
            None => {
                let term = terms.binary_search(&words::stem(&word, *language)).ok();
                met.insert(word, term);
                term
            }
        };
        words::content_words(text, *language).into_iter().map(term).collect()
    }
}

/// A candidate's words, as far as they are asked for.
struct Read {
    title: HashSet<usize>,
    headings: HashSet<usize>,
    /// For each term, where it stands in the text, ascending.
    places: Vec<Vec<Place>>,
    sentences: usize,
    figure: bool,
    length: usize,
}

/// Where a word stands.
struct Place {
    word: usize,
    sentence: usize,
}

impl Read {
    fn of(candidate: &Candidate, asked: &mut Asked) -> Self {
        let text = cut(&candidate.text, READ);
        let spans = sentences::split(text);
        let mut places: Vec<Vec<Place>> = asked.terms.iter().map(|_| Vec::new()).collect();
        let mut length = 0;
        for (sentence, span) in spans.iter().enumerate() {
            for term in asked.read(span.of(text)) {
                if let Some(term) = term {
                    places[term].push(Place { word: length, sentence });
                }
                length += 1;
            }
        }
        let mut all = |text: &str| asked.read(cut(text, READ)).into_iter().flatten().collect();
        Self {
            title: all(&candidate.title),
            headings: all(&candidate.heading_path.join(" ")),
            places,
            sentences: spans.len(),
            figure: text.contains(|c: char| c.is_ascii_digit()),
            length,
        }
    }

    fn holds(&self, term: usize) -> bool {
        !self.places[term].is_empty() || self.headings.contains(&term) || self.title.contains(&term)
    }
}

/// How rare each asked term is among the candidates.
///
/// # Source
/// The inverse document frequency of BM25, kept above 0: Robertson and Zaragoza 2009, section 3.
fn rarity(terms: usize, read: &[Read]) -> Vec<f32> {
    let weight = |term: usize| {
        let holding = read.iter().filter(|read| read.holds(term)).count() as f32;
        ((read.len() as f32 - holding + 0.5) / (holding + 0.5)).ln_1p()
    };
    (0..terms).map(weight).collect()
}

/// The rarity of all the asked terms that one sentence holds, at most.
fn one_sentence(read: &Read, rarity: &[f32]) -> f32 {
    let mut held = vec![0.0_f32; read.sentences];
    for (places, rarity) in read.places.iter().zip(rarity) {
        let mut before = None;
        for place in places {
            if before.replace(place.sentence) != Some(place.sentence) {
                held[place.sentence] += rarity;
            }
        }
    }
    held.into_iter().fold(0.0, f32::max)
}

/// The share of neighbouring asked terms that stand near each other, in either order.
fn pairs(asked: &[usize], read: &Read) -> f32 {
    let near = |a: &[Place], b: &[Place]| {
        // Both lists ascend, so one walk finds the closest pair.
        let (mut i, mut j) = (0, 0);
        while let (Some(x), Some(y)) = (a.get(i), b.get(j)) {
            if x.word.abs_diff(y.word) <= NEAR {
                return true;
            }
            if x.word < y.word { i += 1 } else { j += 1 }
        }
        false
    };
    let neighbours: Vec<_> = asked.windows(2).filter(|pair| pair[0] != pair[1]).collect();
    let held = neighbours.iter().filter(|pair| near(&read.places[pair[0]], &read.places[pair[1]]));
    held.count() as f32 / neighbours.len().max(1) as f32
}

/// For each candidate, what the others of its title count for.
fn siblings(candidates: &[Candidate]) -> Vec<f32> {
    let places: Vec<f32> = (1..).map(discount).take(candidates.len()).collect();
    let all: f32 = places.iter().sum();
    let mut by_title: HashMap<&str, f32> = HashMap::new();
    for (candidate, place) in candidates.iter().zip(&places) {
        *by_title.entry(&candidate.title).or_default() += place;
    }
    let of = |(candidate, place): (&Candidate, &f32)| match candidate.title.as_str() {
        "" => 0.0,
        title => ((by_title[title] - place) / all).max(0.0),
    };
    candidates.iter().zip(&places).map(of).collect()
}

/// The beginning of a text, of at most `most` characters.
fn cut(text: &str, most: usize) -> &str {
    text.char_indices().nth(most).map_or(text, |(end, _)| &text[..end])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn candidate(title: &str, heading: &str, text: &str) -> Candidate {
        Candidate {
            text: text.into(),
            title: title.into(),
            heading_path: vec![heading.into()],
            ..Candidate::default()
        }
    }

    fn feature(row: &Row, name: &str) -> f32 {
        row[NAMES.iter().position(|known| *known == name).unwrap()]
    }

    #[test]
    fn each_part_of_a_candidate_is_matched_apart_and_by_stems() {
        let rows = of(
            "How much does returning shoes cost?",
            "",
            &[
                candidate("Returns", "What a return costs", "We deduct €3.95 for the label."),
                candidate("Sizes", "Shoes", "Returned shoes cost us money; shoes cost."),
            ],
        );
        assert!(feature(&rows[0], "title") > 0.0 && feature(&rows[1], "title") == 0.0);
        assert!(feature(&rows[0], "headings") > 0.0 && feature(&rows[1], "headings") > 0.0);
        assert_eq!((feature(&rows[0], "text"), feature(&rows[1], "text")), (0.0, 1.0));
        assert_eq!((feature(&rows[0], "pairs"), feature(&rows[1], "pairs")), (0.0, 1.0));
        assert_eq!((feature(&rows[0], "figure"), feature(&rows[1], "figure")), (1.0, 0.0));
        assert!(feature(&rows[0], "place") > feature(&rows[1], "place"));
    }

    #[test]
    fn words_in_one_sentence_are_worth_more_than_scattered_ones() {
        let rows = of(
            "Are leather boots waterproof?",
            "",
            &[
                candidate("", "", "Leather boots are waterproof. Dry them slowly."),
                candidate("", "", "Wipe leather with a cloth. Our boots are tested. Jackets are waterproof."),
            ],
        );
        assert_eq!(feature(&rows[0], "text"), feature(&rows[1], "text"));
        assert!((feature(&rows[0], "one_sentence") - 1.0).abs() < 1e-6);
        assert!(feature(&rows[1], "one_sentence") < 0.5);
    }

    #[test]
    fn a_document_whose_other_passages_did_well_counts_for_each_of_them() {
        let candidates = ["Returns", "Returns", "Sizes", ""].map(|title| candidate(title, "", "x"));
        let siblings: Vec<f32> =
            of("q", "", &candidates).iter().map(|row| feature(row, "siblings")).collect();
        assert!(siblings[1] > siblings[0] && siblings[0] > 0.0, "{siblings:?}");
        assert_eq!(siblings[2..], [0.0, 0.0]);
    }

    #[test]
    fn what_is_known_of_ranks_counts_and_what_is_not_does_not() {
        let known = Candidate { lexical_rank: 1, dense_rank: 3, coverage: 0.25, ..candidate("", "", "a") };
        let rows = of("a question", "", &[known, candidate("", "", "b")]);
        assert_eq!((feature(&rows[0], "lexical"), feature(&rows[0], "dense")), (1.0, 0.5));
        assert_eq!((feature(&rows[1], "lexical"), feature(&rows[1], "coverage")), (0.0, 0.0));
    }

    #[test]
    fn words_are_compared_in_the_language_of_the_query() {
        let rows = of("Kann ich Schuhe zurückgeben?", "de-AT", &[candidate("", "", "Der Schuh.")]);
        assert!(feature(&rows[0], "text") > 0.0);
    }

    proptest! {
        #[test]
        fn any_text_gives_finite_scores(query in ".{0,80}", title in ".{0,40}", text in ".{0,200}", rank in 0u32..) {
            let one = Candidate { lexical_rank: rank, ..candidate(&title, &query, &text) };
            let rows = of(&query, "", &[one.clone(), one]);
            prop_assert!(rows.iter().flatten().all(|value| value.is_finite() && (0.0..=1.5).contains(value)));
            let score = Weights::default().score(&of(&query, "", &[candidate(&title, "", &text)])[0]);
            prop_assert!(score.is_finite());
        }
    }
}

//! From wordings of a question to passages: ranked lists, their fusion, and the evidence for each
//! hit.
//!
//! The wordings together give up to three lists: by words (their BM25 scores, weighted and summed),
//! by the passage's vector, and by the best of its sentences' vectors (near to the weighted sum of
//! theirs). Summed evidence ranks better than a list for each wording when measured on follow-up
//! questions. A further kind of list is one more [`Ranked`] in [`Lists`].

use std::collections::{HashMap, HashSet};

use crate::{
    catalog::{Catalog, Passage},
    document::Filter,
    error::Error,
    fusion::{Ranked, fuse},
    index::dot,
    terms::{CORRECTED_WEIGHT, Known, content},
};

/// Passages of each ranked list that take part in the fusion, at least.
const DEPTH: usize = 200;

/// What the score of a passage counts for when its document says that it no longer holds: behind all
/// that holds and is nearly as good, before what has nothing to do with the question.
const OUTDATED: f32 = 0.5;

/// Unknown terms of a question that are taken for typos, at most: each costs a look at every word.
const CORRECTED: usize = 8;

/// Which ranked lists take part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Mode {
    #[default]
    All,
    Lexical,
    Dense,
}

/// One wording.
#[derive(Clone, Debug)]
pub(crate) struct Form {
    pub(crate) text: String,
    /// Of length 1.
    pub(crate) vector: Option<Vec<f32>>,
    pub(crate) weight: f32,
}

/// A search.
#[derive(Clone, Debug)]
pub(crate) struct Query {
    /// At least one.
    pub(crate) forms: Vec<Form>,
    pub(crate) limit: usize,
    pub(crate) filter: Filter,
    pub(crate) mode: Mode,
}

/// A passage found.
#[derive(Debug, PartialEq)]
pub(crate) struct Hit {
    pub(crate) slot: u32,
    pub(crate) score: f32,
    /// From 1; 0 when absent.
    pub(crate) lexical_rank: u32,
    pub(crate) dense_rank: u32,
    pub(crate) similarity: f32,
    pub(crate) coverage: f32,
    /// One for each sentence.
    pub(crate) sentence_similarities: Vec<f32>,
}

/// What a search found.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Found {
    pub(crate) hits: Vec<Hit>,
    pub(crate) degraded: Vec<&'static str>,
    pub(crate) unknown_terms: Vec<String>,
    /// Words of the first form as they were written, and what they were taken for.
    pub(crate) corrections: Vec<(String, String)>,
}

/// Runs a full-text expression and hands over rows with their BM25 scores.
pub(crate) type Words<'a> = dyn FnMut(&str, &mut dyn FnMut(i64, f32)) -> Result<(), Error> + 'a;

#[derive(Default)]
struct Lists {
    lexical: Option<Ranked>,
    dense: Vec<Ranked>,
}

/// Searches one tenant's passages.
///
/// # Errors
/// `Dimension` for a vector of another model; what `words` reports.
pub(crate) fn search(catalog: &Catalog, query: &Query, words: &mut Words<'_>) -> Result<Found, Error> {
    let expected = catalog.passage_vectors.dimension();
    if let Some(vector) =
        query.forms.iter().filter_map(|form| form.vector.as_ref()).find(|v| v.len() != expected)
    {
        return Err(Error::Dimension { expected, given: vector.len() });
    }
    let depth = DEPTH.max(query.limit * 2);
    let allowed =
        |slot: u32| catalog.passage(slot).is_some_and(|passage| query.filter.allows(&passage.document));
    let mut lists = Lists::default();
    let vector = together(&query.forms);
    let asked: Vec<Asked> =
        (0..).zip(&query.forms).map(|(at, form)| look_up(catalog, query, form, at == 0)).collect();
    if query.mode != Mode::Dense && asked.iter().any(|asked| !asked.terms.is_empty()) {
        lists.lexical = Some(by_words(catalog, query, &asked, depth, &allowed, words)?);
    }
    if query.mode != Mode::Lexical
        && let Some(vector) = &vector
    {
        let list = |found: Vec<(u32, f32)>| Ranked {
            weight: 1.0,
            items: found.into_iter().map(|hit| hit.0).collect(),
        };
        lists.dense.push(list(catalog.passage_vectors.search(vector, depth, allowed)));
        lists.dense.push(list(catalog.sentence_vectors.search(vector, depth, allowed)));
    }
    let mut degraded = Vec::new();
    if query.mode != Mode::Dense && lists.lexical.is_none() {
        degraded.push("lexical");
    }
    if query.mode != Mode::Lexical && lists.dense.is_empty() {
        degraded.push("dense");
    }
    let first = asked.into_iter().next().unwrap_or_default();
    let hits = rank(catalog, query.limit, &lists, &first, vector.as_deref());
    Ok(Found { hits, degraded, unknown_terms: first.unknown, corrections: first.corrections })
}

/// The list by words: each wording's scores, weighted and summed.
fn by_words(
    catalog: &Catalog,
    query: &Query,
    asked: &[Asked],
    depth: usize,
    allowed: &dyn Fn(u32) -> bool,
    words: &mut Words<'_>,
) -> Result<Ranked, Error> {
    let mut scores: HashMap<u32, f32> = HashMap::new();
    for (form, asked) in query.forms.iter().zip(asked).filter(|(_, asked)| !asked.expression.is_empty()) {
        let weight = form.weight * asked.trust;
        words(&asked.expression, &mut |row, score| {
            if let Some(slot) = catalog.slot_of_row(row).filter(|&slot| allowed(slot)) {
                *scores.entry(slot).or_default() += weight * score;
            }
        })?;
    }
    let mut ranked: Vec<_> = scores.into_iter().collect();
    ranked.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    Ok(Ranked { weight: 1.0, items: ranked.into_iter().take(depth).map(|hit| hit.0).collect() })
}

/// The weighted sum of the wordings' vectors, at length 1; none when they cancel out.
fn together(forms: &[Form]) -> Option<Vec<f32>> {
    let mut sum: Option<Vec<f32>> = None;
    for form in forms {
        let Some(vector) = &form.vector else { continue };
        let sum = sum.get_or_insert_with(|| vec![0.0; vector.len()]);
        for (sum, component) in sum.iter_mut().zip(vector) {
            *sum += form.weight * component;
        }
    }
    let mut sum = sum?;
    let length = dot(&sum, &sum).sqrt();
    sum.iter_mut().for_each(|component| *component /= length);
    (length > 1e-6).then_some(sum)
}

/// What a wording's terms are among the tenant's.
#[derive(Default)]
struct Asked {
    /// For the full-text index: quoted words joined by OR.
    expression: String,
    /// What its scores by words count for; less when a word was corrected.
    trust: f32,
    /// The stem's number, its rarity, and what finding it is worth, for each content term.
    terms: Vec<(Option<u32>, f32, f32)>,
    unknown: Vec<String>,
    corrections: Vec<(String, String)>,
}

/// Looks up a wording's terms. Of the question itself, the first wording, typos are corrected, and
/// what only passages behind the filter hold is unknown: an answer may not tell their words.
fn look_up(catalog: &Catalog, query: &Query, form: &Form, first: bool) -> Asked {
    let vocabulary = &catalog.vocabulary;
    let mut asked = Asked { trust: 1.0, ..Asked::default() };
    let mut words = Vec::new();
    let mut corrections = if first { CORRECTED } else { 0 };
    let mut known = Vec::new();
    for term in content(&form.text, &query.filter.locale) {
        let found = match vocabulary.look_up(&term, false) {
            Known::Unknown if corrections > 0 => {
                corrections -= 1;
                vocabulary.look_up(&term, true)
            }
            found => found,
        };
        known.push((term, found));
    }
    let numbers = known.iter().filter_map(|(_, found)| found.number());
    let filters = !query.filter.all_audiences || !query.filter.locale.is_empty();
    let visible = (first && filters).then(|| visible(catalog, &query.filter, numbers.collect()));
    for (term, found) in known {
        let hidden = |number: u32| visible.as_ref().is_some_and(|visible| !visible.contains(&number));
        match found {
            found if found.number().is_some_and(hidden) => {
                asked.terms.push((None, vocabulary.rarity(None), 1.0));
                asked.unknown.push(term.word);
            }
            Known::As(number) => {
                asked.terms.push((Some(number), vocabulary.rarity(Some(number)), 1.0));
                words.push(term.word);
            }
            Known::For(word, number) => {
                asked.terms.push((Some(number), vocabulary.rarity(Some(number)), CORRECTED_WEIGHT));
                asked.trust = CORRECTED_WEIGHT;
                asked.corrections.push((term.word, word.clone()));
                words.push(word);
            }
            Known::Nothing => {}
            Known::Unknown => {
                asked.terms.push((None, vocabulary.rarity(None), 1.0));
                asked.unknown.push(term.word);
            }
        }
    }
    // Words hold letters and digits only; quoted, none is an operator, whatever it says.
    let quoted: Vec<String> = words.iter().map(|word| format!("\"{}\"", word.replace('"', ""))).collect();
    asked.expression = quoted.join(" OR ");
    asked
}

/// Those of some terms that a passage holds which the filter allows.
fn visible(catalog: &Catalog, filter: &Filter, mut wanted: HashSet<u32>) -> HashSet<u32> {
    let mut seen = HashSet::with_capacity(wanted.len());
    for passage in catalog.passages() {
        if wanted.is_empty() {
            break;
        }
        if filter.allows(&passage.document) {
            seen.extend(wanted.extract_if(|term| passage.terms.binary_search(term).is_ok()));
        }
    }
    seen
}

fn rank(catalog: &Catalog, limit: usize, lists: &Lists, asked: &Asked, vector: Option<&[f32]>) -> Vec<Hit> {
    let ranks = |fused: Vec<(u32, f32)>| -> HashMap<u32, u32> {
        fused.into_iter().zip(1..).map(|((slot, _), rank)| (slot, rank)).collect()
    };
    let (lexical, dense) = (ranks(fuse(&lists.lexical)), ranks(fuse(&lists.dense)));
    let similar = |row: &[f32]| vector.map_or(0.0, |vector| dot(vector, row).clamp(-1.0, 1.0));
    let mut kept: Vec<(u32, &Passage)> = Vec::with_capacity(limit);
    let mut hits = Vec::with_capacity(limit);
    let mut fused = fuse(lists.lexical.iter().chain(&lists.dense));
    for (slot, score) in &mut fused {
        if catalog.passage(*slot).is_some_and(|passage| passage.document.outdated) {
            *score *= OUTDATED;
        }
    }
    fused.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    for (slot, score) in fused {
        let Some(passage) = catalog.passage(slot) else { continue };
        if kept.iter().any(|(_, other)| covers_same_ground(passage, other)) {
            continue;
        }
        kept.push((slot, passage));
        hits.push(Hit {
            slot,
            score,
            lexical_rank: lexical.get(&slot).copied().unwrap_or_default(),
            dense_rank: dense.get(&slot).copied().unwrap_or_default(),
            similarity: similar(catalog.passage_vectors.row(passage.vector)),
            coverage: coverage(passage, asked),
            sentence_similarities: passage
                .sentences
                .iter()
                .map(|sentence| similar(catalog.sentence_vectors.row(sentence.vector)))
                .collect(),
        });
        if hits.len() == limit {
            break;
        }
    }
    hits
}

/// Whether two passages say the same words: the same text, or at least half of one in the other.
fn covers_same_ground(a: &Passage, b: &Passage) -> bool {
    let shared = a.end.min(b.end).saturating_sub(a.start.max(b.start));
    let shorter = (a.end - a.start).min(b.end - b.start);
    a.document.id == b.document.id && shared * 2 >= shorter || a.text == b.text
}

/// The share of the question's terms, weighted by rarity, that a passage holds.
fn coverage(passage: &Passage, asked: &Asked) -> f32 {
    let (mut held, mut all) = (0.0, 0.0);
    for &(term, rarity, worth) in &asked.terms {
        all += rarity;
        if term.is_some_and(|term| passage.terms.binary_search(&term).is_ok()) {
            held += rarity * worth;
        }
    }
    if all > 0.0 { held / all } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::{Document, NewPassage, NewSentence};

    fn catalog(passages: &[(&str, &str, [f32; 2])]) -> Catalog {
        let mut catalog = Catalog::new(2, 1000);
        for (row, (id, text, vector)) in passages.iter().enumerate() {
            let document = Document {
                id: (*id).into(),
                title: (*id).into(),
                locale: if id.starts_with("de") { "de".into() } else { "en".into() },
                audiences: if id.ends_with("premium") { vec!["premium".into()] } else { vec![] },
                uri: String::new(),
                version: String::new(),
                passages: 1,
                outdated: id.starts_with("old"),
                ingested_at: 0,
            };
            let length = text.chars().count() as u32;
            let passage = NewPassage {
                id: format!("{id}{row}"),
                fingerprint: vec![],
                headings: vec![],
                start: 0,
                end: length,
                text: (*text).into(),
                vector: vector.to_vec(),
                sentences: vec![NewSentence { start: 0, end: length, vector: vector.to_vec() }],
            };
            catalog.replace(document, vec![(row as i64, passage)]);
        }
        catalog
    }

    fn query(text: &str, vector: Option<[f32; 2]>) -> Query {
        let form = Form { text: text.into(), vector: vector.map(|v| v.to_vec()), weight: 1.0 };
        Query { forms: vec![form], limit: 8, filter: Filter::default(), mode: Mode::All }
    }

    /// Finds rows whose text holds any quoted word of the expression, in order of row.
    fn run(catalog: &Catalog, query: &Query) -> Found {
        let mut words = |expression: &str, take: &mut dyn FnMut(i64, f32)| {
            for row in 0..100 {
                let Some(passage) = catalog.slot_of_row(row).and_then(|slot| catalog.passage(slot)) else {
                    break;
                };
                let text = passage.text.to_lowercase();
                let hit = expression.split(" OR ").any(|word| text.contains(word.trim_matches('"')));
                if hit {
                    take(row, 1.0);
                }
            }
            Ok(())
        };
        search(catalog, query, &mut words).unwrap()
    }

    fn ids(catalog: &Catalog, found: &Found) -> Vec<String> {
        found.hits.iter().map(|hit| catalog.passage(hit.slot).unwrap().document.id.clone()).collect()
    }

    #[test]
    fn words_and_vectors_are_fused_with_their_evidence() {
        let catalog = catalog(&[("a", "Red shoes.", [1.0, 0.0]), ("b", "Blue coats.", [0.0, 1.0])]);
        let found = run(&catalog, &query("blue gloves", Some([0.0, 1.0])));
        assert_eq!(ids(&catalog, &found), ["b", "a"]);
        let best = &found.hits[0];
        assert_eq!((best.lexical_rank, best.dense_rank, best.similarity), (1, 1, 1.0));
        assert_eq!(best.sentence_similarities, [1.0]);
        assert_eq!(found.hits[1].lexical_rank, 0);
        assert!(best.coverage > 0.2 && best.coverage < 0.5, "a rare term is missing: {}", best.coverage);
        assert_eq!(found.unknown_terms, ["gloves"]);
        assert!(found.degraded.is_empty());
    }

    #[test]
    fn a_typo_finds_what_was_meant_and_is_not_unknown() {
        let catalog = catalog(&[("a", "Shipping costs.", [1.0, 0.0]), ("b", "Other words.", [0.0, 1.0])]);
        let found = run(&catalog, &query("shiping costs?", None));
        assert_eq!(ids(&catalog, &found), ["a"]);
        assert!(found.unknown_terms.is_empty());
        assert_eq!(found.corrections, [("shiping".into(), "shipping".into())]);
        assert!((0.85..1.0).contains(&found.hits[0].coverage));
        assert_eq!(found.degraded, ["dense"]);
    }

    #[test]
    fn words_of_hidden_documents_are_not_told() {
        let catalog = catalog(&[("premium", "Champagne lounge.", [1.0, 0.0]), ("a", "Shoes.", [0.0, 1.0])]);
        let mut query = query("champange lounge shose", None);
        let found = run(&catalog, &query);
        assert_eq!(found.unknown_terms, ["champange", "lounge"]);
        assert_eq!(found.corrections, [("shose".into(), "shoes".into())]);
        query.filter.audiences = vec!["premium".into()];
        assert_eq!(run(&catalog, &query).corrections.len(), 2);
    }

    #[test]
    fn only_the_question_is_corrected_and_only_so_far() {
        let catalog = catalog(&[("a", "Shipping costs.", [1.0, 0.0])]);
        let form = |text: &str| Form { text: text.into(), vector: None, weight: 1.0 };
        let forms = vec![form("other"), form("shiping")];
        assert!(run(&catalog, &Query { forms, ..query("x", None) }).hits.is_empty());
        let strange: String = (b'a'..b'i').map(|c| format!("{}quux ", c as char)).collect();
        assert!(run(&catalog, &query(&format!("{strange} shiping"), None)).corrections.is_empty());
    }

    #[test]
    fn modes_choose_the_lists() {
        let catalog = catalog(&[("a", "Red shoes.", [1.0, 0.0]), ("b", "Blue coats.", [0.0, 1.0])]);
        let of = |mode, vector| run(&catalog, &Query { mode, ..query("red", vector) });
        assert_eq!(ids(&catalog, &of(Mode::Lexical, Some([0.0, 1.0]))), ["a"]);
        assert_eq!(ids(&catalog, &of(Mode::Dense, Some([0.0, 1.0]))), ["b", "a"]);
        let nothing = of(Mode::Dense, None);
        assert!(nothing.hits.is_empty());
        assert_eq!(nothing.degraded, ["dense"]);
    }

    #[test]
    fn filters_hold_in_every_list() {
        let catalog = catalog(&[
            ("en-premium", "Red shoes.", [1.0, 0.0]),
            ("de", "Red Schuhe.", [1.0, 0.0]),
            ("en", "Red hats.", [1.0, 0.0]),
        ]);
        let mut query = query("red", Some([1.0, 0.0]));
        query.filter.locale = "en-GB".into();
        assert_eq!(ids(&catalog, &run(&catalog, &query)), ["en"]);
        query.filter.audiences = vec!["premium".into()];
        assert_eq!(run(&catalog, &query).hits.len(), 2);
    }

    #[test]
    fn wordings_add_up_by_weight() {
        let catalog = catalog(&[("a", "Red shoes.", [1.0, 0.0]), ("b", "Blue coats.", [0.0, 1.0])]);
        let form = |text: &str, vector: Option<Vec<f32>>, weight| Form { text: text.into(), vector, weight };
        let of = |forms| ids(&catalog, &run(&catalog, &Query { forms, ..query("x", None) }));
        assert_eq!(of(vec![form("red", None, 0.2), form("blue", None, 1.0)]), ["b", "a"]);
        assert_eq!(of(vec![form("red", None, 1.0), form("blue", None, 0.2)]), ["a", "b"]);
        let vectors = vec![form("?", Some(vec![1.0, 0.0]), 0.5), form("", Some(vec![0.0, 1.0]), 1.0)];
        let found = run(&catalog, &Query { forms: vectors, ..query("x", None) });
        assert_eq!(ids(&catalog, &found), ["b", "a"]);
        assert!((found.hits[0].similarity - 1.0 / 1.25_f32.sqrt()).abs() < 1e-6, "to the mixed vector");
    }

    #[test]
    fn what_no_longer_holds_comes_after_what_does() {
        let catalog = catalog(&[
            ("old", "Returns take 14 days.", [1.0, 0.0]),
            ("new", "Returns take a month.", [0.9, 0.1]),
        ]);
        assert_eq!(
            ids(&catalog, &run(&catalog, &query("14 days returns", Some([1.0, 0.0])))),
            ["new", "old"]
        );
    }

    #[test]
    fn the_same_text_is_not_shown_twice() {
        let catalog = catalog(&[("a", "Red shoes.", [1.0, 0.0]), ("b", "Red shoes.", [1.0, 0.0])]);
        assert_eq!(run(&catalog, &query("red shoes", Some([1.0, 0.0]))).hits.len(), 1);
    }

    #[test]
    fn a_vector_of_another_length_is_refused() {
        let catalog = catalog(&[("a", "Red shoes.", [1.0, 0.0])]);
        let mut query = query("red", None);
        query.forms[0].vector = Some(vec![1.0]);
        let error = search(&catalog, &query, &mut |_, _| Ok(())).unwrap_err();
        assert!(matches!(error, Error::Dimension { expected: 2, given: 1 }));
    }

    #[test]
    fn questions_without_content_find_nothing_by_words() {
        let catalog = catalog(&[("a", "Red shoes.", [1.0, 0.0])]);
        for text in ["who are you?", "\u{1F600}\u{1F600}", "???"] {
            let found = run(&catalog, &query(text, None));
            assert_eq!((found.hits.len(), found.degraded), (0, vec!["lexical", "dense"]), "{text}");
        }
    }
}

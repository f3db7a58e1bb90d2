//! The extractive tier: answers with the company's own sentences, and only with those.
//!
//! [`answer`] first asks whether the evidence answers at all (`answerability`, a logistic model of a
//! few named features), then takes the passage with the best evidence and, of it, the sentences
//! that bear on the question by meaning (their cosine, from vectors made at ingest), by words, and by
//! naming what is asked for, an amount or a time (`select`). All weights are in the open.

mod answerability;
mod question;
mod select;

use switchboard_proto::knowledge::v1::Hit;
use switchboard_text::words::Language;

use answerability::answerability;
use question::Question;
pub use question::language_of;
use select::Weighed;

/// What is asked and what may be said.
#[derive(Clone, Copy, Debug)]
pub struct Task<'a> {
    /// The question as it was asked.
    pub asked: &'a str,
    /// The question with what it leans on; the same as `asked` when it stands alone.
    pub question: &'a str,
    /// The evidence, best first.
    pub evidence: &'a [Hit],
    /// The language that the question is in.
    pub language: Language,
    /// Words of the question that occur nowhere in the knowledge base.
    pub unknown_terms: &'a [String],
    /// Most sentences wanted.
    pub max_sentences: usize,
    /// Least probability that the evidence answers, in [0, 1].
    pub min_answerability: f32,
}

/// What to reply.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// These sentences, as (hit, sentence) positions in the evidence: passage by passage, the best
    /// first, each in reading order.
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

/// Hits beyond this rank are not read: what they add is seldom about the question.
const DEPTH: usize = 8;
/// Passages within this weight of the best are as likely meant as it is.
const NEAR_EQUAL: f32 = 0.5;

/// Answers from the evidence, or says that it cannot.
///
/// On public help pages (295 questions, the spans that answer them marked, of which the evidence
/// holds 76 %) a reply of at most four sentences is from the right page for 74 % and holds at least
/// half of a marked span for 49 %; of its characters 20 % are in one, and it has 46 % of theirs. The
/// figures of two sentences are 74, 44, 22 and 40 %. The weights were chosen on these pages and on a
/// made-up shop, and lie on a plateau.
#[must_use]
pub fn answer(task: Task<'_>) -> Verdict {
    let evidence = &task.evidence[..task.evidence.len().min(DEPTH)];
    let question = Question::new(task.asked, task.question, task.language);
    let answerability = answerability(&question, evidence, task.unknown_terms, task.asked != task.question);
    let verdict = |reply| Verdict { reply, answerability };
    let passages = select::weigh(&question, evidence);
    if passages.is_empty() {
        return verdict(Reply::Unanswerable);
    }
    if let Some(topics) = ambiguous(&question, &passages) {
        return verdict(Reply::Clarify(topics));
    }
    if answerability < task.min_answerability {
        return verdict(Reply::Unanswerable);
    }
    let positions = select::select(&question, &passages, evidence, task.max_sentences, task.language);
    verdict(Reply::Answer(positions))
}

/// The topics of the evidence when a question of one word could mean any of them: three documents
/// (two may say the same) that weigh nearly alike, and none that is about the word by its headings.
fn ambiguous(question: &Question, passages: &[Weighed<'_>]) -> Option<Vec<String>> {
    let (best, term) = (passages.first()?, question.terms.first()?);
    if question.terms.len() > 1 || question.holds(&best.above, term) {
        return None;
    }
    let mut topics: Vec<String> = Vec::new();
    let near = |passage: &&Weighed<'_>| passage.weight >= best.weight - NEAR_EQUAL;
    for passage in passages.iter().filter(near).filter(|passage| passage.mentions(question, term)) {
        let title = &passage.passage.title;
        if !title.is_empty() && !topics.contains(title) {
            topics.push(title.clone());
        }
    }
    topics.truncate(3);
    (topics.len() == 3).then_some(topics)
}

#[cfg(test)]
mod tests {
    use switchboard_proto::knowledge::v1::{Passage, Sentence};

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
            asked: question,
            question,
            evidence,
            language: Language::English,
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
                ("We love shoes.", 0.2),
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

    #[test]
    fn one_word_that_a_document_is_about_is_answered() {
        let evidence: Vec<Hit> = ["Warranty", "Shipping", "Returns"]
            .map(|t| hit(t, t, &[("Our warranty is long.", 0.8)], 1.0))
            .into();
        assert_eq!(answer(task("warranty?", &evidence)).reply, Reply::Answer(vec![(0, 0)]));
    }

    #[test]
    fn one_word_that_no_document_holds_is_not_asked_back() {
        let evidence: Vec<Hit> =
            ["Returns", "Shipping", "Warranty"].map(|t| hit(t, t, &[("Fees apply.", 0.1)], 0.0)).into();
        assert_eq!(answer(task("pizza?", &evidence)).reply, Reply::Unanswerable);
    }

    #[test]
    fn a_question_for_an_amount_gets_the_sentence_that_names_one() {
        let evidence = [hit(
            "shipping",
            "Express",
            &[
                ("Express delivery is fast.", 0.6),
                ("Express delivery is €9.95.", 0.5),
                ("We like parcels.", 0.1),
            ],
            0.9,
        )];
        let verdict =
            answer(Task { max_sentences: 1, ..task("What does express delivery cost?", &evidence) });
        assert_eq!(verdict.reply, Reply::Answer(vec![(0, 1)]));
    }

    #[test]
    fn the_best_passage_comes_first_and_another_only_with_something_new() {
        let mut evidence = [
            hit("a", "Weight", &[("A tent weighs two kilos.", 0.5)], 0.5),
            hit("b", "Returns", &[("A tent can be returned.", 0.7)], 0.9),
        ];
        let both = answer(task("Can a tent be returned, and what does it weigh?", &evidence));
        assert_eq!(both.reply, Reply::Answer(vec![(1, 0)]), "the weaker one scores too little");
        evidence[0].sentences[0].similarity = 0.7;
        let both = answer(task("Can a tent be returned, and what does it weigh?", &evidence));
        assert_eq!(both.reply, Reply::Answer(vec![(1, 0), (0, 0)]));
        let one = answer(task("Can a tent be returned?", &evidence));
        assert_eq!(one.reply, Reply::Answer(vec![(1, 0)]));
    }

    #[test]
    fn a_short_answer_to_the_same_question_is_given_whole() {
        let lines = [("Yes.", 0.6), ("Tick the box in the basket.", 0.5), ("It is €3.50 each.", 0.05)];
        let evidence = [hit("faq", "Do you offer gift wrapping?", &lines, 0.9)];
        let verdict = answer(task("Do you wrap presents?", &evidence));
        assert_eq!(verdict.reply, Reply::Answer(vec![(0, 0), (0, 1), (0, 2)]));
    }

    #[test]
    fn without_vectors_the_words_decide() {
        let line = ("Lost parcels are searched for 10 days.", 0.0);
        let evidence = [hit("lost", "Lost parcels", &[line], 0.9)];
        let answered = |question| matches!(answer(task(question, &evidence)).reply, Reply::Answer(_));
        assert!(answered("Are lost parcels searched for?"));
        assert!(answered("parcels?"));
        assert!(!answered("Where do parcels of mushrooms grow?"));
    }

    #[test]
    fn the_one_row_of_a_table_that_is_asked_for_is_given() {
        let rows = [
            ("Method: PayPal; Time: 1 to 2 days", 0.7),
            ("Method: Card; Time: 3 to 5 days", 0.55),
            ("Method: Transfer; Time: 5 to 7 days", 0.45),
        ];
        let mut evidence = [hit("refunds", "How long a refund takes", &rows, 0.9)];
        let alone = task("How long does a refund to PayPal take?", &evidence);
        assert_eq!(answer(alone).reply, Reply::Answer(vec![(0, 0)]));
        // The vector is that of both questions.
        evidence[0].sentences[0].similarity = 0.6;
        evidence[0].sentences[1].similarity = 0.6;
        let question = "How long does a refund to PayPal take? And to a card?";
        let further = Task { asked: "And to a card?", ..task(question, &evidence) };
        let Reply::Answer(chosen) = answer(further).reply else {
            panic!("an answer was expected");
        };
        assert!(chosen.contains(&(0, 1)), "{chosen:?}");
    }

    #[test]
    fn a_german_question_is_carried_by_its_words() {
        let line = ("Service: Express; Preis: 19,95 €", 0.44);
        let mut evidence = [hit("versand", "Versand nach Deutschland", &[line], 0.4)];
        (evidence[0].lexical_rank, evidence[0].dense_rank) = (1, 1);
        let german = Task {
            language: Language::German,
            ..task("Was kostet der Expressversand nach Deutschland?", &evidence)
        };
        assert_eq!(answer(german).reply, Reply::Answer(vec![(0, 0)]));
        let other = Task { language: Language::German, ..task("Wie wird das Wetter in Berlin?", &evidence) };
        assert_eq!(answer(other).reply, Reply::Unanswerable);
    }
}

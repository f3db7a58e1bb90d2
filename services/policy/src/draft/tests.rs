use proptest::prelude::*;

use super::*;

const PASSAGES: [&str; 2] = [
    "You can return most items within 30 days of delivery. Shoes that were worn outside cannot be returned.",
    "Parcels go with Royal Mail. Express delivery costs £9.95 and takes 1 to 2 business days.",
];

fn draft(sentence: &str) -> Draft<'_> {
    Draft { sentence, passages: &PASSAGES, verbatim: false, language: Some("en-GB") }
}

/// What is found where the company has no voice of its own.
fn plain(draft: &Draft<'_>) -> Vec<Finding> {
    check(draft, std::iter::empty())
}

fn kinds(draft: &Draft<'_>, voice: &Voice) -> Vec<&'static str> {
    check(draft, std::iter::once(voice)).into_iter().map(|found| found.kind).collect()
}

#[track_caller]
fn told(sentence: &str, kind: &str, at: &str) {
    let findings = plain(&draft(sentence));
    let found = findings.iter().find(|found| found.kind == kind);
    assert_eq!(found.map(|found| found.span.of(sentence)), Some(at), "{findings:?}");
}

#[test]
fn what_the_passages_say_passes() {
    for sentence in [
        "You can return most items within 30 days of delivery.",
        "Most items can be returned within thirty days.",
        "Shoes worn outside cannot be returned.",
        "Express delivery takes 1 to 2 business days and costs £9.95.",
        "I'm happy to help!",
        "Thank you for your patience, and let me know if you have any further questions.",
    ] {
        assert_eq!(plain(&draft(sentence)), [], "{sentence}");
    }
}

#[test]
fn what_they_do_not_say_is_told_where_it_stands() {
    told("You can return most items within 60 days of delivery.", NUMBER, "60 days");
    told("Parcels go with Deutsche Post.", ENTITY, "Deutsche Post");
    told("You cannot return most items within 30 days of delivery.", NEGATION, "cannot");
    let made_up = "Our stores serve coffee and cake for all members.";
    told(made_up, UNGROUNDED, made_up);
}

#[test]
fn a_placeholder_is_nothing_that_a_passage_has_to_say() {
    let sentence = "You can return most items to [email-4711] within 30 days of delivery.";
    assert_eq!(plain(&draft(sentence)), []);
    assert_eq!(plain(&draft("Thank you, [person-12]!")), []);
    // What else stands in brackets counts, and what is behind a placeholder keeps its place.
    told("You can return items with [model-4711] within 30 days of delivery.", ENTITY, "model-4711");
    told("For [phone-1001] and ü: you can return most items within 60 days of delivery.", NUMBER, "60 days");
}

#[test]
fn a_bare_yes_or_no_is_no_courtesy() {
    for answer in [
        "Yes, of course you can.",
        "No, you cannot.",
        "Of course you can.",
        "Ja, gerne.",
        "Sure!",
        "You can't.",
    ] {
        let found = kinds(&Draft { language: None, ..draft(answer) }, &Voice::default());
        assert_eq!(found, [UNGROUNDED], "{answer}");
    }
    assert_eq!(plain(&draft("I'm sorry for the inconvenience, of course.")), []);
}

#[test]
fn a_verbatim_sentence_is_grounded() {
    let sentence = "Our stores serve 12 cakes in Berlin.";
    assert!(!plain(&draft(sentence)).is_empty());
    assert!(plain(&Draft { verbatim: true, ..draft(sentence) }).is_empty());
}

#[test]
fn another_language_is_told() {
    let german = "Sie können die meisten Artikel innerhalb von 30 Tagen nach der Lieferung zurückgeben.";
    let verbatim = Draft { verbatim: true, ..draft(german) };
    assert_eq!(kinds(&verbatim, &Voice::default()), [LANGUAGE]);
    assert!(kinds(&Draft { language: Some("de-AT"), ..verbatim }, &Voice::default()).is_empty());
    assert!(kinds(&Draft { language: None, ..verbatim }, &Voice::default()).is_empty());
    assert!(kinds(&Draft { sentence: "OK.", ..verbatim }, &Voice::default()).is_empty(), "too short to tell");
}

#[test]
fn a_voice_has_its_words() {
    let voice = Voice {
        banned: vec!["cheap".into(), "no problem".into(), " ".into()],
        required: vec!["ACME Plus".into()],
        ..Voice::default()
    };
    let verbatim = |sentence| Draft { verbatim: true, ..draft(sentence) };
    assert_eq!(kinds(&verbatim("It is CHEAP, no  problem!"), &voice), [BANNED, BANNED]);
    assert!(
        kinds(&verbatim("It is cheaper. No. Problem solved."), &voice).is_empty(),
        "whole words of one sentence"
    );
    assert_eq!(kinds(&verbatim("Join Acme plus today."), &voice), [SPELLING]);
    assert!(kinds(&verbatim("Join ACME Plus today."), &voice).is_empty());
}

#[test]
fn a_name_is_spelt_as_the_company_does_and_the_rest_stays() {
    let required = |phrases: &[&str]| Voice {
        required: phrases.iter().map(|&phrase| phrase.into()).collect(),
        ..Voice::default()
    };
    let voices = [required(&["ACME Plus"]), required(&["ACME", "iPass"])];
    let sentence = "Größe: join acme  plus or Acme with an IPASS.";
    assert_eq!(spelt(sentence, voices.iter()), "Größe: join ACME Plus or ACME with an iPass.");
    let right = "Join ACME Plus.";
    assert_eq!(spelt(right, voices.iter()), right);
}

#[test]
fn of_several_voices_all_hold() {
    let banned = |word: &str, max_grade| Voice { banned: vec![word.into()], max_grade, ..Voice::default() };
    let voices = [banned("cheap", Some(14.0)), banned("free", None)];
    let verbatim = Draft { verbatim: true, ..draft("It is cheap and free.") };
    let found: Vec<_> = check(&verbatim, voices.iter()).into_iter().map(|found| found.kind).collect();
    assert_eq!(found, [BANNED, BANNED]);
}

#[test]
fn hard_sentences_are_told_in_english_alone() {
    let voice = Voice { max_grade: Some(14.0), ..Voice::default() };
    let hard = "Notwithstanding aforementioned contractual stipulations, reimbursement applicability remains \
                contingent upon administrative authorization.";
    let verbatim = Draft { verbatim: true, ..draft(hard) };
    assert_eq!(kinds(&verbatim, &voice), [GRADE]);
    assert!(
        kinds(&Draft { sentence: "You can send it back to us for free.", ..verbatim }, &voice).is_empty()
    );
    let german =
        "Die Rückerstattungsberechtigung unterliegt verwaltungsrechtlichen Genehmigungsvoraussetzungen.";
    assert!(kinds(&Draft { sentence: german, language: Some("de"), ..verbatim }, &voice).is_empty());
}

proptest! {
    #[test]
    fn no_draft_is_too_odd(sentence in r"\PC{0,60}", passage in r"\PC{0,40}", phrase in r"\PC{0,8}") {
        let voice = Voice { banned: vec![phrase.clone()], required: vec![phrase], max_grade: Some(3.0), ..Voice::default() };
        let passages = [passage.as_str()];
        let draft = Draft { sentence: &sentence, passages: &passages, verbatim: false, language: Some("en") };
        let findings = check(&draft, std::iter::once(&voice));
        if findings.iter().all(|found| found.kind != SPELLING) {
            prop_assert_eq!(spelt(&sentence, std::iter::once(&voice)), sentence.clone());
        }
        for found in findings {
            prop_assert!(sentence.get(found.span.bytes.clone()).is_some());
            prop_assert!((0.0..=1.0).contains(&found.score));
        }
    }
}

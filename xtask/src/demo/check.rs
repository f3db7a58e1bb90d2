//! Whether an answer is as it should be. Pure functions over the JSON of `switchboard ask`.

use serde_json::Value;

use super::questions::Question;

/// A question with its answer.
pub(super) struct Turn<'a> {
    /// What was asked.
    pub(super) question: &'a Question,
    /// The JSON of `switchboard ask`; null when there was none.
    pub(super) answer: Value,
    /// What is wrong with it, in words.
    pub(super) faults: Vec<String>,
}

/// What is wrong with an answer; nothing when it is as expected.
///
/// `conversation` is the one that the question went on with.
pub(super) fn check(question: &Question, answer: &Value, conversation: Option<&str>) -> Vec<String> {
    let mut faults = Vec::new();
    let outcome = answer["outcome"].as_str().unwrap_or("missing");
    let cited = cited(answer);
    match &question.expect {
        Some(document) => {
            if outcome != "answered" {
                faults.push(format!("the outcome is {outcome}, not answered"));
            }
            if !cited.contains(&document.as_str()) {
                faults.push(format!("{document} is not cited"));
            }
        }
        None if outcome == "answered" && question.outcome.is_none() => {
            faults.push("answered, although no document answers it".into())
        }
        None => {}
    }
    if let Some(expected) = question.outcome.as_ref().filter(|expected| *expected != outcome) {
        faults.push(format!("the outcome is {outcome}, not {expected}"));
    }
    if outcome == "handed_off" && text(&answer["hand_off"], "explanation").is_empty() {
        faults.push("handed off without a reason".into());
    }
    if outcome == "answered" && !citations(answer).all(has_span) {
        faults.push("a citation has no quote or no span".into());
    }
    if outcome == "answered" && cited.is_empty() {
        faults.push("answered without a source".into());
    }
    let said =
        normalise(&[text(answer, "reply")].into_iter().chain(quotes(answer)).collect::<Vec<_>>().join("\n"));
    if !question.contains.is_empty()
        && !question.contains.iter().any(|phrase| said.contains(&normalise(phrase)))
    {
        faults.push(format!("neither the reply nor a quote has \"{}\"", question.contains.join("\" or \"")));
    }
    for phrase in question.every.iter().filter(|phrase| !said.contains(&normalise(phrase))) {
        faults.push(format!("the reply and its quotes lack \"{phrase}\""));
    }
    for phrase in question.never.iter().filter(|phrase| said.contains(&normalise(phrase))) {
        faults.push(format!("the reply or a quote has \"{phrase}\""));
    }
    if text(answer, "reply").trim().is_empty() {
        faults.push("the reply is empty".into());
    }
    if answer["stages"].as_array().is_none_or(Vec::is_empty) {
        faults.push("the report has no stages".into());
    }
    if let Some(id) = conversation
        && answer["conversation_id"] != id
    {
        faults.push("the follow-up is in another conversation".into());
    }
    faults.extend(redacted(question, answer));
    faults
}

/// The documents that an answer cites, in order, each once.
pub(super) fn cited(answer: &Value) -> Vec<&str> {
    let mut documents: Vec<&str> = Vec::new();
    for citation in citations(answer) {
        let document = text(citation, "document_id");
        if !documents.contains(&document) {
            documents.push(document);
        }
    }
    documents
}

/// Whether a card number of the question is found in what the server has `written`: names of files or
/// logs, each with its content.
pub(super) fn kept_back(question: &Question, written: &[(String, Vec<u8>)]) -> Vec<String> {
    let mut faults = Vec::new();
    for number in card_numbers(&question.text) {
        for (name, content) in written {
            if holds(content, &number) {
                faults.push(format!("the card number is in {name}"));
            }
        }
    }
    faults
}

/// Whether an answer keeps back the question's card numbers and says that it did.
fn redacted(question: &Question, answer: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    let numbers = card_numbers(&question.text);
    let json = answer.to_string();
    if numbers.iter().any(|number| holds(json.as_bytes(), number)) {
        faults.push("the card number is in the answer".into());
    }
    let kinds = answer["redacted_kinds"].as_array();
    if !numbers.is_empty() && !kinds.is_some_and(|kinds| kinds.iter().any(|kind| kind == "card")) {
        faults.push("the report does not say that a card number was redacted".into());
    }
    faults
}

fn citations(answer: &Value) -> impl Iterator<Item = &Value> {
    answer["citations"].as_array().into_iter().flatten()
}

fn quotes(answer: &Value) -> impl Iterator<Item = &str> {
    citations(answer).map(|citation| text(citation, "quote"))
}

fn has_span(citation: &Value) -> bool {
    let (start, end) = (citation["start"].as_u64(), citation["end"].as_u64());
    start.zip(end).is_some_and(|(start, end)| start < end) && !text(citation, "quote").trim().is_empty()
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

/// One space for each run of white space: a phrase may be broken over lines in its document.
fn normalise(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The card numbers in a text, as they are written: 13 to 19 digits, with single spaces or hyphens
/// between them, that pass the Luhn check.
fn card_numbers(text: &str) -> Vec<String> {
    let joins = |c: char| c.is_ascii_digit() || c == ' ' || c == '-';
    let runs = text.split(|c: char| !joins(c)).map(|run| run.trim_matches([' ', '-']));
    runs.filter(|run| {
        let digits = digits(run);
        (13..=19).contains(&digits.len()) && luhn(&digits)
    })
    .map(String::from)
    .collect()
}

fn digits(text: &str) -> String {
    text.chars().filter(char::is_ascii_digit).collect()
}

/// The check digit of ISO/IEC 7812-1, annex B: from the right, every second digit is doubled, and the
/// sum of all digits is a multiple of ten.
fn luhn(digits: &str) -> bool {
    let sum: u32 = digits
        .bytes()
        .rev()
        .enumerate()
        .map(|(place, byte)| {
            let digit = u32::from(byte - b'0') * if place % 2 == 1 { 2 } else { 1 };
            digit / 10 + digit % 10
        })
        .sum();
    sum.is_multiple_of(10)
}

/// Whether bytes hold a number as it is written or as bare digits.
fn holds(bytes: &[u8], number: &str) -> bool {
    let has = |needle: &str| bytes.windows(needle.len()).any(|window| window == needle.as_bytes());
    has(number) || has(&digits(number))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const CARD: &str = "4111 1111 1111 1111";

    fn question(text: &str, expect: Option<&str>) -> Question {
        Question { text: text.into(), expect: expect.map(String::from), ..Question::default() }
    }

    fn answered() -> Value {
        json!({
            "conversation_id": "c1", "outcome": "answered", "reply": "Within 30 days.", "redacted_kinds": [],
            "citations": [{"document_id": "returns.md", "start": 4, "end": 30, "quote": "Send it back\nwithin 30 days."}],
            "stages": [{"name": "retrieve"}],
        })
    }

    /// An answer that is right but for one field.
    fn but(key: &str, value: Value) -> Value {
        let mut answer = answered();
        answer[key] = value;
        answer
    }

    #[test]
    fn a_right_answer_has_no_faults() {
        let mut question = question("How long?", Some("returns.md"));
        question.contains = vec!["something else".into(), "back within 30 days".into()];
        assert_eq!(check(&question, &answered(), Some("c1")), [""; 0]);
    }

    #[test]
    fn each_way_to_be_wrong_is_named() {
        let question = question("How long?", Some("returns.md"));
        let faults = |answer: &Value| check(&question, answer, None).join("; ");
        assert_eq!(faults(&but("outcome", json!("unanswered"))), "the outcome is unanswered, not answered");
        assert_eq!(
            faults(&but("citations", json!([]))),
            "returns.md is not cited; answered without a source"
        );
        assert_eq!(faults(&but("reply", json!(" "))), "the reply is empty");
        assert_eq!(faults(&but("stages", json!([]))), "the report has no stages");
        let blank = json!([{"document_id": "returns.md", "start": 4, "end": 4, "quote": "x"}]);
        assert_eq!(faults(&but("citations", blank)), "a citation has no quote or no span");
        assert_eq!(check(&question, &answered(), Some("c0")), ["the follow-up is in another conversation"]);
        let phrase = Question { contains: vec!["60 days".into()], ..question };
        assert_eq!(check(&phrase, &answered(), None), ["neither the reply nor a quote has \"60 days\""]);
    }

    #[test]
    fn a_question_that_no_document_answers_must_not_be_answered() {
        let question = question("Do you sell boats?", None);
        assert_eq!(check(&question, &answered(), None), ["answered, although no document answers it"]);
        for outcome in ["unanswered", "asked", "handed_off"] {
            let hand_off = json!({"explanation": "the documents do not answer"});
            let stages = json!([{"name": "plan"}]);
            let answer =
                json!({"outcome": outcome, "reply": "I cannot say.", "stages": stages, "hand_off": hand_off});
            assert_eq!(check(&question, &answer, None), [""; 0]);
        }
    }

    #[test]
    fn an_outcome_that_is_asked_for_is_held() {
        let question = Question { outcome: Some("handed_off".into()), ..question("A person, now!", None) };
        let mut answer = json!({"outcome": "unanswered", "reply": "No.", "stages": [{"name": "plan"}]});
        assert_eq!(check(&question, &answer, None), ["the outcome is unanswered, not handed_off"]);
        answer["outcome"] = json!("handed_off");
        assert_eq!(check(&question, &answer, None), ["handed off without a reason"]);
        answer["hand_off"] = json!({"explanation": "the customer asks for a person"});
        assert_eq!(check(&question, &answer, None), [""; 0]);
    }

    #[test]
    fn phrases_that_must_all_come_or_never_are_looked_for() {
        let phrases = || vec!["within 30  days".into(), "9 days".into()];
        let wanted = Question { every: phrases(), ..question("How long?", Some("returns.md")) };
        assert_eq!(check(&wanted, &answered(), None), ["the reply and its quotes lack \"9 days\""]);
        let unwanted = Question { never: phrases(), ..question("How long?", Some("returns.md")) };
        assert_eq!(check(&unwanted, &answered(), None), ["the reply or a quote has \"within 30  days\""]);
    }

    #[test]
    fn a_card_number_must_be_redacted_everywhere() {
        let question = question(&format!("Refund to {CARD}. How long?"), Some("returns.md"));
        assert_eq!(check(&question, &but("redacted_kinds", json!(["card"])), None), [""; 0]);
        let mut leaky = but("understood_question", json!("refund to 4111111111111111"));
        assert_eq!(
            check(&question, &leaky, None),
            ["the card number is in the answer", "the report does not say that a card number was redacted"]
        );
        leaky["redacted_kinds"] = json!(["card"]);
        assert_eq!(check(&question, &leaky, None), ["the card number is in the answer"]);
        let written = [("the log".into(), format!("asked: {CARD}").into_bytes()), ("data".into(), vec![0])];
        assert_eq!(kept_back(&question, &written), ["the card number is in the log"]);
    }

    #[test]
    fn card_numbers_are_told_from_other_numbers() {
        assert_eq!(card_numbers("pay 4111-1111-1111-1111, order 1234567890123"), ["4111-1111-1111-1111"]);
        assert_eq!(card_numbers(&format!("my card {CARD}")), [CARD]);
        assert_eq!(card_numbers("call +353 1 555 0100"), [""; 0]);
    }
}

//! Questions, and which passages answer them.

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
};

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;
use switchboard_proto::knowledge::v1::Hit;
use switchboard_text::context::{Speaker, Turn};

/// A question with a known answer.
pub(super) struct Question {
    pub(super) text: String,
    /// What was said before, oldest first.
    pub(super) history: Vec<Turn>,
    gold: Gold,
}

/// Where an answer stands.
enum Gold {
    Spans(Vec<Span>),
    /// In a passage of this document that holds one of the phrases; in any of it, if there is none.
    Phrases {
        document: String,
        phrases: Vec<String>,
    },
}

#[derive(Deserialize)]
struct Span {
    doc_id: String,
    start: u32,
    end: u32,
}

/// A line of a file of questions.
#[derive(Deserialize)]
struct Line {
    question: String,
    #[serde(default)]
    history: Vec<String>,
    #[serde(default)]
    follows: bool,
    gold: Option<Vec<Span>>,
    expect: Option<String>,
    #[serde(default)]
    contains: Vec<String>,
}

impl Question {
    /// Whether a passage is from the right document.
    pub(super) fn is_document(&self, hit: &Hit) -> bool {
        let Some(passage) = &hit.passage else { return false };
        match &self.gold {
            Gold::Spans(spans) => spans.iter().any(|span| span.doc_id == passage.document_id),
            Gold::Phrases { document, .. } => *document == passage.document_id,
        }
    }

    /// Whether a passage answers.
    pub(super) fn is_answer(&self, hit: &Hit) -> bool {
        let Some(passage) = &hit.passage else { return false };
        match &self.gold {
            Gold::Spans(spans) => spans.iter().any(|span| {
                span.doc_id == passage.document_id && passage.start < span.end && span.start < passage.end
            }),
            Gold::Phrases { phrases, .. } => {
                let text = spaced(&passage.text);
                self.is_document(hit)
                    && (phrases.is_empty() || phrases.iter().any(|phrase| text.contains(&spaced(phrase))))
            }
        }
    }

    /// The document of the answer; the first one, if there are several.
    pub(super) fn document(&self) -> &str {
        match &self.gold {
            Gold::Spans(spans) => spans.first().map_or("", |span| &span.doc_id),
            Gold::Phrases { document, .. } => document,
        }
    }
}

/// One space for each run of white space: a phrase may be broken over lines in its document.
fn spaced(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Reads a file of questions; those without an answer are left out.
///
/// # Errors
/// Names the line that cannot be read.
pub(super) fn questions(path: &Path, first_turns: bool) -> Result<Vec<Question>> {
    let mut before: Vec<Turn> = Vec::new();
    let mut questions = Vec::new();
    for (index, line) in json_lines::<Line>(path)?.into_iter().enumerate() {
        let history = match line.follows {
            true => before,
            false => line.history.iter().map(|line| turn(line)).collect(),
        };
        let asked = Turn { speaker: Speaker::Customer, text: line.question.clone() };
        before = history.iter().cloned().chain([asked]).collect();
        let gold = match (line.gold, line.expect) {
            (Some(spans), _) => Gold::Spans(spans),
            (None, Some(document)) if document == "none" => continue,
            (None, Some(document)) => Gold::Phrases { document, phrases: line.contains },
            (None, None) => {
                anyhow::bail!("{path:?}, question {}: it needs `gold` or `expect`", index + 1)
            }
        };
        if !first_turns || history.is_empty() {
            questions.push(Question { text: line.question, history, gold });
        }
    }
    ensure!(!questions.is_empty(), "--queries {path:?} holds no question to measure");
    Ok(questions)
}

fn turn(line: &str) -> Turn {
    match line.split_once(':') {
        Some(("agent" | "assistant", text)) => Turn { speaker: Speaker::Company, text: text.trim().into() },
        Some(("user" | "customer", text)) => Turn { speaker: Speaker::Customer, text: text.trim().into() },
        _ => Turn { speaker: Speaker::Customer, text: line.to_owned() },
    }
}

/// Reads a JSON object a line.
///
/// # Errors
/// Names the line that cannot be read.
pub(super) fn json_lines<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Vec<T>> {
    let file = std::fs::File::open(path).with_context(|| format!("{path:?} cannot be read"))?;
    let mut rows = Vec::new();
    for (index, line) in BufReader::new(file).lines().enumerate() {
        let place = || format!("{path:?}, line {}", index + 1);
        let line = line.with_context(place)?;
        if !line.trim().is_empty() {
            rows.push(serde_json::from_str(&line).with_context(place)?);
        }
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use switchboard_proto::knowledge::v1::Passage;

    use super::*;

    fn hit(document: &str, start: u32, end: u32, text: &str) -> Hit {
        let passage =
            Passage { document_id: document.into(), start, end, text: text.into(), ..Passage::default() };
        Hit { passage: Some(passage), ..Hit::default() }
    }

    fn read(lines: &str) -> Result<Vec<Question>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("questions.jsonl");
        std::fs::write(&path, lines).unwrap();
        questions(&path, false)
    }

    #[test]
    fn a_passage_that_only_touches_the_gold_span_does_not_answer() {
        let question =
            &read(r#"{"question": "q", "gold": [{"doc_id": "a", "start": 10, "end": 20}]}"#).unwrap()[0];
        assert!(question.is_answer(&hit("a", 19, 30, "")));
        assert!(!question.is_answer(&hit("a", 0, 10, "")) && !question.is_answer(&hit("b", 10, 20, "")));
        assert!(question.is_document(&hit("a", 0, 10, "")) && !question.is_document(&hit("b", 0, 9, "")));
    }

    #[test]
    fn a_phrase_is_found_over_line_breaks_and_only_in_its_document() {
        let question = &read(r#"{"question": "q", "expect": "a.md", "contains": ["30 days"]}"#).unwrap()[0];
        assert!(question.is_answer(&hit("a.md", 0, 9, "Within 30\n days.")));
        assert!(!question.is_answer(&hit("a.md", 0, 9, "Within a month.")));
        assert!(!question.is_answer(&hit("b.md", 0, 9, "Within 30 days.")));
    }

    #[test]
    fn questions_that_follow_have_the_ones_above_as_their_history() {
        let lines = [
            r#"{"question": "one", "expect": "a"}"#,
            r#"{"question": "two", "expect": "none", "follows": true}"#,
            r#"{"question": "three", "expect": "a", "follows": true}"#,
            r#"{"question": "four", "history": ["user:x", "agent: y"], "gold": []}"#,
        ];
        let questions = read(&lines.join("\n")).unwrap();
        let said: Vec<Vec<&str>> = questions
            .iter()
            .map(|question| question.history.iter().map(|turn| turn.text.as_str()).collect())
            .collect();
        assert_eq!(said, [vec![], vec!["one", "two"], vec!["x", "y"]]);
    }

    #[test]
    fn a_question_whose_answer_is_not_told_is_refused() {
        let error = read(r#"{"question": "q"}"#).err().unwrap().to_string();
        assert!(error.contains("question 1") && error.contains("`expect`"), "{error}");
    }
}

//! The file with the questions to ask.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, ensure};
use serde::{Deserialize, Deserializer};

/// A question and what its answer must be like.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Question {
    /// What the customer writes.
    #[serde(rename = "question")]
    pub(super) text: String,
    /// The document to be cited; `None` when none answers it, which is written as `none`.
    #[serde(deserialize_with = "document")]
    pub(super) expect: Option<String>,
    /// How the turn must end, such as `handed_off`; otherwise only whether it is answered counts.
    #[serde(default)]
    pub(super) outcome: Option<String>,
    /// Phrases, one of which must stand in the answer or its quotes; empty asks for none.
    #[serde(default)]
    pub(super) contains: Vec<String>,
    /// Phrases all of which must stand in the answer or its quotes.
    #[serde(default)]
    pub(super) every: Vec<String>,
    /// Phrases of which none may stand in the answer or its quotes.
    #[serde(default)]
    pub(super) never: Vec<String>,
    /// Whether it is asked in the conversation of the question before.
    #[serde(default)]
    pub(super) follows: bool,
    /// What it is about, and whose law applies, for the policy's rules.
    #[serde(default)]
    pub(super) product: Option<String>,
    #[serde(default)]
    pub(super) jurisdiction: Option<String>,
    /// The tenant whose customer asks; that of the server's own key where there is none.
    #[serde(default)]
    pub(super) tenant: Option<String>,
}

fn document<'de, D: Deserializer<'de>>(value: D) -> Result<Option<String>, D::Error> {
    String::deserialize(value).map(|document| (document.trim() != "none").then(|| document.trim().to_owned()))
}

/// Reads a file of questions. An error names the line.
pub(super) fn read(path: &Path) -> anyhow::Result<Vec<Question>> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    parse(&text).with_context(|| path.display().to_string())
}

fn parse(text: &str) -> anyhow::Result<Vec<Question>> {
    let mut questions = Vec::new();
    for (number, line) in (1..).zip(text.trim_start_matches('\u{feff}').lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let parsed = match line.starts_with('{') {
            // A misspelt field is an error: it would check nothing.
            true => serde_json::from_str(line).map_err(anyhow::Error::from),
            false => columns(line),
        };
        let question = parsed.and_then(complete).with_context(|| format!("line {number}"))?;
        ensure!(!question.follows || !questions.is_empty(), "line {number}: the first question follows none");
        questions.push(question);
    }
    ensure!(!questions.is_empty(), "there is no question in it");
    Ok(questions)
}

/// `question TAB document`
fn columns(line: &str) -> anyhow::Result<Question> {
    let (text, expect) = line.split_once('\t').context("no TAB between the question and the document")?;
    let expect = (expect.trim() != "none").then(|| expect.trim().to_owned());
    Ok(Question { text: text.into(), expect, ..Question::default() })
}

/// What is missing from a question.
fn complete(mut question: Question) -> anyhow::Result<Question> {
    question.text = question.text.trim().to_owned();
    ensure!(!question.text.is_empty(), "the question is empty");
    let named = question.expect.as_ref().is_none_or(|document| !document.is_empty());
    ensure!(named, "the document is empty; write `none` when none answers");
    Ok(question)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_a_line_are_read() {
        let text = "# mine\r\n\r\nWhen do you open?\tcontact/hours.md\r\n\
                    {\"question\": \"and today?\", \"expect\": \"none\", \"contains\": [\"9 am\"], \"follows\": true}\n";
        let plain = |text: &str, expect: Option<&str>| Question {
            text: text.into(),
            expect: expect.map(String::from),
            ..Question::default()
        };
        let follow_up =
            Question { contains: vec!["9 am".into()], follows: true, ..plain("and today?", None) };
        assert_eq!(parse(text).unwrap(), [plain("When do you open?", Some("contact/hours.md")), follow_up]);
    }

    #[test]
    fn an_error_names_the_line_and_what_is_wrong_with_it() {
        let message = |text| format!("{:#}", parse(text).unwrap_err());
        assert_eq!(message("a\tb\nno document"), "line 2: no TAB between the question and the document");
        assert_eq!(message("\tb.md"), "line 1: no TAB between the question and the document");
        assert_eq!(message("{\"question\": \"a\"}"), "line 1: missing field `expect` at line 1 column 17");
        assert_eq!(
            message("{\"question\": \"a\", \"expect\": \"none\", \"contain\": []}"),
            "line 1: unknown field `contain`, expected one of `question`, `expect`, `outcome`, `contains`, `every`, `never`, \
             `follows`, `product`, `jurisdiction`, `tenant` at line 1 column 45"
        );
        assert_eq!(
            message("{\"question\": \"a\", \"expect\": \"none\", \"follows\": true}"),
            "line 1: the first question follows none"
        );
        assert_eq!(message("# nothing"), "there is no question in it");
    }
}

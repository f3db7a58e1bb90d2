//! The file with the questions to ask.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

/// A question and what its answer must be like.
#[derive(Debug, PartialEq)]
pub(super) struct Question {
    /// What the customer writes.
    pub(super) text: String,
    /// The document to be cited; `None` when none answers it.
    pub(super) expect: Option<String>,
    /// Phrases, one of which must stand in the answer or its quotes; empty asks for none.
    pub(super) contains: Vec<String>,
    /// Whether it is asked in the conversation of the question before.
    pub(super) follows: bool,
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
        let parsed = if line.starts_with('{') { object(line) } else { columns(line) };
        let question = parsed.with_context(|| format!("line {number}"))?;
        ensure!(!question.follows || !questions.is_empty(), "line {number}: the first question follows none");
        questions.push(question);
    }
    ensure!(!questions.is_empty(), "there is no question in it");
    Ok(questions)
}

/// `question TAB document`
fn columns(line: &str) -> anyhow::Result<Question> {
    let (text, expect) = line.split_once('\t').context("no TAB between the question and the document")?;
    question(text, expect)
}

/// A JSON object; an unknown field is an error, since a misspelt one would check nothing.
fn object(line: &str) -> anyhow::Result<Question> {
    let value: Value = serde_json::from_str(line)?;
    let fields = value.as_object().context("not a JSON object")?;
    for name in fields.keys() {
        let known = ["question", "expect", "contains", "follows"];
        ensure!(known.contains(&name.as_str()), "unknown field `{name}`; there are {}", known.join(", "));
    }
    let text = |name: &str| value[name].as_str().with_context(|| format!("`{name}` must be a string"));
    let mut question = question(text("question")?, text("expect")?)?;
    match &value["contains"] {
        Value::Null => {}
        Value::Array(phrases) => {
            for phrase in phrases {
                question.contains.push(phrase.as_str().context("`contains` must hold strings")?.into());
            }
        }
        _ => bail!("`contains` must be a list of strings"),
    }
    match &value["follows"] {
        Value::Null => {}
        Value::Bool(follows) => question.follows = *follows,
        _ => bail!("`follows` must be true or false"),
    }
    Ok(question)
}

fn question(text: &str, expect: &str) -> anyhow::Result<Question> {
    let (text, expect) = (text.trim(), expect.trim());
    ensure!(!text.is_empty(), "the question is empty");
    ensure!(!expect.is_empty(), "the document is empty; write `none` when none answers");
    let expect = (expect != "none").then(|| expect.to_owned());
    Ok(Question { text: text.into(), expect, contains: Vec::new(), follows: false })
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
            contains: Vec::new(),
            follows: false,
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
        assert_eq!(message("{\"question\": \"a\"}"), "line 1: `expect` must be a string");
        assert_eq!(
            message("{\"question\": \"a\", \"expect\": \"none\", \"contain\": []}"),
            "line 1: unknown field `contain`; there are question, expect, contains, follows"
        );
        assert_eq!(
            message("{\"question\": \"a\", \"expect\": \"none\", \"follows\": true}"),
            "line 1: the first question follows none"
        );
        assert_eq!(message("# nothing"), "there is no question in it");
    }
}

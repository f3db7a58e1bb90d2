//! Tables of questions and answers: each row is a section with the question as its heading.

use super::{Builder, Parsed, Rejected};

/// Reads CSV with the columns `question` and `answer`; other columns are passed over.
pub(super) fn csv(source: &str) -> Result<Parsed, Rejected> {
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::Headers).from_reader(source.as_bytes());
    let columns = reader.headers().map_err(|error| broken(&error))?.clone();
    let column = |name: &str| {
        columns.iter().position(|column| column.eq_ignore_ascii_case(name)).ok_or_else(|| {
            Rejected::new(format!(
                "the first row has no column `{name}`; the columns `question` and `answer` are needed"
            ))
        })
    };
    let (question, answer) = (column("question")?, column("answer")?);
    let mut builder = Builder::default();
    for row in reader.records() {
        let row = row.map_err(|error| broken(&error))?;
        section(&mut builder, &row[question], &row[answer]);
    }
    Ok(builder.finish(String::new()))
}

fn broken(error: &csv::Error) -> Rejected {
    let line = error.position().map_or(1, csv::Position::line);
    let cause = match error.kind() {
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            format!("has {len} fields instead of {expected_len}; quote fields that contain a comma")
        }
        _ => "cannot be read as CSV".to_owned(),
    };
    Rejected::new(format!("line {line} {cause}"))
}

/// Reads JSON Lines: an object a line with the strings `question` and `answer`.
pub(super) fn jsonl(source: &str) -> Result<Parsed, Rejected> {
    let mut builder = Builder::default();
    for (number, line) in source.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let wrong = || {
            let line = number + 1;
            Rejected::new(format!(
                "line {line} is not a JSON object with the strings `question` and `answer`; one a line is allowed"
            ))
        };
        let row: serde_json::Map<String, serde_json::Value> =
            serde_json::from_str(line).map_err(|_| wrong())?;
        let text = |name: &str| {
            let value = row.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value);
            value.and_then(serde_json::Value::as_str).ok_or_else(wrong)
        };
        section(&mut builder, text("question")?, text("answer")?);
    }
    Ok(builder.finish(String::new()))
}

fn section(builder: &mut Builder, question: &str, answer: &str) {
    // A question without an answer would be found and could only be repeated.
    if answer.trim().is_empty() {
        return;
    }
    builder.heading(1, question);
    for paragraph in answer.split("\n\n") {
        builder.body(paragraph);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sections(parsed: &Parsed) -> Vec<(String, &str)> {
        parsed.blocks.iter().map(|b| (b.path.join("/"), &parsed.text[b.range.clone()])).collect()
    }

    #[test]
    fn each_row_is_a_section_under_its_question() {
        let parsed =
            csv("Answer ,ID, Question\n\"Yes, \"\"always\"\".\",1,Wrap?\nNo.,2,Phone?\n,3,Empty?\n").unwrap();
        assert_eq!(
            sections(&parsed),
            [
                ("Wrap?".into(), "Wrap?"),
                ("Wrap?".into(), "Yes, \"always\"."),
                ("Phone?".into(), "Phone?"),
                ("Phone?".into(), "No."),
            ]
        );
        let lines = "{\"question\":\"Wrap?\",\"answer\":\"Yes, \\\"always\\\".\",\"x\":1}\n\n{\"Question\":\"Phone?\",\"answer\":\"No.\"}";
        assert_eq!(sections(&jsonl(lines).unwrap()), sections(&parsed));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        assert!(csv("frage,answer\n").unwrap_err().0.contains("`question`"));
        assert!(csv("question,answer\na,b\na,b,c\n").unwrap_err().0.contains("line 3 has 3 fields"));
        assert!(jsonl("{\"question\":\"a\",\"answer\":\"b\"}\n[1]").unwrap_err().0.contains("line 2"));
        assert!(jsonl("{\"question\":\"a\",\"answer\":7}").unwrap_err().0.contains("line 1"));
    }
}

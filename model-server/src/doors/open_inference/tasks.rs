//! The tensors of each task, and how they become a question to the model.

use switchboard_mesh::{Call, error::Fault as _};

use super::{
    outputs::{Output, Results, SCORE},
    parameters::Parameters,
    tensors::{Datatype, Input},
};
use crate::{
    bounds::{MOST_CHARACTERS, MOST_QUERY, MOST_TEXTS},
    error::Error,
    labels::Label,
    model::{Card, ClassifyOptions, EmbedOptions, Model},
    repository::Task,
};

const TEXT: Input = Input { name: "text", texts: MOST_TEXTS, characters: MOST_CHARACTERS, optional: false };
const SECOND: Input = Input { name: "second_text", optional: true, ..TEXT };
const QUERY: Input = Input { name: "query", texts: 1, characters: MOST_QUERY, optional: false };

/// What a model takes.
pub(super) fn inputs(task: &Task) -> &'static [Input] {
    match task {
        Task::Embed { .. } | Task::Tokens { .. } => &[TEXT],
        Task::CrossEncoder | Task::LateInteraction(_) => &[TEXT, QUERY],
        Task::Sequence { .. } => &[TEXT, SECOND],
        // Sound, and what comes token by token, is for our own contract.
        Task::Transcribe(_) | Task::DetectSpeech | Task::Generate(_) => &[],
    }
}

/// What a model gives.
pub(super) fn outputs(card: &Card) -> Vec<Output> {
    let output = |name, datatype, shape: &[usize]| {
        let dimensions = shape.iter().map(|&length| i64::try_from(length).unwrap_or(i64::MAX));
        Output { name, datatype, shape: std::iter::once(-1).chain(dimensions).collect() }
    };
    match &card.task {
        Task::Embed { .. } => vec![
            output("embedding", Datatype::Fp32, &[card.dimensions]),
            output("embedding_fp16", Datatype::Fp16, &[card.dimensions]),
        ],
        Task::CrossEncoder | Task::LateInteraction(_) => vec![output(SCORE, Datatype::Fp32, &[])],
        Task::Sequence { labels, .. } => {
            vec![output(SCORE, Datatype::Fp32, &[labels.len()]), output("label", Datatype::Bytes, &[])]
        }
        Task::Tokens { .. } => vec![output("labels", Datatype::Bytes, &[])],
        Task::Transcribe(_) | Task::DetectSpeech | Task::Generate(_) => Vec::new(),
    }
}

/// Asks the model; `texts` are what [`inputs`] lists.
///
/// # Errors
/// As the model's, with the names that this contract has for the fields.
pub(super) async fn run<'a>(
    model: &'a Model,
    texts: Vec<Option<Vec<String>>>,
    parameters: &Parameters,
    call: &Call,
) -> Result<Results<'a>, Error> {
    let mut texts = texts.into_iter().map(Option::unwrap_or_default);
    let (first, second) = (texts.next().unwrap_or_default(), texts.next().unwrap_or_default());
    ask(model, first, second, parameters, call).await.map_err(named)
}

async fn ask<'a>(
    model: &'a Model,
    texts: Vec<String>,
    others: Vec<String>,
    parameters: &Parameters,
    call: &Call,
) -> Result<Results<'a>, Error> {
    let Parameters { truncation, raw_scores, each_token, .. } = *parameters;
    match &model.card.task {
        Task::Embed { .. } => {
            let options = EmbedOptions {
                prompt: parameters.prompt.clone(),
                normalize: parameters.normalize,
                dimensions: parameters.dimensions,
                truncation,
            };
            let answer = model.embed(texts, options, call).await?;
            Ok(Results::Vectors(answer.rows.into_iter().map(|row| row.values).collect()))
        }
        Task::CrossEncoder | Task::LateInteraction(_) => {
            let query = others.into_iter().next().unwrap_or_default();
            let answer = model.rerank(query, texts, raw_scores, truncation, call).await?;
            Ok(Results::Scores(answer.rows))
        }
        Task::Sequence { labels, .. } => {
            let options = ClassifyOptions { raw_scores, each_token: false, truncation };
            let answer = model.classify(texts, others, options, call).await?;
            let in_order = |found: &[Label]| {
                let mut scores = vec![0.0; labels.len()];
                for label in found {
                    scores[label.index] = label.score;
                }
                scores
            };
            Ok(Results::Classes {
                scores: answer.rows.iter().map(|row| in_order(&row.labels)).collect(),
                labels,
            })
        }
        Task::Tokens { .. } => {
            let options = ClassifyOptions { raw_scores, each_token, truncation };
            let answer = model.classify(texts, others, options, call).await?;
            Ok(Results::Spans(answer.rows.iter().map(|row| spans(&row.labels)).collect()))
        }
        Task::Transcribe(_) | Task::DetectSpeech | Task::Generate(_) => {
            model.reads_texts()?;
            Err(Error::NoModel)
        }
    }
}

/// Labelled spans as JSON; characters are counted as Unicode scalar values.
fn spans(labels: &[Label]) -> String {
    let span = |label: &Label| {
        serde_json::json!({
            "label": label.name, "score": label.score, "start": label.span.0, "end": label.span.1,
        })
    };
    serde_json::Value::Array(labels.iter().map(span).collect()).to_string()
}

/// An error of the model in this contract's names.
fn named(error: Error) -> Error {
    let Some(field) = error.field() else { return error };
    let name = match (field, field.strip_prefix("texts")) {
        (_, Some(place)) => format!("inputs[text]{place}"),
        ("query", _) => "inputs[query]".to_owned(),
        ("second_texts", _) => "inputs[second_text]".to_owned(),
        _ => format!("parameters[{field}]"),
    };
    error.in_field(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_have_the_names_of_this_contract() {
        for (field, name) in [
            ("texts[3]", "inputs[text][3]"),
            ("query", "inputs[query]"),
            ("second_texts", "inputs[second_text]"),
            ("dimensions", "parameters[dimensions]"),
        ] {
            let long = Error::TooLong { field: field.into(), tokens: 9, most: 8 };
            assert_eq!(named(long).to_string(), format!("{name}: 9 tokens; the model reads 8"));
            assert_eq!(named(Error::invalid(field, "bad")).to_string(), format!("{name}: bad"));
        }
        assert!(matches!(named(Error::Deadline), Error::Deadline));
    }
}

//! What a model gave, as the tensors that a request wants.

use half::f16;
use switchboard_proto::open_inference::{
    InferParameter, infer_parameter::ParameterChoice, model_infer_request::InferRequestedOutputTensor,
    model_infer_response::InferOutputTensor,
};

use super::tensors::{Datatype, join, shares_memory};
use crate::{doors::shown, error::Error};

/// A tensor that a model gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Output {
    pub(super) name: &'static str,
    pub(super) datatype: Datatype,
    /// -1 is any length.
    pub(super) shape: Vec<i64>,
}

/// A tensor that a request wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    name: &'static str,
    datatype: Datatype,
    /// Best classes, as text, in place of all scores.
    classes: Option<usize>,
}

/// What a model gave for the texts of a request, in their order.
#[derive(Debug)]
pub(super) enum Results<'a> {
    /// A vector for each text.
    Vectors(Vec<Vec<f32>>),
    /// A score for each text.
    Scores(Vec<f32>),
    /// For each text the scores of these labels, in their order.
    Classes { scores: Vec<Vec<f32>>, labels: &'a [String] },
    /// For each text its labelled spans, as JSON.
    Spans(Vec<String>),
}

/// The outputs that a request wants, in its order: all that are `known` when it names none.
///
/// # Errors
/// `Invalid`, naming the output.
pub(super) fn wanted(asked: &[InferRequestedOutputTensor], known: &[Output]) -> Result<Vec<Wanted>, Error> {
    if asked.is_empty() {
        let all =
            known.iter().map(|output| Wanted { name: output.name, datatype: output.datatype, classes: None });
        return Ok(all.collect());
    }
    let mut wanted = Vec::<Wanted>::new();
    for asked in asked {
        let field = format!("outputs[{}]", shown(&asked.name));
        let Some(output) = known.iter().find(|output| output.name == asked.name) else {
            let names: Vec<_> = known.iter().map(|output| output.name).collect();
            let problem = format!("no such output; the model gives {}", names.join(", "));
            return Err(Error::invalid(field, problem));
        };
        if wanted.iter().any(|other| other.name == output.name) {
            return Err(Error::invalid(field, "asked for twice"));
        }
        let classes = classes(asked, output, &field)?;
        let datatype = if classes.is_some() { Datatype::Bytes } else { output.datatype };
        wanted.push(Wanted { name: output.name, datatype, classes });
    }
    Ok(wanted)
}

/// Reads the parameters of a wanted output.
fn classes(asked: &InferRequestedOutputTensor, output: &Output, field: &str) -> Result<Option<usize>, Error> {
    let refuse =
        |key: &str, problem: &str| Err(Error::invalid(format!("{field}.parameters[{key}]"), problem));
    if shares_memory(&asked.parameters) {
        let problem = "this node shares no memory with its callers; the contents are sent";
        return refuse("shared_memory_region", problem);
    }
    let key = "classification";
    let count = match asked.parameters.get(key).map(|InferParameter { parameter_choice }| parameter_choice) {
        None => return Ok(None),
        Some(Some(ParameterChoice::Int64Param(count))) => usize::try_from(*count).ok(),
        Some(Some(ParameterChoice::Uint64Param(count))) => usize::try_from(*count).ok(),
        Some(_) => None,
    };
    match count {
        // tritonclient sends it only when it is not 0; 0 wants the tensor itself.
        Some(0) => Ok(None),
        Some(count) if output.name == SCORE && output.shape.len() == 2 => Ok(Some(count)),
        Some(_) => refuse(key, "only the scores of a classifier have classes"),
        None => refuse(key, "a number of classes that is not negative is allowed"),
    }
}

/// Name of the output that has scores.
pub(super) const SCORE: &str = "score";

impl Wanted {
    /// The tensor and its raw contents.
    pub(super) fn write(&self, results: &Results<'_>) -> (InferOutputTensor, Vec<u8>) {
        let (shape, raw) = match results {
            Results::Vectors(rows) => (shape(rows), self.floats(rows.iter().map(Vec::as_slice))),
            Results::Scores(scores) => {
                (vec![length(scores)], self.floats(std::iter::once(scores.as_slice())))
            }
            Results::Classes { scores, labels } => match (self.classes, self.datatype) {
                (Some(classes), _) => best_classes(scores, labels, classes),
                (None, Datatype::Bytes) => {
                    let best = scores.iter().map(|scores| {
                        let place = in_order(scores).first().copied().unwrap_or(0);
                        labels.get(place).map_or("", String::as_str)
                    });
                    (vec![length(scores)], join(best))
                }
                (None, _) => (shape(scores), self.floats(scores.iter().map(Vec::as_slice))),
            },
            Results::Spans(spans) => (vec![length(spans)], join(spans.iter().map(String::as_str))),
        };
        let tensor = InferOutputTensor {
            name: self.name.into(),
            datatype: self.datatype.name().into(),
            shape,
            ..InferOutputTensor::default()
        };
        (tensor, raw)
    }

    /// Rows of numbers, one after the other, in the wanted width.
    fn floats<'a>(&self, rows: impl Iterator<Item = &'a [f32]> + Clone) -> Vec<u8> {
        let count: usize = rows.clone().map(<[f32]>::len).sum();
        let mut raw = Vec::with_capacity(count * size_of::<f32>());
        for value in rows.flatten() {
            match self.datatype {
                Datatype::Fp16 => raw.extend_from_slice(&f16::from_f32(*value).to_le_bytes()),
                Datatype::Fp32 | Datatype::Bytes => raw.extend_from_slice(&value.to_le_bytes()),
            }
        }
        raw
    }
}

/// The best classes of each text, best first, each as Triton writes it: `score:place:label`.
fn best_classes(scores: &[Vec<f32>], labels: &[String], classes: usize) -> (Vec<i64>, Vec<u8>) {
    let kept = classes.min(labels.len());
    let mut texts = Vec::with_capacity(scores.len() * kept);
    for scores in scores {
        for place in in_order(scores).into_iter().take(kept) {
            let label = labels.get(place).map_or("", String::as_str);
            texts.push(format!("{:.6}:{place}:{label}", scores[place]));
        }
    }
    let kept = i64::try_from(kept).unwrap_or(i64::MAX);
    (vec![length(scores), kept], join(texts.iter().map(String::as_str)))
}

/// Places of scores, best first; of equal ones the first first.
fn in_order(scores: &[f32]) -> Vec<usize> {
    let mut places: Vec<usize> = (0..scores.len()).collect();
    places.sort_by(|&one, &other| scores[other].total_cmp(&scores[one]));
    places
}

fn shape(rows: &[Vec<f32>]) -> Vec<i64> {
    vec![length(rows), rows.first().map_or(0, |row| length(row))]
}

fn length<T>(items: &[T]) -> i64 {
    i64::try_from(items.len()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> Vec<Output> {
        vec![
            Output { name: SCORE, datatype: Datatype::Fp32, shape: vec![-1, 3] },
            Output { name: "label", datatype: Datatype::Bytes, shape: vec![-1] },
        ]
    }

    fn ask(name: &str, parameter: Option<(&str, ParameterChoice)>) -> InferRequestedOutputTensor {
        let parameters = parameter
            .map(|(key, value)| (key.to_owned(), InferParameter { parameter_choice: Some(value) }))
            .into_iter()
            .collect();
        InferRequestedOutputTensor { name: name.into(), parameters }
    }

    fn labels() -> Vec<String> {
        ["cold", "mild", "hot"].map(String::from).to_vec()
    }

    #[test]
    fn no_name_wants_all_and_names_keep_their_order() {
        let all = wanted(&[], &known()).unwrap();
        assert_eq!(all.iter().map(|wanted| wanted.name).collect::<Vec<_>>(), [SCORE, "label"]);
        let some = wanted(&[ask("label", None), ask(SCORE, None)], &known()).unwrap();
        assert_eq!(some.iter().map(|wanted| wanted.name).collect::<Vec<_>>(), ["label", SCORE]);
    }

    #[test]
    fn what_is_wrong_with_a_wanted_output_is_named() {
        let number = ParameterChoice::Int64Param;
        for (asked, names) in [
            (vec![ask("scores", None)], "outputs[scores]: no such output; the model gives score, label"),
            (vec![ask(SCORE, None), ask(SCORE, None)], "outputs[score]: asked for twice"),
            (vec![ask("label", Some(("classification", number(1))))], "only the scores of a classifier"),
            (vec![ask(SCORE, Some(("classification", number(-1))))], "not negative"),
            (vec![ask(SCORE, Some(("shared_memory_region", number(1))))], "shares no memory"),
        ] {
            let error = wanted(&asked, &known()).unwrap_err().to_string();
            assert!(error.contains(names), "{error:?} lacks {names:?}");
        }
    }

    #[test]
    fn vectors_are_little_endian_rows_in_either_width() {
        let known = [
            Output { name: "embedding", datatype: Datatype::Fp32, shape: vec![-1, 2] },
            Output { name: "embedding_fp16", datatype: Datatype::Fp16, shape: vec![-1, 2] },
        ];
        let results = Results::Vectors(vec![vec![1.0, -0.5], vec![0.1, 65504.0]]);
        let wanted = wanted(&[], &known).unwrap();
        let (tensor, raw) = wanted[0].write(&results);
        assert_eq!((tensor.datatype.as_str(), tensor.shape), ("FP32", vec![2, 2]));
        assert_eq!(raw, [1.0f32, -0.5, 0.1, 65504.0].map(f32::to_le_bytes).concat());
        let (tensor, raw) = wanted[1].write(&results);
        assert_eq!((tensor.datatype.as_str(), tensor.shape), ("FP16", vec![2, 2]));
        // IEEE 754 binary16: 1 is 0x3c00, -0.5 is 0xb800, 0.1 is nearest to 0x2e66, the largest is 0x7bff.
        assert_eq!(raw, [0x3c00u16, 0xb800, 0x2e66, 0x7bff].map(u16::to_le_bytes).concat());
    }

    #[test]
    fn classes_are_scores_and_the_best_label() {
        let labels = labels();
        let scores = vec![vec![0.1, 0.7, 0.2], vec![0.6, 0.3, 0.1]];
        let results = Results::Classes { scores, labels: &labels };
        let wanted = wanted(&[], &known()).unwrap();
        assert_eq!(wanted[0].write(&results).0.shape, [2, 3]);
        let (tensor, raw) = wanted[1].write(&results);
        assert_eq!((tensor.shape, raw), (vec![2], join(["mild", "cold"].into_iter())));
    }

    #[test]
    fn the_best_classes_are_written_as_triton_does() {
        let labels = labels();
        let results = Results::Classes { scores: vec![vec![0.25, 0.5, 0.25]], labels: &labels };
        for (count, classes) in [(2, 2), (9, 3)] {
            let asked = ask(SCORE, Some(("classification", ParameterChoice::Int64Param(count))));
            let (tensor, raw) = wanted(&[asked], &known()).unwrap()[0].write(&results);
            assert_eq!((tensor.datatype.as_str(), tensor.shape), ("BYTES", vec![1, classes]));
            let texts = ["0.500000:1:mild", "0.250000:0:cold", "0.250000:2:hot"];
            assert_eq!(raw, join(texts.into_iter().take(usize::try_from(classes).unwrap())));
        }
    }
}

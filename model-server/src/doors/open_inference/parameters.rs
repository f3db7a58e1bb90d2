//! Parameters of a request that mean something here.

use std::{collections::HashMap, time::Duration};

use mesh::Class;
use switchboard_mesh as mesh;
use switchboard_proto::open_inference::{InferParameter, infer_parameter::ParameterChoice};

use crate::{error::Error, tokenize::Truncation};

/// What a request asks for beside its tensors. A parameter of another task is not looked at.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Parameters {
    /// How urgent it is; `None` leaves the call's class.
    pub(super) class: Option<Class>,
    /// How long its caller waits; `None` leaves the call's deadline.
    pub(super) timeout: Option<Duration>,
    pub(super) truncation: Truncation,
    pub(super) prompt: String,
    pub(super) normalize: Option<bool>,
    pub(super) dimensions: usize,
    pub(super) raw_scores: bool,
    pub(super) each_token: bool,
    /// Whether a stream's reply says that it is the last one to its request.
    pub(super) mark_final: bool,
}

impl Parameters {
    /// Reads them. Names that mean nothing here are ignored, as Triton hands them to models that may
    /// or may not care.
    ///
    /// # Errors
    /// `Invalid`, naming the parameter.
    pub(super) fn read(given: &HashMap<String, InferParameter>) -> Result<Self, Error> {
        let mut parameters = Self::default();
        for (name, value) in given {
            let value = value.parameter_choice.as_ref();
            parameters.set(name, value).map_err(|allowed| {
                Error::invalid(format!("parameters[{name}]"), format!("not allowed; {allowed}"))
            })?;
        }
        Ok(parameters)
    }

    fn set(&mut self, name: &str, value: Option<&ParameterChoice>) -> Result<(), &'static str> {
        match name {
            "priority" => {
                self.class = match number(value) {
                    Some(0) => None,
                    Some(1) => Some(Class::Voice),
                    Some(2) => Some(Class::Chat),
                    Some(3) => Some(Class::Batch),
                    _ => return Err("1 to 3 are voice, chat and batch, and 0 leaves the call's class"),
                };
            }
            "timeout" => {
                let micros = number(value).ok_or("a timeout is a number of microseconds")?;
                self.timeout = (micros > 0).then(|| Duration::from_micros(micros));
            }
            "truncate" => {
                self.truncation = match text(value) {
                    Some("end") => Truncation::End,
                    Some("start") => Truncation::Start,
                    Some("refuse") => Truncation::Refuse,
                    _ => return Err("a long text is cut at its `end` or `start`, or `refuse`d"),
                };
            }
            "prompt" => self.prompt = text(value).ok_or("a prompt is named by a string")?.to_owned(),
            "normalize" => self.normalize = Some(flag(value).ok_or("true or false")?),
            "dimensions" => {
                let dimensions = number(value).and_then(|number| usize::try_from(number).ok());
                self.dimensions = dimensions.ok_or("dimensions are a number that is not negative")?;
            }
            "raw_scores" => self.raw_scores = flag(value).ok_or("true or false")?,
            "each_token" => self.each_token = flag(value).ok_or("true or false")?,
            "triton_enable_empty_final_response" => self.mark_final = flag(value).ok_or("true or false")?,
            "sequence_id" if number(value) != Some(0) && text(value) != Some("") => return Err(SEQUENCES),
            "sequence_start" | "sequence_end" if flag(value) != Some(false) => return Err(SEQUENCES),
            _ => {}
        }
        Ok(())
    }
}

const SEQUENCES: &str = "models here keep nothing from one request to the next";

fn number(value: Option<&ParameterChoice>) -> Option<u64> {
    match value? {
        ParameterChoice::Int64Param(number) => u64::try_from(*number).ok(),
        ParameterChoice::Uint64Param(number) => Some(*number),
        _ => None,
    }
}

fn text(value: Option<&ParameterChoice>) -> Option<&str> {
    match value? {
        ParameterChoice::StringParam(text) => Some(text),
        _ => None,
    }
}

fn flag(value: Option<&ParameterChoice>) -> Option<bool> {
    match value? {
        ParameterChoice::BoolParam(flag) => Some(*flag),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(given: &[(&str, ParameterChoice)]) -> Result<Parameters, Error> {
        let parameter = |value: &ParameterChoice| InferParameter { parameter_choice: Some(value.clone()) };
        Parameters::read(&given.iter().map(|(name, value)| ((*name).into(), parameter(value))).collect())
    }

    fn string(text: &str) -> ParameterChoice {
        ParameterChoice::StringParam(text.into())
    }

    #[test]
    fn parameters_are_read_by_name_and_type() {
        let read = read(&[
            ("priority", ParameterChoice::Uint64Param(1)),
            ("timeout", ParameterChoice::Int64Param(1500)),
            ("truncate", string("start")),
            ("prompt", string("query")),
            ("normalize", ParameterChoice::BoolParam(false)),
            ("dimensions", ParameterChoice::Int64Param(64)),
            ("sequence_id", ParameterChoice::Int64Param(0)),
            ("temperature", ParameterChoice::DoubleParam(0.5)),
        ]);
        let wanted = Parameters {
            class: Some(Class::Voice),
            timeout: Some(Duration::from_micros(1500)),
            truncation: Truncation::Start,
            prompt: "query".into(),
            normalize: Some(false),
            dimensions: 64,
            ..Parameters::default()
        };
        assert_eq!(read.unwrap(), wanted);
    }

    #[test]
    fn no_priority_and_no_timeout_leave_the_call_as_it_is() {
        let zero = ParameterChoice::Int64Param(0);
        assert_eq!(read(&[("priority", zero.clone()), ("timeout", zero)]).unwrap(), Parameters::default());
    }

    #[test]
    fn a_value_that_is_not_allowed_is_named() {
        for (name, value) in [
            ("priority", ParameterChoice::Int64Param(4)),
            ("priority", string("1")),
            ("timeout", ParameterChoice::Int64Param(-1)),
            ("truncate", string("middle")),
            ("truncate", ParameterChoice::BoolParam(true)),
            ("prompt", ParameterChoice::Int64Param(1)),
            ("normalize", string("yes")),
            ("dimensions", ParameterChoice::Int64Param(-2)),
            ("raw_scores", ParameterChoice::Int64Param(1)),
            ("sequence_id", ParameterChoice::Int64Param(7)),
            ("sequence_id", string("a")),
            ("sequence_start", ParameterChoice::BoolParam(true)),
        ] {
            let error = read(&[(name, value.clone())]).unwrap_err().to_string();
            assert!(error.starts_with(&format!("parameters[{name}]: ")), "{value:?}: {error}");
        }
    }
}

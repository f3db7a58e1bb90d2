//! TorchScript that embeds, reranks and classifies.

use tch::{CModule, IValue, Kind, Tensor};

use super::{
    archive::{self, Parameter},
    device::{Place, failed, words},
};
use crate::{
    backend::{Backend, BackendError, Batch, Output},
    error::Error,
    onnx::{INPUTS, outputs},
    placement::Placement,
    repository::{Description, problem},
};

/// A loaded TorchScript file.
pub(super) struct ScriptModel {
    module: CModule,
    /// What `forward` takes, in order.
    inputs: Vec<&'static str>,
    /// The names of the output in a dictionary, the best first.
    names: Vec<String>,
    /// Whether it must have a name.
    named: bool,
    place: Place,
}

impl ScriptModel {
    /// Loads the TorchScript file of a model; `threads` compute one batch.
    ///
    /// # Errors
    /// Names the file and what is wrong with it.
    pub(super) fn load(
        description: &Description,
        placement: Placement,
        threads: usize,
    ) -> Result<Self, Error> {
        let Description { graph, task, settings, .. } = description;
        let inputs = inputs(&archive::read(graph)?.parameters).map_err(|what| problem(graph, what))?;
        let place = Place::try_new(placement, threads).map_err(|what| problem(graph, what))?;
        let module = load(graph, place, placement)?;
        let names = match &settings.output {
            Some(named) => vec![named.clone()],
            None => outputs(task).iter().map(|&name| name.to_owned()).collect(),
        };
        Ok(Self { module, inputs, names, named: settings.output.is_some(), place })
    }

    /// The output in what `forward` gives, with its name.
    fn output<'a>(&'a self, given: &'a IValue) -> Result<(&'a str, &'a Tensor), String> {
        let wanted = self.names.join(" or ");
        match given {
            IValue::GenericDict(pairs) => {
                let find = |name: &'a String| {
                    let pair =
                        pairs.iter().find(|(key, _)| matches!(key, IValue::String(key) if key == name));
                    match pair {
                        Some((_, IValue::Tensor(tensor))) => Some((name.as_str(), tensor)),
                        _ => None,
                    }
                };
                self.names.iter().find_map(find).ok_or_else(|| {
                    let keys = pairs.iter().filter_map(|(key, _)| match key {
                        IValue::String(key) => Some(key.as_str()),
                        _ => None,
                    });
                    let there = keys.take(32).collect::<Vec<_>>().join(", ");
                    format!("gives no tensor {wanted}; it gives {there}")
                })
            }
            _ if self.named => Err(format!("gives no dictionary, in which model.toml wants {wanted}")),
            IValue::Tensor(tensor) => Ok(("its output", tensor)),
            // As models give it that were exported with `torchscript=True`: what others are made of comes first.
            IValue::Tuple(parts) => match parts.first() {
                Some(IValue::Tensor(tensor)) => Ok(("its first output", tensor)),
                _ => Err("gives a tuple that does not begin with a tensor".into()),
            },
            _ => Err("gives neither a tensor, nor a tuple or dictionary of them".into()),
        }
    }
}

impl Backend for ScriptModel {
    fn run(&mut self, batch: &Batch) -> Result<Output, BackendError> {
        let _computing = self.place.enter();
        let (rows, length) = (batch.rows as i64, batch.length as i64);
        let input = |values: &[i64]| -> tch::Result<IValue> {
            let tensor = Tensor::f_from_slice(values)?.f_reshape([rows, length])?;
            Ok(IValue::Tensor(tensor.f_to_device(self.place.device)?))
        };
        let inputs = self.inputs.iter().map(|&name| match name {
            "input_ids" => input(&batch.ids),
            "attention_mask" => input(&batch.mask),
            _ => input(&batch.types),
        });
        let inputs: Vec<IValue> = inputs.collect::<Result<_, _>>().map_err(failed)?;
        let given = self.module.forward_is(&inputs).map_err(failed)?;
        let (name, tensor) = self.output(&given).map_err(BackendError::Failed)?;
        let (dims, values) = floats(tensor)?;
        Output::new(name, &dims, values, batch)
    }
}

/// Loads a file that was looked into before.
///
/// # Errors
/// Names the file and what is wrong with it.
pub(super) fn load(file: &std::path::Path, place: Place, placement: Placement) -> Result<CModule, Error> {
    let _computing = place.enter();
    let loaded = CModule::load_on_device(file, place.device).and_then(|mut module| {
        module.f_set_eval()?;
        Ok(module)
    });
    loaded.map_err(|error| {
        let what = words(&error.to_string());
        problem(file, format!("cannot be run by {}: {what}", placement.name()))
    })
}

/// The shape and the numbers of a tensor, as 32-bit floats.
///
/// # Errors
/// When it is no tensor of floats.
pub(super) fn floats(tensor: &Tensor) -> Result<(Vec<i64>, Vec<f32>), BackendError> {
    let kind = if tensor.defined() { tensor.f_kind().map_err(failed)? } else { Kind::Bool };
    if !matches!(kind, Kind::Float | Kind::Half | Kind::BFloat16 | Kind::Double) {
        return Err(BackendError::Failed(format!("gives {kind:?}; floats are supported")));
    }
    let flat = || -> tch::Result<Vec<f32>> {
        let tensor = tensor.f_to_device(tch::Device::Cpu)?.f_to_kind(Kind::Float)?.f_contiguous()?;
        let mut values = vec![0.0; tensor.numel()];
        tensor.f_copy_data(&mut values, tensor.numel())?;
        Ok(values)
    };
    Ok((tensor.size(), flat().map_err(failed)?))
}

/// Which of the inputs that there are `forward` takes, in its order. What may be left out at its end is.
fn inputs(parameters: &[Parameter]) -> Result<Vec<&'static str>, String> {
    let mut inputs = Vec::new();
    for Parameter { name, kind, optional } in parameters {
        let known = INPUTS.into_iter().find(|known| known == name);
        match known.filter(|_| matches!(kind.as_str(), "Tensor" | "Optional[Tensor]")) {
            Some(known) => inputs.push(known),
            None if *optional => break,
            None => {
                let known = INPUTS.join(", ");
                return Err(format!(
                    "has a forward that takes {name}: {kind}; tensors {known} are supported"
                ));
            }
        }
    }
    match INPUTS[..2].iter().find(|name| !inputs.contains(name)) {
        Some(missing) => Err(format!("has a forward that takes no {missing}")),
        None => Ok(inputs),
    }
}

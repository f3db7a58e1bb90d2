//! A model's tensors, each taken once, with the shape that it must have.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use switchboard_mesh::error::chain;
use switchboard_onnx::{ElementType, safetensors::Safetensors};
use tch::{Device, Kind, Tensor};

use crate::{error::Error, repository::problem, torch::device::failed};

/// The tensors that were not taken yet.
pub(super) struct Weights {
    file: Safetensors,
    path: PathBuf,
    kind: Kind,
    device: Device,
    taken: BTreeSet<String>,
}

impl Weights {
    /// Reads the headers of the safetensors in `folder`; tensors become numbers of `kind` on `device`.
    ///
    /// # Errors
    /// Names the file and what is wrong with it.
    pub(super) fn open(folder: &Path, kind: Kind, device: Device) -> Result<Self, Error> {
        let file = Safetensors::open(folder).map_err(|error| {
            // Its text begins with the path, as ours does.
            let text = chain(&error);
            let path = error.path();
            let own = text.strip_prefix(&*path.to_string_lossy()).unwrap_or(&text);
            problem(path, own.trim_start())
        })?;
        let path = file.path().to_owned();
        Ok(Self { file, path, kind, device, taken: BTreeSet::new() })
    }

    /// The tensor of that name and shape.
    ///
    /// # Errors
    /// When there is none, it has another shape, or holds what is no number.
    pub(super) fn take(&mut self, name: &str, shape: &[usize]) -> Result<Tensor, Error> {
        let wrong = |what: String| problem(&self.path, what);
        let Some(found) = self.file.shape(name) else {
            return Err(wrong(format!(
                "has no F32, F16 or BF16 tensor {name}; wanted is one of shape {shape:?}"
            )));
        };
        if found != shape {
            return Err(wrong(format!("has {name} of shape {found:?}; config.json wants {shape:?}")));
        }
        let (element, bytes) = self.file.read(name, shape).map_err(wrong)?;
        let kind = match element {
            ElementType::Float16 => Kind::Half,
            ElementType::Bfloat16 => Kind::BFloat16,
            _ => Kind::Float,
        };
        let sizes: Vec<i64> = shape.iter().map(|&size| size as i64).collect();
        let make = || -> tch::Result<(Tensor, bool)> {
            let tensor = Tensor::f_from_data_size(&bytes, &sizes, kind)?.f_to_kind(self.kind)?;
            let finite = tensor.f_isfinite()?.f_all()?.f_int64_value(&[])? == 1;
            Ok((tensor.f_to_device(self.device)?, finite))
        };
        match make() {
            Ok((tensor, true)) => {
                self.taken.insert(name.to_owned());
                Ok(tensor)
            }
            Ok((_, false)) => Err(wrong(format!("has {name} with values that are not finite"))),
            Err(error) => Err(wrong(format!("has {name}, which cannot be loaded: {}", failed(error)))),
        }
    }

    /// Several tensors of as many columns, one below the other.
    ///
    /// # Errors
    /// As [`Weights::take`].
    pub(super) fn take_joined(
        &mut self,
        parts: &[(String, usize)],
        columns: &[usize],
    ) -> Result<Tensor, Error> {
        let taken = parts.iter().map(|(name, rows)| self.take(name, &[&[*rows], columns].concat()));
        let taken: Vec<Tensor> = taken.collect::<Result<_, _>>()?;
        Tensor::f_cat(&taken, 0)
            .map_err(|error| problem(&self.path, format!("cannot be loaded: {}", failed(error))))
    }

    /// Sees that nothing is left over: a model with more is another model.
    ///
    /// # Errors
    /// Names a tensor that nothing wants.
    pub(super) fn finish(self, tied: bool) -> Result<(), Error> {
        let spare = |name: &str| {
            // Older files keep what is computed from the config, and the output's matrix twice.
            name.ends_with("rotary_emb.inv_freq") || tied && name == "lm_head.weight"
        };
        match self.file.names().find(|name| !self.taken.contains(*name) && !spare(name)) {
            Some(name) => {
                let name: String = name.chars().filter(|c| !c.is_control()).take(120).collect();
                Err(problem(
                    &self.path,
                    format!("has a tensor {name}, which the model in config.json has not"),
                ))
            }
            None => Ok(()),
        }
    }
}

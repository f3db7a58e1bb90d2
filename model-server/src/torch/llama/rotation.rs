//! Rotary positions: every pair of components of a head turns with the position, some fast, some slowly.

use std::f64::consts::TAU;

use tch::{Device, Kind, Tensor};

use super::config::{Config, Scaling};

/// Cosines and sines of all positions, each `[context, head_size / 2]`.
pub(super) struct Rotation {
    cosines: Tensor,
    sines: Tensor,
}

/// Cosines and sines of some tokens, each `[tokens, 1, head_size / 2]`.
pub(super) struct Turn {
    cosines: Tensor,
    sines: Tensor,
}

impl Rotation {
    pub(super) fn new(config: &Config, context: usize, device: Device, kind: Kind) -> tch::Result<Self> {
        let speeds = Tensor::f_from_slice(&speeds(config))?;
        let positions = Tensor::f_arange(context as i64, (Kind::Double, Device::Cpu))?;
        let angles = positions.f_outer(&speeds)?;
        let table = |values: Tensor| values.f_to_kind(kind)?.f_to_device(device);
        Ok(Self { cosines: table(angles.f_cos()?)?, sines: table(angles.f_sin()?)? })
    }

    pub(super) fn at(&self, positions: &Tensor) -> tch::Result<Turn> {
        let at = |table: &Tensor| table.f_index_select(0, positions)?.f_unsqueeze(1);
        Ok(Turn { cosines: at(&self.cosines)?, sines: at(&self.sines)? })
    }
}

impl Turn {
    /// Turns `[tokens, heads, head_size]`. A component's partner is half a head away.
    pub(super) fn apply(&self, states: &Tensor) -> tch::Result<Tensor> {
        let halves = states.f_chunk(2, -1)?;
        let (first, second) = (&halves[0], &halves[1]);
        let left = first.f_mul(&self.cosines)?.f_sub(&second.f_mul(&self.sines)?)?;
        let right = second.f_mul(&self.cosines)?.f_add(&first.f_mul(&self.sines)?)?;
        Tensor::f_cat(&[left, right], -1)
    }
}

/// The angle by which each pair turns from a position to the next.
fn speeds(config: &Config) -> Vec<f64> {
    let size = config.head_size as f64;
    let plain = (0..config.head_size).step_by(2).map(|at| config.theta.powf(-(at as f64) / size));
    plain.map(|speed| scaled(speed, config.scaling)).collect()
}

/// # Source
/// Linear: Chen et al. 2023. Llama 3: as published with the model. What turns `high` times or more over the
/// first training's positions stays, what turns `low` times or less is slowed down, and between them the part
/// goes from one to the other.
fn scaled(speed: f64, scaling: Scaling) -> f64 {
    match scaling {
        Scaling::None => speed,
        Scaling::Linear { factor } => speed / factor,
        Scaling::Llama3 { factor, low, high, positions } => {
            let turns = positions * speed / TAU;
            let kept = ((turns - low) / (high - low)).clamp(0.0, 1.0);
            kept * speed + (1.0 - kept) * speed / factor
        }
    }
}

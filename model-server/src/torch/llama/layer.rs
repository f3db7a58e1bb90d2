//! One layer: attention, then a gated layer, each over what is normalised, and added to what came in.

use tch::Tensor;

use super::{
    Linear,
    attention::{self, Plan},
    cache::Held,
    config::Config,
    rotation::Turn,
    weights::Weights,
};
use crate::error::Error;

/// The weights of a layer. Matrices that read the same are one: fewer, larger products.
pub(super) struct Layer {
    before_attention: Tensor,
    /// Queries, keys and values, in this order.
    inputs: Linear,
    query_norm: Option<Tensor>,
    key_norm: Option<Tensor>,
    output: Linear,
    before_gate: Tensor,
    /// Gate and what it lets through, in this order.
    gate: Linear,
    down: Linear,
}

impl Layer {
    /// Takes the weights of a layer.
    ///
    /// # Errors
    /// Names the tensor that is missing or wrong.
    pub(super) fn load(weights: &mut Weights, number: usize, config: &Config) -> Result<Self, Error> {
        let Config { hidden, inner, .. } = *config;
        let (queries, keys) = (config.heads * config.head_size, config.kv_heads * config.head_size);
        let name = |part: &str| format!("model.layers.{number}.{part}");
        let inputs = |end: &str| {
            let part = |part: &str, rows| (name(&format!("self_attn.{part}_proj.{end}")), rows);
            [part("q", queries), part("k", keys), part("v", keys)]
        };
        let gate = ["gate", "up"].map(|part| (name(&format!("mlp.{part}_proj.weight")), inner));
        let mut optional = |wanted: bool, part: &str, size: usize| {
            wanted.then(|| weights.take(&name(part), &[size])).transpose()
        };
        let query_norm = optional(config.head_norms, "self_attn.q_norm.weight", config.head_size)?;
        let key_norm = optional(config.head_norms, "self_attn.k_norm.weight", config.head_size)?;
        let output_bias = optional(config.output_bias, "self_attn.o_proj.bias", hidden)?;
        let input_bias = match config.input_bias {
            true => Some(weights.take_joined(&inputs("bias"), &[])?),
            false => None,
        };
        Ok(Self {
            before_attention: weights.take(&name("input_layernorm.weight"), &[hidden])?,
            inputs: Linear { weight: weights.take_joined(&inputs("weight"), &[hidden])?, bias: input_bias },
            query_norm,
            key_norm,
            output: Linear {
                weight: weights.take(&name("self_attn.o_proj.weight"), &[hidden, queries])?,
                bias: output_bias,
            },
            before_gate: weights.take(&name("post_attention_layernorm.weight"), &[hidden])?,
            gate: Linear { weight: weights.take_joined(&gate, &[hidden])?, bias: None },
            down: Linear {
                weight: weights.take(&name("mlp.down_proj.weight"), &[hidden, inner])?,
                bias: None,
            },
        })
    }

    /// `[tokens, hidden]` to the same.
    pub(super) fn forward(
        &self,
        states: &Tensor,
        turn: &Turn,
        plan: &Plan,
        held: &mut Held,
        config: &Config,
    ) -> tch::Result<Tensor> {
        let Config { heads, kv_heads, head_size, inner, epsilon, .. } = *config;
        let [heads, kv_heads, size] = [heads, kv_heads, head_size].map(|number| number as i64);
        let given = self.inputs.forward(&norm(states, &self.before_attention, epsilon)?)?;
        let given = given.f_view([-1, heads + 2 * kv_heads, size])?;
        let part = |from, count, scale: &Option<Tensor>| {
            let part = given.f_narrow(1, from, count)?;
            scale.as_ref().map_or(Ok(part.shallow_clone()), |scale| norm(&part, scale, epsilon))
        };
        let queries = turn.apply(&part(0, heads, &self.query_norm)?)?;
        let keys = turn.apply(&part(heads, kv_heads, &self.key_norm)?)?;
        let values = part(heads + kv_heads, kv_heads, &None)?;
        held.write(&plan.slots, &plan.positions, &keys, &values)?;
        let seen = attention::attend(&queries, held, plan, config)?;
        let states = states.f_add(&self.output.forward(&seen)?)?;

        let given = self.gate.forward(&norm(&states, &self.before_gate, epsilon)?)?;
        let gates = given.f_narrow(1, 0, inner as i64)?.f_silu()?;
        let through = gates.f_mul(&given.f_narrow(1, inner as i64, inner as i64)?)?;
        states.f_add(&self.down.forward(&through)?)
    }
}

/// Scales the last dimension to a mean square of 1, and then each component by `scale`.
///
/// # Source
/// Zhang and Sennrich 2019.
pub(super) fn norm(states: &Tensor, scale: &Tensor, epsilon: f64) -> tch::Result<Tensor> {
    states.f_rms_norm(scale.size().as_slice(), Some(scale), epsilon)
}

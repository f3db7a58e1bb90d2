//! Linear layers and attention, in each of the ways that weights are kept.

use super::{
    Weights,
    encoder::Encoder,
    graph::{FUSED, ONNX},
    quantise::{self, BLOCK},
};
use crate::{ElementType, proto::AttributeProto};

/// Integers of the weights of [`Weights::Int8Dynamic`]: see there.
const SEVEN_BITS: i8 = 64;

/// A linear layer without its bias.
pub(super) struct Linear<'a> {
    pub(super) input: &'a str,
    pub(super) output: &'a str,
    /// Name of its weights in the graph.
    pub(super) weight: String,
    /// Width of the input.
    pub(super) from: usize,
    /// Width of the output.
    pub(super) to: usize,
}

impl Encoder<'_> {
    /// Adds a linear layer; `rows` has the weights of one output after another, as PyTorch keeps them.
    pub(super) fn linear(&mut self, layer: &Linear<'_>, rows: &[f32]) {
        let Linear { input, output, ref weight, from, to } = *layer;
        match self.weights {
            Weights::Fp32 => {
                // ONNX multiplies from the right.
                let columns = quantise::transpose(rows, from);
                let weight = self.builder.floats(weight.clone(), &[from, to], &columns);
                self.builder.node((ONNX, "MatMul"), &[input, &weight], &[output], []);
            }
            Weights::Int8Dynamic => {
                let [weight, scale] = self.columns(layer, rows);
                let inputs = [input, &weight, &scale];
                self.builder.node((FUSED, "DynamicQuantizeMatMul"), &inputs, &[output], []);
            }
            Weights::Weights8 => {
                let (bytes, scales) = quantise::blocks(rows, from);
                let dims = [to, from.div_ceil(BLOCK), BLOCK];
                let scale = self.builder.floats(format!("{weight}.scale"), &[scales.len()], &scales);
                let weight = self.builder.tensor(weight.clone(), ElementType::Uint8, &dims, bytes);
                let attributes = [
                    ("K", from),
                    ("N", to),
                    ("bits", 8),
                    ("block_size", BLOCK),
                    // Inputs rounded to 8 bits, block by block of each row. Without it the runtime turns
                    // the weights back into floats in every call, which takes five times as long.
                    ("accuracy_level", 4),
                ];
                let attributes = attributes.map(|(name, n)| AttributeProto::int(name, n as i64));
                self.builder.node((FUSED, "MatMulNBits"), &[input, &weight, &scale], &[output], attributes);
            }
        }
    }

    /// Weights as integers with a scale for each output.
    fn columns(&mut self, layer: &Linear<'_>, rows: &[f32]) -> [String; 2] {
        let Linear { ref weight, from, to, .. } = *layer;
        let (integers, scales) = quantise::rows(rows, from, SEVEN_BITS);
        let columns = quantise::transpose(&integers, from);
        [
            self.builder.int8(weight.clone(), &[from, to], &columns),
            self.builder.floats(format!("{weight}.scale"), &[to], &scales),
        ]
    }

    /// Self-attention over `input`, with its projections, named `name`.
    pub(super) fn attention(&mut self, input: &str, name: &str) -> Result<(), String> {
        let hidden = self.config.hidden;
        let projections = ["query", "key", "value"].map(|part| format!("{name}.{part}"));
        let (mut rows, mut bias) = (Vec::new(), Vec::new());
        for projection in &projections {
            let part = |part: &str| self.tensors.encoder(&format!("{projection}.{part}"));
            rows.extend(self.tensors.values(&part("weight"), &[hidden, hidden])?);
            bias.extend(self.tensors.values(&part("bias"), &[hidden])?);
        }
        let width = 3 * hidden;
        let weight = format!("{name}.qkv.weight");
        let projected = format!("{name}.qkv");
        let layer = Linear { input, output: &projected, weight, from: hidden, to: width };
        let heads = AttributeProto::int("num_heads", self.config.heads as i64);
        let (bias_name, mask) = (format!("{name}.qkv.bias"), "attention_mask.int32");
        match self.weights {
            Weights::Fp32 => {
                let columns = quantise::transpose(&rows, hidden);
                let weight = self.builder.floats(layer.weight, &[hidden, width], &columns);
                let bias = self.builder.floats(bias_name, &[width], &bias);
                self.builder.node((FUSED, "Attention"), &[input, &weight, &bias, mask], &[name], [heads]);
            }
            Weights::Int8Dynamic => {
                let [weight, scale] = self.columns(&layer, &rows);
                let bias = self.builder.floats(bias_name, &[width], &bias);
                let zero =
                    self.builder.int8(format!("{}.zero_point", layer.weight), &[width], &vec![0; width]);
                let [quantised, step, shift] =
                    ["int8", "scale", "zero_point"].map(|part| format!("{name}.{part}"));
                let outputs = [quantised.as_str(), &step, &shift];
                self.builder.node((ONNX, "DynamicQuantizeLinear"), &[input], &outputs, []);
                let inputs = [quantised.as_str(), &weight, &bias, &step, &scale, mask, &shift, &zero];
                self.builder.node((FUSED, "QAttention"), &inputs, &[name], [heads]);
            }
            Weights::Weights8 => {
                self.linear(&layer, &rows);
                let bias = self.builder.floats(bias_name, &[width], &bias);
                let [query, key, value] = projections.each_ref().map(String::as_str);
                let axis = AttributeProto::int("axis", 2);
                self.builder.node((ONNX, "Split"), &[&projected], &[query, key, value], [axis]);
                let inputs = [query, key, value, &bias, mask];
                self.builder.node((FUSED, "MultiHeadAttention"), &inputs, &[name], [heads]);
            }
        }
        Ok(())
    }
}

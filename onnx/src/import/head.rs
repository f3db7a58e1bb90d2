//! What stands on the encoder. Its weights stay floats: they are few, and the answer rests on them.

use super::{
    config::{Family, Head},
    encoder::Encoder,
    graph::{ONNX, value},
    quantise,
};
use crate::{
    ElementType,
    proto::{AttributeProto, DimensionProto, ValueInfoProto},
};

impl Encoder<'_> {
    /// Adds the head over `hidden`, and declares the graph's output.
    pub(super) fn head(&mut self, hidden: &str) -> Result<ValueInfoProto, String> {
        let (name, width, per_token) = match self.config.head {
            Head::None => (hidden, self.config.hidden, true),
            Head::Sequence => ("logits", self.sequence(hidden)?, false),
            Head::Token => ("logits", self.per_token(hidden, "classifier", "logits", true)?, true),
            Head::TokenVectors => {
                let output = "token_embeddings";
                (output, self.per_token(hidden, "linear", output, false)?, true)
            }
        };
        let labelled = matches!(self.config.head, Head::Sequence | Head::Token);
        if let Some(labels) = self.config.labels.filter(|&labels| labelled && labels != width) {
            return Err(format!("the classifier has {width} outputs, but config.json names {labels} labels"));
        }
        let mut dims = vec![DimensionProto::named("batch")];
        dims.extend(per_token.then(|| DimensionProto::named("seq")));
        dims.push(DimensionProto::fixed(width));
        Ok(value(name, ElementType::Float, dims))
    }

    /// Labels for the text, by the hidden state of its first token.
    fn sequence(&mut self, hidden: &str) -> Result<usize, String> {
        let first = self.builder.int64("head.first", &[], &[0]);
        let axis = AttributeProto::int("axis", 1);
        self.builder.node((ONNX, "Gather"), &[hidden, &first], &["head.first_token"], [axis]);
        let (dense, activation, classifier) = match self.config.family {
            Family::Bert => (self.tensors.encoder("pooler.dense"), "Tanh", "classifier"),
            Family::Roberta => ("classifier.dense".into(), "Tanh", "classifier.out_proj"),
            Family::DistilBert => ("pre_classifier".into(), "Relu", "classifier"),
        };
        let width = self.config.hidden;
        let wide = self.gemm("head.first_token", &dense, "head.dense")?;
        if wide != width {
            return Err(format!("{dense}.weight has {wide} rows, not {width}"));
        }
        self.builder.node((ONNX, activation), &["head.dense"], &["head.active"], []);
        self.gemm("head.active", classifier, "logits")
    }

    /// A linear layer over rows; returns how many outputs it has.
    fn gemm(&mut self, input: &str, name: &str, output: &str) -> Result<usize, String> {
        let (weight, bias) = (format!("{name}.weight"), format!("{name}.bias"));
        let width = self.tensors.rows(&weight)?;
        let shape = [width, self.config.hidden];
        let values = self.tensors.values(&weight, &shape)?;
        let weight = self.builder.floats(weight, &shape, &values);
        let values = self.tensors.values(&bias, &[width])?;
        let bias = self.builder.floats(bias, &[width], &values);
        let transposed = AttributeProto::int("transB", 1);
        self.builder.node((ONNX, "Gemm"), &[input, &weight, &bias], &[output], [transposed]);
        Ok(width)
    }

    /// A linear layer over each token; returns how many outputs it has.
    fn per_token(&mut self, hidden: &str, name: &str, output: &str, biased: bool) -> Result<usize, String> {
        let weight = format!("{name}.weight");
        let width = self.tensors.rows(&weight)?;
        let values = self.tensors.values(&weight, &[width, self.config.hidden])?;
        let columns = quantise::transpose(&values, self.config.hidden);
        let weight = self.builder.floats(weight, &[self.config.hidden, width], &columns);
        if biased {
            let bias = format!("{name}.bias");
            let values = self.tensors.values(&bias, &[width])?;
            let bias = self.builder.floats(bias, &[width], &values);
            self.builder.node((ONNX, "MatMul"), &[hidden, &weight], &["head.product"], []);
            self.builder.node((ONNX, "Add"), &["head.product", &bias], &[output], []);
        } else {
            self.builder.node((ONNX, "MatMul"), &[hidden, &weight], &[output], []);
        }
        Ok(width)
    }
}

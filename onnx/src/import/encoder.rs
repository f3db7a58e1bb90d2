//! The encoder as a graph.

use super::{
    Weights,
    config::{Activation, Config, Family, Head},
    graph::{Builder, FUSED, ONNX, value},
    linear::Linear,
    quantise,
    tensors::Tensors,
};
use crate::{
    ElementType,
    proto::{AttributeProto, DimensionProto, GraphProto},
};

/// An encoder on its way into a graph. Values and tensors keep the names that BERT's have in PyTorch,
/// in every family.
pub(super) struct Encoder<'a> {
    pub(super) tensors: &'a Tensors,
    pub(super) config: &'a Config,
    pub(super) weights: Weights,
    pub(super) builder: Builder,
}

impl<'a> Encoder<'a> {
    pub(super) fn new(tensors: &'a Tensors, config: &'a Config, weights: Weights) -> Self {
        Self { tensors, config, weights, builder: Builder::default() }
    }

    /// The graph; an error names the tensor that is missing or wrong.
    pub(super) fn build(mut self) -> Result<GraphProto, String> {
        let types = self.types()?;
        let mut hidden = self.embeddings(types)?;
        for layer in 0..self.config.layers {
            let last = layer + 1 == self.config.layers && self.config.head == Head::None;
            let output =
                if last { "last_hidden_state".into() } else { format!("encoder.layer.{layer}.output") };
            hidden = self.layer(layer, hidden, output)?;
        }
        let output = self.head(&hidden)?;
        let (batch, seq) = (DimensionProto::named("batch"), DimensionProto::named("seq"));
        let input = |name| value(name, ElementType::Int64, vec![batch.clone(), seq.clone()]);
        let mut graph = self.builder.graph;
        // The name that every graph of this crate had from the start.
        graph.name = "bert".into();
        graph.input = vec![input("input_ids"), input("attention_mask")];
        if types > 1 {
            graph.input.push(input("token_type_ids"));
        }
        graph.output = vec![output];
        Ok(graph)
    }

    /// How many types of tokens the model tells apart.
    fn types(&self) -> Result<usize, String> {
        match self.config.family {
            Family::DistilBert => Ok(0),
            Family::Bert | Family::Roberta => {
                self.tensors.rows(&self.tensors.encoder("embeddings.token_type_embeddings.weight"))
            }
        }
    }

    /// Word, position and type embeddings, summed and normalised.
    fn embeddings(&mut self, types: usize) -> Result<String, String> {
        // The fused operators take int32, tokenizers and other exports' callers give int64.
        self.cast_to_int32("input_ids");
        if types > 1 {
            self.cast_to_int32("token_type_ids");
        }
        self.cast_to_int32("attention_mask");
        let position_ids =
            if self.config.family == Family::Roberta { Some(self.position_ids()) } else { None };
        let positions = position_ids.as_deref();
        match self.weights {
            Weights::Fp32 => self.fused_embeddings(types, positions),
            Weights::Int8Dynamic | Weights::Weights8 => self.quantised_embeddings(types, positions),
        }
    }

    fn cast_to_int32(&mut self, name: &str) {
        let to = AttributeProto::int("to", i64::from(ElementType::Int32.number()));
        self.builder.node((ONNX, "Cast"), &[name], &[&format!("{name}.int32")], [to]);
    }

    /// RoBERTa's positions: padding tokens have their own id's, the others count up from the one after.
    fn position_ids(&mut self) -> String {
        let padding = self.config.padding;
        let first = self.builder.int32("positions.padding", &[], &[padding as i32]);
        let axis = self.builder.int64("positions.axis", &[], &[1]);
        let to = || AttributeProto::int("to", i64::from(ElementType::Int32.number()));
        let ids = "input_ids.int32";
        self.builder.node((ONNX, "Equal"), &[ids, &first], &["positions.is_padding"], []);
        self.builder.node((ONNX, "Not"), &["positions.is_padding"], &["positions.is_text"], []);
        self.builder.node((ONNX, "Cast"), &["positions.is_text"], &["positions.text"], [to()]);
        self.builder.node((ONNX, "CumSum"), &["positions.text", &axis], &["positions.count"], []);
        let counted = ["positions.count", "positions.text"];
        self.builder.node((ONNX, "Mul"), &counted, &["positions.text_count"], []);
        self.builder.node((ONNX, "Add"), &["positions.text_count", &first], &["position_ids"], []);
        "position_ids".into()
    }

    fn fused_embeddings(&mut self, types: usize, positions: Option<&str>) -> Result<String, String> {
        let hidden = self.config.hidden;
        let name = "embeddings.word_embeddings.weight";
        let words = self.words()?;
        let words = self.builder.floats(name.into(), &[self.config.vocabulary, hidden], &words);
        let position_table = self.position_table(types)?;
        let type_table = if types > 1 { self.type_table(types)? } else { String::new() };
        let [gamma, beta] = self.norm("embeddings.LayerNorm")?;
        let type_ids = if types > 1 { "token_type_ids.int32" } else { "" };
        let mut inputs =
            vec!["input_ids.int32", type_ids, &words, &position_table, &type_table, &gamma, &beta];
        if let Some(positions) = positions {
            inputs.extend(["", positions]);
        }
        let epsilon = AttributeProto::float("epsilon", self.config.epsilon);
        // The second output, a mask index, is required by the operator and needed by nobody.
        let outputs = ["embeddings", "embeddings.mask"];
        self.builder.node((FUSED, "EmbedLayerNormalization"), &inputs, &outputs, [epsilon]);
        Ok("embeddings".into())
    }

    /// Word embeddings as 8-bit integers with a scale for each word: most of a multilingual model's
    /// weights are these.
    fn quantised_embeddings(&mut self, types: usize, positions: Option<&str>) -> Result<String, String> {
        let (hidden, vocabulary) = (self.config.hidden, self.config.vocabulary);
        let (words, scales) = quantise::rows(&self.words()?, hidden, i8::MAX);
        let words =
            self.builder.int8("embeddings.word_embeddings.weight".into(), &[vocabulary, hidden], &words);
        let scales =
            self.builder.floats("embeddings.word_embeddings.scale".into(), &[vocabulary, 1], &scales);
        let to_float = AttributeProto::int("to", i64::from(ElementType::Float.number()));
        let ids = "input_ids.int32";
        self.builder.node((ONNX, "Gather"), &[&words, ids], &["embeddings.words.int8"], []);
        self.builder.node((ONNX, "Gather"), &[&scales, ids], &["embeddings.words.scale"], []);
        self.builder.node(
            (ONNX, "Cast"),
            &["embeddings.words.int8"],
            &["embeddings.words.steps"],
            [to_float],
        );
        let scaled = ["embeddings.words.steps", "embeddings.words.scale"];
        self.builder.node((ONNX, "Mul"), &scaled, &["embeddings.words"], []);
        let mut sum = "embeddings.words";
        let position_table = self.position_table(types)?;
        if types > 1 {
            let table = self.type_table(types)?;
            self.builder.node((ONNX, "Gather"), &[&table, "token_type_ids.int32"], &["embeddings.types"], []);
            self.builder.node((ONNX, "Add"), &[sum, "embeddings.types"], &["embeddings.words_and_types"], []);
            sum = "embeddings.words_and_types";
        }
        match positions {
            Some(ids) => {
                self.builder.node((ONNX, "Gather"), &[&position_table, ids], &["embeddings.positions"], []);
            }
            None => {
                // A Gather with a Range of positions runs into a fusion of ONNX Runtime 1.31 that fails.
                let first = self.builder.int64("positions.first", &[1], &[0]);
                let range = [AttributeProto::int("start", 1), AttributeProto::int("end", 2)];
                self.builder.node((ONNX, "Shape"), &["input_ids"], &["positions.end"], range);
                let slice = [position_table.as_str(), &first, "positions.end", &first];
                self.builder.node((ONNX, "Slice"), &slice, &["embeddings.positions"], []);
            }
        }
        let [gamma, beta] = self.norm("embeddings.LayerNorm")?;
        let epsilon = AttributeProto::float("epsilon", self.config.epsilon);
        let inputs = [sum, "embeddings.positions", &gamma, &beta];
        self.builder.node((FUSED, "SkipLayerNormalization"), &inputs, &["embeddings"], [epsilon]);
        Ok("embeddings".into())
    }

    fn words(&self) -> Result<Vec<f32>, String> {
        let name = self.tensors.encoder("embeddings.word_embeddings.weight");
        self.tensors.values(&name, &[self.config.vocabulary, self.config.hidden])
    }

    /// The position embeddings, with the type's added where there is only one.
    fn position_table(&mut self, types: usize) -> Result<String, String> {
        let (positions, hidden) = (self.config.positions, self.config.hidden);
        let name = "embeddings.position_embeddings.weight";
        let mut values = self.tensors.values(&self.tensors.encoder(name), &[positions, hidden])?;
        if types == 1 {
            let name = self.tensors.encoder("embeddings.token_type_embeddings.weight");
            let added = self.tensors.values(&name, &[1, hidden])?;
            values.iter_mut().zip(added.iter().cycle()).for_each(|(value, added)| *value += added);
        }
        Ok(self.builder.floats(name.into(), &[positions, hidden], &values))
    }

    fn type_table(&mut self, types: usize) -> Result<String, String> {
        let name = "embeddings.token_type_embeddings.weight";
        let shape = [types, self.config.hidden];
        let values = self.tensors.values(&self.tensors.encoder(name), &shape)?;
        Ok(self.builder.floats(name.into(), &shape, &values))
    }

    /// Self-attention and feed-forward, each with its residual and norm.
    fn layer(&mut self, layer: usize, input: String, output: String) -> Result<String, String> {
        let Config { hidden, intermediate, .. } = *self.config;
        let at = |part: &str| format!("encoder.layer.{layer}.{part}");
        self.attention(&input, &at("attention.self"))?;

        let dense = self.dense(&at("attention.self"), &at("attention.output.dense"), (hidden, hidden))?;
        let normed = at("attention.output");
        self.skip(&dense, &input, &at("attention.output"), &normed)?;

        let dense = self.dense(&normed, &at("intermediate.dense"), (hidden, intermediate))?;
        let bias = self.bias(&at("intermediate.dense.bias"), intermediate)?;
        self.activation(&dense, &bias, &at("intermediate"));

        let dense = self.dense(&at("intermediate"), &at("output.dense"), (intermediate, hidden))?;
        self.skip(&dense, &normed, &at("output"), &output)?;
        Ok(output)
    }

    /// `input` times the weights of the linear layer `name`, without its bias.
    fn dense(&mut self, input: &str, name: &str, (from, to): (usize, usize)) -> Result<String, String> {
        let weight = format!("{name}.weight");
        let rows = self.tensors.values(&self.tensors.encoder(&weight), &[to, from])?;
        self.linear(&Linear { input, output: name, weight, from, to }, &rows);
        Ok(name.to_owned())
    }

    fn activation(&mut self, input: &str, bias: &str, output: &str) {
        match self.config.activation {
            Activation::Gelu => self.builder.node((FUSED, "BiasGelu"), &[input, bias], &[output], []),
            Activation::GeluTanh => self.builder.node((FUSED, "FastGelu"), &[input, bias], &[output], []),
            Activation::Relu => {
                let sum = format!("{output}.sum");
                self.builder.node((ONNX, "Add"), &[input, bias], &[&sum], []);
                self.builder.node((ONNX, "Relu"), &[&sum], &[output], []);
            }
        }
    }

    /// Adds `block`'s bias and the residual to `input`, and normalises the sum.
    fn skip(&mut self, input: &str, residual: &str, block: &str, output: &str) -> Result<(), String> {
        let [gamma, beta] = self.norm(&format!("{block}.LayerNorm"))?;
        let bias = self.bias(&format!("{block}.dense.bias"), self.config.hidden)?;
        let epsilon = AttributeProto::float("epsilon", self.config.epsilon);
        let inputs = [input, residual, &gamma, &beta, &bias];
        self.builder.node((FUSED, "SkipLayerNormalization"), &inputs, &[output], [epsilon]);
        Ok(())
    }

    fn norm(&mut self, name: &str) -> Result<[String; 2], String> {
        let hidden = self.config.hidden;
        let mut add = |part: &str, before: &str| {
            let full = format!("{name}.{part}");
            let here = self.tensors.encoder(&full);
            // What BERT's first weights, made with TensorFlow, call them.
            let old = self.tensors.encoder(&format!("{name}.{before}"));
            let here = if !self.tensors.has(&here) && self.tensors.has(&old) { old } else { here };
            let values = self.tensors.values(&here, &[hidden])?;
            Ok::<_, String>(self.builder.floats(full, &[hidden], &values))
        };
        Ok([add("weight", "gamma")?, add("bias", "beta")?])
    }

    fn bias(&mut self, name: &str, length: usize) -> Result<String, String> {
        let values = self.tensors.values(&self.tensors.encoder(name), &[length])?;
        Ok(self.builder.floats(name.into(), &[length], &values))
    }
}

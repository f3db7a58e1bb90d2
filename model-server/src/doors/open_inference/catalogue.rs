//! What the node and its models are, and what they have done.

use std::time::Duration;

use switchboard_proto::open_inference::{
    InferBatchStatistics, InferStatistics, ModelConfig, ModelDynamicBatching, ModelInput, ModelInstanceGroup,
    ModelMetadataResponse, ModelOutput, ModelParameter, ModelQueuePolicy, ModelStatistics,
    ModelVersionPolicy, ServerMetadataResponse, StatisticDuration,
    model_config::SchedulingChoice,
    model_instance_group::Kind,
    model_metadata_response::TensorMetadata,
    model_version_policy::{PolicyChoice, Specific},
};

use super::{VERSION, tasks, tensors::Datatype};
use crate::{
    model::{Card, Model},
    statistics::Total,
};

/// Which of Triton's extensions there are here.
const EXTENSIONS: [&str; 6] = [
    "classification",
    "model_repository",
    "schedule_policy",
    "model_configuration",
    "parameters",
    "statistics",
];

/// Triton's names of what runs a model: the platform, and the backend.
fn runs_on(card: &Card) -> (&str, &str) {
    match card.backend.split('/').next() {
        Some("onnx") => ("onnxruntime_onnx", "onnxruntime"),
        _ => (card.backend, card.backend),
    }
}

/// What the node is.
pub(super) fn server() -> ServerMetadataResponse {
    ServerMetadataResponse {
        name: "switchboard-model-server".into(),
        version: env!("CARGO_PKG_VERSION").into(),
        extensions: EXTENSIONS.map(String::from).to_vec(),
    }
}

/// The tensors of a model.
pub(super) fn metadata(card: &Card) -> ModelMetadataResponse {
    let tensor = |name: &str, datatype: Datatype, shape: Vec<i64>| TensorMetadata {
        name: name.into(),
        datatype: datatype.name().into(),
        shape,
    };
    let inputs = tasks::inputs(&card.task).iter();
    let outputs = tasks::outputs(card).into_iter();
    ModelMetadataResponse {
        name: card.name.clone(),
        versions: vec![VERSION.into()],
        platform: runs_on(card).0.into(),
        inputs: inputs.map(|input| tensor(input.name, Datatype::Bytes, input.shape())).collect(),
        outputs: outputs.map(|output| tensor(output.name, output.datatype, output.shape)).collect(),
    }
}

/// How a model is set up.
pub(super) fn config(card: &Card) -> ModelConfig {
    let (platform, backend) = runs_on(card);
    let inputs = tasks::inputs(&card.task).iter().map(|input| ModelInput {
        name: input.name.into(),
        data_type: Datatype::Bytes.in_config().into(),
        dims: input.shape(),
        optional: input.optional,
    });
    let outputs = tasks::outputs(card).into_iter().map(|output| ModelOutput {
        name: output.name.into(),
        data_type: output.datatype.in_config().into(),
        dims: output.shape,
    });
    let kind = if card.backend.ends_with("/cpu") { Kind::Cpu } else { Kind::Gpu };
    let instances = ModelInstanceGroup {
        name: format!("{}_0", card.name),
        kind: kind.into(),
        count: i32::try_from(card.layout.instances).unwrap_or(i32::MAX),
    };
    let parameters = [
        ("task", card.task.name().to_owned()),
        ("kind", card.task.kind().to_owned()),
        ("fingerprint", card.fingerprint.clone()),
        ("model_type", card.model_type.clone()),
        ("dtype", card.dtype.clone()),
        ("max_tokens", card.max_tokens.to_string()),
        ("max_batch_tokens", card.max_batch_tokens.to_string()),
        ("labels", json(card.task.labels())),
        ("prompts", json(&card.task.prompts())),
    ];
    let parameters =
        parameters.map(|(name, string_value)| (name.to_owned(), ModelParameter { string_value }));
    ModelConfig {
        name: card.name.clone(),
        platform: platform.into(),
        backend: backend.into(),
        version_policy: Some(ModelVersionPolicy {
            policy_choice: Some(PolicyChoice::Specific(Specific { versions: vec![1] })),
        }),
        max_batch_size: 0,
        input: inputs.collect(),
        output: outputs.collect(),
        scheduling_choice: Some(SchedulingChoice::DynamicBatching(batching(card))),
        instance_group: vec![instances],
        parameters: parameters.into(),
    }
}

fn batching(card: &Card) -> ModelDynamicBatching {
    ModelDynamicBatching {
        priority_levels: 3,
        default_priority_level: 2,
        default_queue_policy: Some(ModelQueuePolicy {
            allow_timeout_override: true,
            max_queue_size: u32::try_from(card.queue).unwrap_or(u32::MAX),
            ..ModelQueuePolicy::default()
        }),
        ..ModelDynamicBatching::default()
    }
}

fn json(names: &[String]) -> String {
    serde_json::Value::from(names).to_string()
}

/// What a model has done since it was loaded.
pub(super) fn statistics(model: &Model) -> ModelStatistics {
    let counts = model.statistics();
    let batches = counts.batches.iter().map(|(&rows, batches)| InferBatchStatistics {
        batch_size: rows as u64,
        compute_infer: duration(*batches),
        ..InferBatchStatistics::default()
    });
    // Triton counts a request whose caller has gone among the failed ones.
    let fail =
        Total { count: counts.fail.count + counts.cancel.count, time: counts.fail.time + counts.cancel.time };
    ModelStatistics {
        name: model.card.name.clone(),
        version: VERSION.into(),
        last_inference: counts.last_inference,
        inference_count: counts.inferences,
        execution_count: counts.batches.values().map(|batches| batches.count).sum(),
        inference_stats: Some(InferStatistics {
            success: duration(counts.success),
            fail: duration(fail),
            queue: duration(counts.queue),
            compute_input: duration(counts.input),
            compute_infer: duration(counts.infer),
            compute_output: duration(counts.output),
            ..InferStatistics::default()
        }),
        batch_stats: batches.collect(),
        ..ModelStatistics::default()
    }
}

#[expect(clippy::unnecessary_wraps, reason = "what the messages have")]
fn duration(total: Total) -> Option<StatisticDuration> {
    Some(StatisticDuration { count: total.count, ns: nanos(total.time) })
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

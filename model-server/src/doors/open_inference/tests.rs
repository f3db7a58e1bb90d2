//! The door over the real model. What goes over the wire is tested with others' clients in `tests/`.

use std::{collections::HashMap, path::Path, time::Duration};

use switchboard_mesh::{
    Channel,
    testing::{call, context, serve},
};
use switchboard_proto::{
    inference::v1::{EmbedRequest, inference_service_client::InferenceServiceClient},
    open_inference::{
        InferTensorContents, ModelConfigRequest, ModelInferRequest, ModelInferResponse, ModelMetadataRequest,
        ModelReadyRequest, ModelStatisticsRequest, RepositoryIndexRequest, RepositoryModelLoadRequest,
        RepositoryModelUnloadRequest, ServerMetadataRequest, ServerReadyRequest,
        grpc_inference_service_client::GrpcInferenceServiceClient, infer_parameter::ParameterChoice,
        model_infer_request::InferInputTensor, model_infer_request::InferRequestedOutputTensor,
    },
};
use tonic::{Code, Status};

use super::*;
use crate::{Config, setup, start};

const MODEL: &str = "all-MiniLM-L6-v2";

/// A channel to a started role over `repository`.
async fn over(repository: &Path) -> Channel {
    let config = Config {
        repository: repository.to_owned(),
        runtime: setup::runtime(),
        warm_up: Duration::ZERO,
        ..Config::default()
    };
    let context = context(repository);
    let mounted = start(config, &context).await.unwrap();
    context.health.set("", true);
    serve(&mounted)
}

async fn channel() -> Channel {
    over(setup::repository().path()).await
}

async fn client() -> GrpcInferenceServiceClient<Channel> {
    GrpcInferenceServiceClient::new(channel().await)
}

fn request(texts: &[&str], outputs: &[&str], parameters: &[(&str, ParameterChoice)]) -> ModelInferRequest {
    let parameter = |value: &ParameterChoice| InferParameter { parameter_choice: Some(value.clone()) };
    ModelInferRequest {
        model_name: MODEL.into(),
        id: "7".into(),
        parameters: parameters.iter().map(|(name, value)| ((*name).into(), parameter(value))).collect(),
        inputs: vec![InferInputTensor {
            name: "text".into(),
            datatype: "BYTES".into(),
            shape: vec![i64::try_from(texts.len()).unwrap()],
            contents: Some(InferTensorContents {
                bytes_contents: texts.iter().map(|text| text.as_bytes().to_vec()).collect(),
                ..InferTensorContents::default()
            }),
            ..InferInputTensor::default()
        }],
        outputs: outputs
            .iter()
            .map(|name| InferRequestedOutputTensor { name: (*name).into(), parameters: HashMap::new() })
            .collect(),
        ..ModelInferRequest::default()
    }
}

fn floats(raw: &[u8]) -> Vec<f32> {
    raw.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

fn length(vector: &[f32]) -> f32 {
    vector.iter().map(|value| value * value).sum::<f32>().sqrt()
}

async fn infer(
    client: &mut GrpcInferenceServiceClient<Channel>,
    request: ModelInferRequest,
) -> Result<ModelInferResponse, Status> {
    client.model_infer(call("acme").request(request)).await.map(Response::into_inner)
}

#[tokio::test]
async fn this_door_gives_what_our_own_does() {
    let channel = channel().await;
    let texts = ["shoes", "a longer text about shoes"];
    let mut own = InferenceServiceClient::new(channel.clone());
    let embed = EmbedRequest { texts: texts.map(String::from).to_vec(), ..EmbedRequest::default() };
    let vectors = own.embed(call("acme").request(embed)).await.unwrap().into_inner().vectors;
    let mut client = GrpcInferenceServiceClient::new(channel);
    let response = infer(&mut client, request(&texts, &[], &[])).await.unwrap();
    assert_eq!((response.model_version.as_str(), response.id.as_str()), ("1", "7"));
    let names: Vec<_> =
        response.outputs.iter().map(|output| (output.name.as_str(), &output.shape[..])).collect();
    assert_eq!(names, [("embedding", &[2, 384][..]), ("embedding_fp16", &[2, 384])]);
    let own: Vec<f32> = vectors.into_iter().flat_map(|vector| vector.values).collect();
    for (ours, theirs) in own.iter().zip(floats(&response.raw_output_contents[0])) {
        assert!((ours - theirs).abs() < 1e-6, "{ours} and {theirs}");
    }
}

#[tokio::test]
async fn parameters_reach_the_model() {
    let mut client = client().await;
    let parameters =
        [("dimensions", ParameterChoice::Int64Param(64)), ("normalize", ParameterChoice::BoolParam(false))];
    let response = infer(&mut client, request(&["shoes"], &["embedding"], &parameters)).await.unwrap();
    assert_eq!((response.outputs.len(), &response.outputs[0].shape[..]), (1, &[1, 64][..]));
    let cut = floats(&response.raw_output_contents[0]);
    assert!((length(&cut) - 1.0).abs() > 0.01, "not scaled");
    let scaled = infer(&mut client, request(&["shoes"], &["embedding"], &parameters[..1])).await.unwrap();
    assert!((length(&floats(&scaled.raw_output_contents[0])) - 1.0).abs() < 1e-5);
}

#[tokio::test]
async fn what_the_model_refuses_has_the_names_of_this_contract() {
    let mut client = client().await;
    let long = "shoes ".repeat(1000);
    let refuse = ParameterChoice::StringParam("refuse".into());
    for (text, parameter, field) in [
        ("shoes", ("prompt", ParameterChoice::StringParam("none".into())), "parameters[prompt]"),
        ("shoes", ("dimensions", ParameterChoice::Int64Param(385)), "parameters[dimensions]"),
        (&long, ("truncate", refuse), "inputs[text]"),
    ] {
        let status = infer(&mut client, request(&[text], &[], &[parameter])).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().starts_with(field), "{status:?}");
    }
}

#[tokio::test]
async fn a_timeout_ends_the_call() {
    let soon = [("timeout", ParameterChoice::Int64Param(1))];
    let status = infer(&mut client().await, request(&["shoes"], &[], &soon)).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);
}

#[tokio::test]
async fn a_call_needs_no_tenant() {
    let mut client = client().await;
    assert!(client.model_infer(request(&["shoes"], &[], &[])).await.is_ok());
    let server = client.server_metadata(ServerMetadataRequest {}).await.unwrap().into_inner();
    assert_eq!(server.name, "switchboard-model-server");
    assert!(client.server_ready(ServerReadyRequest {}).await.unwrap().into_inner().ready);
}

#[tokio::test]
async fn other_models_and_versions_are_not_found() {
    let mut client = client().await;
    let ask = |name: &str, version: &str| ModelInferRequest {
        model_name: name.into(),
        model_version: version.into(),
        ..request(&["shoes"], &[], &[])
    };
    for (name, version, names) in [("none", "", MODEL), ("", "", MODEL), (MODEL, "2", "version 1")] {
        let status = infer(&mut client, ask(name, version)).await.unwrap_err();
        assert_eq!(status.code(), Code::NotFound);
        assert!(status.message().contains(names), "{status:?}");
        let ready = ModelReadyRequest { name: name.into(), version: version.into() };
        assert!(!client.model_ready(ready).await.unwrap().into_inner().ready);
    }
    assert!(infer(&mut client, ask(MODEL, "1")).await.is_ok());
}

#[tokio::test]
async fn metadata_configuration_and_statistics_tell_of_one_model() {
    let mut client = client().await;
    let (name, version) = (MODEL.to_owned(), "1".to_owned());
    let metadata = ModelMetadataRequest { name: name.clone(), version: version.clone() };
    let metadata = client.model_metadata(metadata).await.unwrap().into_inner();
    assert_eq!((metadata.platform.as_str(), metadata.versions), ("onnxruntime_onnx", vec![version.clone()]));
    let config = ModelConfigRequest { name: name.clone(), version: version.clone() };
    let config = client.model_config(config).await.unwrap().into_inner().config.unwrap();
    let shapes: Vec<_> = metadata.outputs.iter().map(|output| (&output.name, &output.shape)).collect();
    assert_eq!(shapes, config.output.iter().map(|output| (&output.name, &output.dims)).collect::<Vec<_>>());
    assert_eq!(config.parameters["task"].string_value, "embed");

    infer(&mut client, request(&["shoes", "boots"], &[], &[])).await.unwrap();
    let bad = [("prompt", ParameterChoice::StringParam("none".into()))];
    infer(&mut client, request(&["shoes"], &[], &bad)).await.unwrap_err();
    for name in [name, String::new()] {
        let ask = ModelStatisticsRequest { name, version: String::new() };
        let statistics = client.model_statistics(ask).await.unwrap().into_inner().model_stats.remove(0);
        assert_eq!((statistics.name.as_str(), statistics.version.as_str()), (MODEL, "1"));
        assert_eq!(statistics.inference_count, 2);
        assert!((1..=2).contains(&statistics.execution_count), "{statistics:?}");
        let requests = statistics.inference_stats.unwrap();
        assert_eq!(requests.success.unwrap().count, 1);
        assert!(requests.compute_infer.unwrap().ns > 0 && statistics.last_inference > 0);
    }
}

#[tokio::test]
async fn the_repository_is_listed_and_is_not_changed_without_leave() {
    let folder = setup::repository();
    let mut client = GrpcInferenceServiceClient::new(over(folder.path()).await);
    let index = client.repository_index(RepositoryIndexRequest::default()).await.unwrap().into_inner();
    let seen: Vec<_> = index.models.iter().map(|model| (model.name.as_str(), model.state.as_str())).collect();
    assert_eq!(seen, [(MODEL, "READY")]);
    let load = RepositoryModelLoadRequest { model_name: MODEL.into(), ..Default::default() };
    assert_eq!(client.repository_model_load(load).await.unwrap_err().code(), Code::PermissionDenied);
    let unload = RepositoryModelUnloadRequest { model_name: MODEL.into(), ..Default::default() };
    assert_eq!(client.repository_model_unload(unload).await.unwrap_err().code(), Code::PermissionDenied);
    let named = RepositoryIndexRequest { repository_name: "other".into(), ready: false };
    assert_eq!(client.repository_index(named).await.unwrap_err().code(), Code::InvalidArgument);
    let place = folder.path().display().to_string();
    folder.close().unwrap();
    let unreadable = client.repository_index(RepositoryIndexRequest::default()).await.unwrap_err();
    assert_eq!(unreadable.code(), Code::FailedPrecondition);
    assert!(!unreadable.message().contains(&place), "{unreadable:?}");
}

#[tokio::test]
async fn a_stream_tells_of_a_failure_in_its_place() {
    let mut client = client().await;
    let mark = [("triton_enable_empty_final_response", ParameterChoice::BoolParam(true))];
    let good = |id: &str| ModelInferRequest { id: id.into(), ..request(&["shoes"], &["embedding"], &mark) };
    let bad = ModelInferRequest { id: "b".into(), ..request(&[""], &[], &[]) };
    let requests = futures::stream::iter([good("a"), bad, good("c")]);
    let mut replies = client.model_stream_infer(call("acme").request(requests)).await.unwrap().into_inner();
    let mut seen = Vec::new();
    while let Some(reply) = replies.message().await.unwrap() {
        let response = reply.infer_response.unwrap();
        let marked = response.parameters.contains_key("triton_final_response");
        seen.push((response.id, response.outputs.len(), marked, reply.error_message));
    }
    let refusal = "inputs[text][0]: 0 characters; 1 to 32000 are allowed".to_owned();
    let answered = |id: &str| (id.to_owned(), 1, true, String::new());
    assert_eq!(seen, [answered("a"), ("b".into(), 0, false, refusal), answered("c")]);
}

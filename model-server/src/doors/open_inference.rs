//! `inference.GRPCInferenceService`: the Open Inference Protocol, version 2, with Triton's extensions.
//!
//! A model is a function from tensors of texts to tensors of numbers or texts; `tasks` says which ones each
//! task has. Where the protocol leaves something open, this door does as Triton does: outputs are always
//! raw, no named output wants all, and parameters that mean nothing are ignored.

mod catalogue;
mod outputs;
mod parameters;
mod repository;
mod tasks;
mod tensors;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use switchboard_mesh::{Call, Deadline, error, health::Health};
use switchboard_proto::open_inference::{
    InferParameter, ModelConfigRequest, ModelConfigResponse, ModelInferRequest, ModelInferResponse,
    ModelMetadataRequest, ModelMetadataResponse, ModelReadyRequest, ModelReadyResponse,
    ModelStatisticsRequest, ModelStatisticsResponse, ModelStreamInferResponse, RepositoryIndexRequest,
    RepositoryIndexResponse, RepositoryModelLoadRequest, RepositoryModelLoadResponse,
    RepositoryModelUnloadRequest, RepositoryModelUnloadResponse, ServerLiveRequest, ServerLiveResponse,
    ServerMetadataRequest, ServerMetadataResponse, ServerReadyRequest, ServerReadyResponse,
    grpc_inference_service_server::GrpcInferenceService, infer_parameter::ParameterChoice,
};
use tonic::{Request, Response, Status, Streaming, codegen::BoxStream};

use self::parameters::Parameters;
use super::{call_of, shown, stream};
use crate::{error::Error, model::Model, registry::Registry};

/// The one version that a model has.
const VERSION: &str = "1";

/// Messages of a stream that are in work at a time; each may have as many texts as a whole request.
const SIDE_BY_SIDE: usize = 16;

/// The service over the models of this node.
#[derive(Clone)]
pub(super) struct Door {
    registry: Arc<Registry>,
    health: Health,
}

impl Door {
    pub(super) fn new(registry: Arc<Registry>, health: Health) -> Self {
        Self { registry, health }
    }

    fn find(&self, name: &str, version: &str) -> Result<Arc<Model>, Status> {
        let model = self.registry.find(name).map_err(error::status)?;
        check_version(name, version)?;
        Ok(model)
    }

    async fn infer(&self, call: &Call, request: ModelInferRequest) -> Result<ModelInferResponse, Status> {
        let model = self.find(&request.model_name, &request.model_version)?;
        let ModelInferRequest { id, parameters, inputs, outputs, raw_input_contents: raw, .. } = request;
        let parameters = Parameters::read(&parameters).map_err(error::status)?;
        model.reads_texts().map_err(error::status)?;
        let task = &model.card.task;
        let wanted = outputs::wanted(&outputs, &tasks::outputs(&model.card)).map_err(error::status)?;
        let texts = tensors::read(inputs, raw, tasks::inputs(task)).map_err(error::status)?;
        let mut call = call.with_class(parameters.class.unwrap_or(call.class));
        if let Some(timeout) = parameters.timeout {
            call = call.until(Deadline::after(timeout));
        }
        // Nobody waits beyond the timeout, though the call itself may go on for longer.
        let results = call.deadline.limit(tasks::run(&model, texts, &parameters, &call)).await;
        let results = results.unwrap_or(Err(Error::Deadline)).map_err(error::status)?;
        let (outputs, raw_output_contents) = wanted.iter().map(|output| output.write(&results)).unzip();
        Ok(ModelInferResponse {
            model_name: request.model_name,
            model_version: VERSION.into(),
            id,
            parameters: parameters.mark_final.then(final_response).into_iter().collect(),
            outputs,
            raw_output_contents,
        })
    }
}

/// Checks that there is the version that a request names.
fn check_version(model: &str, version: &str) -> Result<(), Status> {
    if version.is_empty() || version == VERSION {
        return Ok(());
    }
    let version = shown(version);
    let message = format!("the model {model} has no version {version}; it has version {VERSION}");
    Err(error::of_kind(error::Kind::NotFound, message))
}

/// Every request has one response, so each is its last.
fn final_response() -> (String, InferParameter) {
    let value = InferParameter { parameter_choice: Some(ParameterChoice::BoolParam(true)) };
    ("triton_final_response".into(), value)
}

#[tonic::async_trait]
impl GrpcInferenceService for Door {
    async fn server_live(
        &self,
        _: Request<ServerLiveRequest>,
    ) -> Result<Response<ServerLiveResponse>, Status> {
        Ok(Response::new(ServerLiveResponse { live: true }))
    }

    async fn server_ready(
        &self,
        _: Request<ServerReadyRequest>,
    ) -> Result<Response<ServerReadyResponse>, Status> {
        Ok(Response::new(ServerReadyResponse { ready: self.health.ready() }))
    }

    async fn model_ready(
        &self,
        request: Request<ModelReadyRequest>,
    ) -> Result<Response<ModelReadyResponse>, Status> {
        let ModelReadyRequest { name, version } = request.into_inner();
        Ok(Response::new(ModelReadyResponse { ready: self.find(&name, &version).is_ok() }))
    }

    async fn server_metadata(
        &self,
        _: Request<ServerMetadataRequest>,
    ) -> Result<Response<ServerMetadataResponse>, Status> {
        Ok(Response::new(catalogue::server()))
    }

    async fn model_metadata(
        &self,
        request: Request<ModelMetadataRequest>,
    ) -> Result<Response<ModelMetadataResponse>, Status> {
        let ModelMetadataRequest { name, version } = request.into_inner();
        Ok(Response::new(catalogue::metadata(&self.find(&name, &version)?.card)))
    }

    async fn model_infer(
        &self,
        request: Request<ModelInferRequest>,
    ) -> Result<Response<ModelInferResponse>, Status> {
        let call = call_of(&request)?;
        self.infer(&call, request.into_inner()).await.map(Response::new)
    }

    type ModelStreamInferStream = BoxStream<ModelStreamInferResponse>;

    async fn model_stream_infer(
        &self,
        request: Request<Streaming<ModelInferRequest>>,
    ) -> Result<Response<Self::ModelStreamInferStream>, Status> {
        let call = call_of(&request)?;
        let door = self.clone();
        let answer = move |request: ModelInferRequest| {
            let (door, call, id) = (door.clone(), call.for_message(), request.id.clone());
            async move {
                Ok(match door.infer(&call, request).await {
                    Ok(response) => ModelStreamInferResponse {
                        error_message: String::new(),
                        infer_response: Some(response),
                    },
                    // The id tells the caller which of its requests it was.
                    Err(status) => ModelStreamInferResponse {
                        error_message: status.message().into(),
                        infer_response: Some(ModelInferResponse { id, ..ModelInferResponse::default() }),
                    },
                })
            }
        };
        Ok(Response::new(stream::answers(request.into_inner(), SIDE_BY_SIDE, answer)))
    }

    async fn model_config(
        &self,
        request: Request<ModelConfigRequest>,
    ) -> Result<Response<ModelConfigResponse>, Status> {
        let ModelConfigRequest { name, version } = request.into_inner();
        let config = catalogue::config(&self.find(&name, &version)?.card);
        Ok(Response::new(ModelConfigResponse { config: Some(config) }))
    }

    async fn model_statistics(
        &self,
        request: Request<ModelStatisticsRequest>,
    ) -> Result<Response<ModelStatisticsResponse>, Status> {
        let ModelStatisticsRequest { name, version } = request.into_inner();
        let models = match name.is_empty() {
            true => {
                check_version("of any name", &version)?;
                self.registry.list()
            }
            false => vec![self.find(&name, &version)?],
        };
        let model_stats = models.iter().map(|model| catalogue::statistics(model)).collect();
        Ok(Response::new(ModelStatisticsResponse { model_stats }))
    }

    async fn repository_index(
        &self,
        request: Request<RepositoryIndexRequest>,
    ) -> Result<Response<RepositoryIndexResponse>, Status> {
        repository::index(&self.registry, &request.into_inner()).map(Response::new).map_err(error::status)
    }

    async fn repository_model_load(
        &self,
        request: Request<RepositoryModelLoadRequest>,
    ) -> Result<Response<RepositoryModelLoadResponse>, Status> {
        repository::load(&self.registry, &request.into_inner())
            .await
            .map(Response::new)
            .map_err(error::status)
    }

    async fn repository_model_unload(
        &self,
        request: Request<RepositoryModelUnloadRequest>,
    ) -> Result<Response<RepositoryModelUnloadResponse>, Status> {
        repository::unload(&self.registry, &request.into_inner())
            .await
            .map(Response::new)
            .map_err(error::status)
    }
}

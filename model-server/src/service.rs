//! `InferenceService`: decode, check, call the model, encode.

use std::{
    hash::{BuildHasher as _, RandomState},
    sync::Arc,
    time::Duration,
};

use switchboard_mesh::{Call, error};
use switchboard_proto::inference::v1::{
    AlternativeToken, Classification as ClassificationMessage, ClassifyRequest, ClassifyResponse,
    DetectSpeechRequest, DetectSpeechResponse, EmbedRequest, EmbedResponse, GenerateRequest,
    GenerateResponse, Label as LabelMessage, ListModelsRequest, ListModelsResponse, Model as ModelMessage,
    ModelProfile, ProfileCell, ProfileRequest, ProfileResponse, RerankRequest, RerankResponse,
    Segment as SegmentMessage, Speech as SpeechMessage, Task as TaskMessage, TokenLogprob, TranscribeRequest,
    TranscribeResponse, Truncation as TruncationMessage, Vector, generate_request,
    inference_service_server::InferenceService,
};
use tonic::{Request, Response, Status};

use crate::{
    bounds,
    error::Error,
    generate::{Chunk, Ending, Rule, Sampling},
    model::{ClassifyOptions, EmbedOptions, GenerateOptions, Model, Prompt, Writing},
    registry::Registry,
    repository::{Task, TaskName},
    tokenize::Truncation,
    transcribe::{RATE, Segment, TranscribeOptions},
    vad::{Rate, Sensitivity},
};

/// Tokens that a request may ask for.
const MOST_TOKENS: u32 = 32_768;

/// The service over the models of this node.
pub(crate) struct Service {
    registry: Arc<Registry>,
}

impl Service {
    pub(crate) fn new(registry: Arc<Registry>) -> Self {
        Self { registry }
    }
}

/// What a request to continue a prompt asks for.
fn generation(request: GenerateRequest) -> Result<(Prompt, GenerateOptions), Error> {
    let prompt = match (request.messages.is_empty(), request.prompt.is_empty()) {
        (false, true) => Prompt::Messages {
            messages: request.messages.into_iter().map(|message| (message.role, message.content)).collect(),
            tools: request.tools,
        },
        (true, false) => Prompt::Text(request.prompt),
        _ => return Err(Error::invalid("messages", "either messages or a prompt is wanted")),
    };
    let usual = |value: f32| if value == 0.0 { 1.0 } else { value };
    let sampling = Sampling {
        temperature: request.temperature,
        top_k: request.top_k,
        top_p: usual(request.top_p),
        repetition_penalty: usual(request.repetition_penalty),
        seed: if request.seed == 0 { seed() } else { request.seed },
        logprobs: request.logprobs,
    };
    if request.max_tokens > MOST_TOKENS {
        let problem = format!("{}; 0 to {MOST_TOKENS} is allowed", request.max_tokens);
        return Err(Error::invalid("max_tokens", problem));
    }
    let rule = request.constraint.map(|constraint| match constraint {
        generate_request::Constraint::JsonSchema(schema) => Rule::JsonSchema(schema),
        generate_request::Constraint::Regex(regex) => Rule::Regex(regex),
        generate_request::Constraint::Grammar(grammar) => Rule::Lark(grammar),
    });
    let (max_tokens, stop) = (request.max_tokens as usize, request.stop);
    Ok((prompt, GenerateOptions { max_tokens, sampling, stop, rule }))
}

/// A seed that nobody chose.
fn seed() -> u64 {
    RandomState::new().hash_one(0)
}

fn generated(chunk: Chunk, writing: &Writing) -> GenerateResponse {
    let token = |id, logprob| AlternativeToken { id, text: writing.token(id), logprob };
    let logprob = chunk.odds.map(|odds| TokenLogprob {
        chosen: Some(token(chunk.token, odds.logprob)),
        top: odds.top.into_iter().map(|(id, logprob)| token(id, logprob)).collect(),
    });
    let finish_reason = match chunk.ending {
        None => "",
        Some(Ending::Stop) => "stop",
        Some(Ending::Length) => "length",
    };
    GenerateResponse {
        text: chunk.text,
        tokens: chunk.tokens as u32,
        finish_reason: finish_reason.into(),
        logprob,
        prompt_tokens: writing.prompt_tokens as u32,
    }
}

fn truncation(message: TruncationMessage) -> Truncation {
    match message {
        TruncationMessage::Unspecified | TruncationMessage::End => Truncation::End,
        TruncationMessage::Start => Truncation::Start,
        TruncationMessage::Refuse => Truncation::Refuse,
    }
}

fn embed_options(request: &EmbedRequest) -> EmbedOptions {
    EmbedOptions {
        prompt: request.prompt.clone(),
        normalize: request.normalize,
        dimensions: request.dimensions as usize,
        truncation: truncation(request.truncation()),
    }
}

fn label(label: crate::labels::Label) -> LabelMessage {
    let (start, end) = (label.span.0 as u32, label.span.1 as u32);
    LabelMessage { name: label.name, score: label.score, start, end }
}

fn segment(segment: Segment) -> SegmentMessage {
    SegmentMessage {
        start: seconds(segment.start),
        end: seconds(segment.end),
        text: segment.text,
        confidence: segment.confidence,
        no_speech: segment.no_speech,
    }
}

/// When speech begins and ends, as a request says it.
fn sensitivity(request: &DetectSpeechRequest) -> Result<Sensitivity, Error> {
    const LONGEST: Duration = Duration::from_secs(10);
    let usual = Sensitivity::default();
    let threshold = match request.threshold {
        0.0 => usual.threshold,
        set if set > 0.0 && set < 1.0 => set,
        other => return Err(Error::invalid("threshold", format!("{other}; above 0 and below 1 is allowed"))),
    };
    let time = |field: &str, set: &Option<prost_types::Duration>, usual: Duration| match set {
        None => Ok(usual),
        Some(set) => match Duration::try_from(*set) {
            Ok(time) if time <= LONGEST => Ok(time),
            _ => Err(Error::invalid(field, format!("{set}; 0 s to 10 s is allowed"))),
        },
    };
    Ok(Sensitivity {
        threshold,
        min_speech: time("min_speech", &request.min_speech, usual.min_speech)?,
        min_silence: time("min_silence", &request.min_silence, usual.min_silence)?,
        pad: time("pad", &request.pad, usual.pad)?,
    })
}

fn seconds(time: Duration) -> Option<prost_types::Duration> {
    time.try_into().ok()
}

fn describe(model: &Model) -> ModelMessage {
    let card = &model.card;
    let (task, dimensions) = match card.task {
        Task::Embed { .. } => (TaskMessage::Embed, card.dimensions),
        Task::CrossEncoder | Task::LateInteraction(_) => (TaskMessage::Rerank, 0),
        Task::Sequence { .. } | Task::Tokens { .. } => (TaskMessage::Classify, 0),
        Task::Transcribe(_) => (TaskMessage::Transcribe, 0),
        Task::DetectSpeech => (TaskMessage::DetectSpeech, 0),
        Task::Generate(_) => (TaskMessage::Generate, 0),
    };
    ModelMessage {
        name: card.name.clone(),
        task: task.into(),
        dimensions: dimensions as u32,
        max_tokens: card.max_tokens as u32,
        backend: card.backend.into(),
        fingerprint: card.fingerprint.clone(),
        labels: card.task.labels().to_vec(),
        prompts: card.task.prompts(),
    }
}

fn profile(model: &Model) -> ModelProfile {
    let (profile, backlog) = model.profile();
    let cells = profile.iter().map(|cell| ProfileCell {
        batch: cell.batch as u32,
        tokens: cell.tokens as u32,
        latency: Duration::try_from_secs_f64(cell.seconds).ok().and_then(seconds),
        samples: cell.samples,
    });
    ModelProfile {
        model: model.card.name.clone(),
        instances: model.card.layout.instances as u32,
        threads: model.card.layout.threads as u32,
        cells: cells.collect(),
        backlog: seconds(backlog),
    }
}

#[tonic::async_trait]
impl InferenceService for Service {
    async fn embed(&self, request: Request<EmbedRequest>) -> Result<Response<EmbedResponse>, Status> {
        let call = Call::of(&request)?;
        call.tenant()?;
        let request = request.into_inner();
        bounds::texts("texts", &request.texts).map_err(error::status)?;
        let model = self.registry.for_task(&request.model, TaskName::Embed).map_err(error::status)?;
        let options = embed_options(&request);
        let answer = model.embed(request.texts, options, &call).await.map_err(error::status)?;
        let vectors = answer.rows.into_iter().map(|row| Vector {
            values: row.values,
            tokens: row.tokens as u32,
            truncated: row.truncated,
        });
        Ok(Response::new(EmbedResponse {
            vectors: vectors.collect(),
            model: model.card.name.clone(),
            fingerprint: model.card.fingerprint.clone(),
        }))
    }

    async fn rerank(&self, request: Request<RerankRequest>) -> Result<Response<RerankResponse>, Status> {
        let call = Call::of(&request)?;
        call.tenant()?;
        let request = request.into_inner();
        bounds::one("query", &request.query, bounds::MOST_QUERY).map_err(error::status)?;
        bounds::texts("texts", &request.texts).map_err(error::status)?;
        let model = self.registry.for_task(&request.model, TaskName::Rerank).map_err(error::status)?;
        let (raw, truncation) = (request.raw_scores, truncation(request.truncation()));
        let answer = model.rerank(request.query, request.texts, raw, truncation, &call).await;
        let scores = answer.map_err(error::status)?.rows;
        Ok(Response::new(RerankResponse { scores, model: model.card.name.clone() }))
    }

    type GenerateStream = tonic::codegen::BoxStream<GenerateResponse>;

    async fn generate(
        &self,
        request: Request<GenerateRequest>,
    ) -> Result<Response<Self::GenerateStream>, Status> {
        let call = Call::of(&request)?;
        call.tenant()?;
        let request = request.into_inner();
        let model = self.registry.for_task(&request.model, TaskName::Generate).map_err(error::status)?;
        let (prompt, options) = generation(request).map_err(error::status)?;
        let writing = model.generate(prompt, options, &call).await.map_err(error::status)?;
        Ok(Response::new(Box::pin(futures::stream::unfold(writing, async |mut writing| {
            let step = writing.next().await?;
            let step = step.map(|chunk| generated(chunk, &writing)).map_err(error::status);
            Some((step, writing))
        }))))
    }

    async fn transcribe(
        &self,
        request: Request<TranscribeRequest>,
    ) -> Result<Response<TranscribeResponse>, Status> {
        let call = Call::of(&request)?;
        call.tenant()?;
        let request = request.into_inner();
        let TranscribeRequest { model, samples, locale, prompt, without_timestamps, translate } = request;
        bounds::optional("locale", &locale, bounds::MOST_LOCALE).map_err(error::status)?;
        bounds::optional("prompt", &prompt, bounds::MOST_PROMPT).map_err(error::status)?;
        let model = self.registry.for_task(&model, TaskName::Transcribe).map_err(error::status)?;
        let longest = self.registry.longest_audio();
        bounds::samples("samples", &samples, RATE as u32, longest).map_err(error::status)?;
        let options = TranscribeOptions { locale, prompt, without_timestamps, translate };
        let transcript = model.transcribe(samples, options, &call).await.map_err(error::status)?;
        Ok(Response::new(TranscribeResponse {
            text: transcript.text,
            locale: transcript.locale,
            confidence: transcript.confidence,
            segments: transcript.segments.into_iter().map(segment).collect(),
            model: model.card.name.clone(),
            fingerprint: model.card.fingerprint.clone(),
        }))
    }

    async fn detect_speech(
        &self,
        request: Request<DetectSpeechRequest>,
    ) -> Result<Response<DetectSpeechResponse>, Status> {
        let call = Call::of(&request)?;
        call.tenant()?;
        let request = request.into_inner();
        let rate = if request.sample_rate == 0 { Ok(Rate::Wide) } else { Rate::new(request.sample_rate) };
        let rate = rate.map_err(error::status)?;
        let sensitivity = sensitivity(&request).map_err(error::status)?;
        let model = self.registry.for_task(&request.model, TaskName::DetectSpeech).map_err(error::status)?;
        let longest = self.registry.longest_audio();
        bounds::samples("samples", &request.samples, rate.hertz(), longest).map_err(error::status)?;
        let found = model.detect_speech(&request.samples, rate, sensitivity, &call).await;
        let speech = |speech: crate::vad::Speech| SpeechMessage {
            start: seconds(rate.time(speech.start)),
            end: seconds(rate.time(speech.end)),
        };
        let speeches = found.map_err(error::status)?.into_iter().map(speech).collect();
        Ok(Response::new(DetectSpeechResponse { speeches, model: model.card.name.clone() }))
    }

    async fn classify(
        &self,
        request: Request<ClassifyRequest>,
    ) -> Result<Response<ClassifyResponse>, Status> {
        let call = Call::of(&request)?;
        call.tenant()?;
        let request = request.into_inner();
        bounds::texts("texts", &request.texts).map_err(error::status)?;
        if !request.second_texts.is_empty() {
            bounds::texts("second_texts", &request.second_texts).map_err(error::status)?;
        }
        let model = self.registry.for_task(&request.model, TaskName::Classify).map_err(error::status)?;
        let options = ClassifyOptions {
            raw_scores: request.raw_scores,
            each_token: request.each_token,
            truncation: truncation(request.truncation()),
        };
        let answer = model.classify(request.texts, request.second_texts, options, &call).await;
        let results = answer.map_err(error::status)?.rows.into_iter().map(|row| ClassificationMessage {
            labels: row.labels.into_iter().map(label).collect(),
            tokens: row.tokens as u32,
            truncated: row.truncated,
        });
        Ok(Response::new(ClassifyResponse {
            results: results.collect(),
            model: model.card.name.clone(),
            fingerprint: model.card.fingerprint.clone(),
        }))
    }

    async fn list_models(
        &self,
        request: Request<ListModelsRequest>,
    ) -> Result<Response<ListModelsResponse>, Status> {
        Call::of(&request)?.tenant()?;
        let models = self.registry.list();
        Ok(Response::new(ListModelsResponse { models: models.iter().map(|model| describe(model)).collect() }))
    }

    async fn profile(&self, request: Request<ProfileRequest>) -> Result<Response<ProfileResponse>, Status> {
        Call::of(&request)?.tenant()?;
        let models = match request.into_inner().model {
            name if name.is_empty() => self.registry.list(),
            name => vec![self.registry.find(&name).map_err(error::status)?],
        };
        Ok(Response::new(ProfileResponse { models: models.iter().map(|model| profile(model)).collect() }))
    }
}

#[cfg(test)]
mod speech;

#[cfg(test)]
mod tests {
    use switchboard_mesh::testing::{call, context, serve};
    use switchboard_proto::inference::v1::inference_service_client::InferenceServiceClient;
    use tonic::Code;

    use super::*;
    use crate::{Config, setup, start};

    async fn client() -> InferenceServiceClient<switchboard_mesh::Channel> {
        let folder = setup::repository();
        let config =
            Config { repository: folder.path().to_owned(), runtime: setup::runtime(), ..Config::default() };
        let mounted = start(config, &context(folder.path())).await.unwrap();
        InferenceServiceClient::new(serve(&mounted))
    }

    fn request(model: &str, texts: Vec<String>) -> Request<EmbedRequest> {
        call("acme").request(EmbedRequest { model: model.into(), texts, ..EmbedRequest::default() })
    }

    #[tokio::test]
    async fn the_first_model_embeds_when_none_is_named() {
        let mut client = client().await;
        let texts = vec!["shoes".to_owned(), "a longer text about shoes".to_owned()];
        let reply = client.embed(request("", texts)).await.unwrap().into_inner();
        assert_eq!(reply.model, "all-MiniLM-L6-v2");
        assert_eq!(reply.vectors.iter().map(|vector| vector.values.len()).collect::<Vec<_>>(), [384, 384]);
        assert_eq!(reply.vectors[0].tokens, 3);
    }

    #[tokio::test]
    async fn requests_out_of_bounds_are_refused() {
        let mut client = client().await;
        for texts in [
            vec![],
            vec![String::new()],
            vec!["a".into(); bounds::MOST_TEXTS + 1],
            vec!["ok".into(), "é".repeat(bounds::MOST_CHARACTERS + 1)],
        ] {
            assert_eq!(client.embed(request("", texts)).await.unwrap_err().code(), Code::InvalidArgument);
        }
        let long = client
            .embed(request("", vec!["é ".repeat(bounds::MOST_CHARACTERS / 2)]))
            .await
            .unwrap()
            .into_inner();
        assert!(long.vectors[0].truncated && long.vectors[0].tokens == 256);
        let unknown = client.embed(request("none", vec!["a".into()])).await.unwrap_err();
        assert_eq!(unknown.code(), Code::NotFound);
        assert!(unknown.message().contains("all-MiniLM-L6-v2"));
    }

    #[tokio::test]
    async fn tasks_without_a_model_say_so() {
        let mut client = client().await;
        let texts = vec!["a".to_owned()];
        let rerank = RerankRequest { query: "q".into(), texts: texts.clone(), ..RerankRequest::default() };
        let classify = ClassifyRequest { texts, ..ClassifyRequest::default() };
        let codes = [
            client.rerank(call("acme").request(rerank)).await.unwrap_err().code(),
            client.generate(call("acme").request(GenerateRequest::default())).await.unwrap_err().code(),
            client.transcribe(call("acme").request(TranscribeRequest::default())).await.unwrap_err().code(),
            client.classify(call("acme").request(classify)).await.unwrap_err().code(),
        ];
        assert_eq!(codes, [Code::FailedPrecondition; 4]);
    }

    #[tokio::test]
    async fn models_are_listed() {
        let reply = client().await.list_models(call("acme").request(ListModelsRequest {})).await.unwrap();
        let models = reply.into_inner().models;
        assert_eq!(models.len(), 1);
        assert_eq!(
            (models[0].task(), models[0].dimensions, models[0].max_tokens),
            (TaskMessage::Embed, 384, 256)
        );
        assert_eq!((models[0].backend.as_str(), models[0].fingerprint.len()), ("onnx/cpu", 32));
    }
}

//! `GenerationService`: decode, route, run the card, encode.

use std::{pin::Pin, sync::Arc, time::Duration};

use futures::{FutureExt as _, Stream, StreamExt as _, stream};
use switchboard_mesh::{self as mesh, Channel, error};
use switchboard_proto::{
    generation::v1::{
        Citation, Finish, FinishReason, GenerateRequest, GenerateResponse, ListModelsRequest,
        ListModelsResponse, ReplySentence, RouteRequest, RouteResponse, generate_response::Event,
        generation_service_server::GenerationService,
    },
    inference::v1::inference_service_client::InferenceServiceClient,
    knowledge::v1::Hit,
};
use switchboard_text::words::Language;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use crate::{
    Config,
    catalogue::{self, Catalogue, LanguageModel, Needs},
    config::is_tag,
    error::Error,
    extractive::{self, Reply, Task, Verdict},
    metrics,
    prompt::{self, Asked, Prompt},
    sources::{Sources, citing, text_of},
    writer::{self, Order, Writer},
};

const MAX_QUESTION_CHARACTERS: usize = 8_000;
const MAX_EVIDENCE: usize = 100;
const MAX_PASSAGE_SENTENCES: usize = 256;
const MAX_PASSAGE_BYTES: usize = 64 * 1024;
const MAX_TERMS: usize = 1_000;
const MAX_SENTENCES: u32 = 50;
const DEFAULT_SENTENCES: u32 = 5;
/// Bytes of the best passage where only the number of passages is known: as long as knowledge cuts them.
const USUAL_PASSAGE: usize = 500;

pub(crate) struct Generation {
    config: Config,
    catalogue: Catalogue,
    prompt: Arc<Prompt>,
    inference: InferenceServiceClient<Channel>,
}

type Events = Pin<Box<dyn Stream<Item = Result<GenerateResponse, Status>> + Send>>;

impl Generation {
    pub(crate) fn new(config: Config, prompt: Arc<Prompt>, inference: Channel) -> Self {
        let catalogue = Catalogue::new(&config, Arc::clone(&prompt));
        Self { config, catalogue, prompt, inference: writer::client(inference) }
    }

    /// A reply by a language model.
    async fn write(
        &self,
        model: &Arc<LanguageModel>,
        request: GenerateRequest,
        route: RouteResponse,
        call: &mesh::Call,
    ) -> Result<Events, Status> {
        let task = task(&request, self.config.min_answerability);
        let Verdict { answerability, .. } = extractive::answer(task);
        let (language, wanted) = (task.language, wanted(&request));
        let finish = Finish { answerability, ..Finish::default() };
        let question = prompt::flat(task.question);
        let (lines, mut hits): (Vec<String>, Vec<Hit>) =
            request.evidence.into_iter().filter_map(|hit| Some((line(&hit)?, hit))).unzip();
        if lines.is_empty() {
            // Without a passage there is nothing that could be cited.
            metrics::reply(&model.name, "insufficient_evidence");
            let reason = FinishReason::InsufficientEvidence.into();
            return Ok(all(vec![Event::Route(route), Event::Finish(Finish { reason, ..finish })]));
        }
        let asked = Asked { question: &question, language: &request.locale, passages: &lines };
        let prompt = self.prompt.write(&model.card, asked).map_err(|e| error::status(Error::Prompt(e)))?;
        hits.truncate(prompt.passages);
        // While the node reads the prompt.
        let sources = tokio::task::spawn_blocking(move || Sources::read(hits, language));
        let order = Order { model: Arc::clone(model), prompt, sources, wanted };
        let writer = Writer::open(self.inference.clone(), call, order).await?;
        let (events, received) = mpsc::channel(4);
        // The reply is polled by the response stream itself: when the caller goes, it stops.
        let running = writer.run(finish, events).into_stream().filter_map(|()| async { None });
        let first = stream::iter([Ok(GenerateResponse { event: Some(Event::Route(route)) })]);
        Ok(Box::pin(first.chain(stream::select(ReceiverStream::new(received), running))))
    }
}

#[tonic::async_trait]
impl GenerationService for Generation {
    type GenerateStream = Events;

    async fn generate(
        &self,
        request: Request<GenerateRequest>,
    ) -> Result<Response<Self::GenerateStream>, Status> {
        let call = mesh::Call::of(&request)?;
        call.tenant()?;
        let request = request.into_inner();
        check(&request).map_err(error::status)?;
        let needs = Needs {
            model: &request.model,
            locale: &request.locale,
            question_bytes: asked(&request).len(),
            passage_bytes: request.evidence.iter().find_map(line).map_or(0, |line| line.len()),
        };
        let route = self.catalogue.route(&needs).map_err(error::status)?;
        let events = match self.catalogue.language_model(&route.model) {
            Some(model) => self.write(model, request, route, &call).await?,
            // Picking sentences out of a hundred passages takes well under a millisecond.
            None => all(extract(&request, route, self.config.min_answerability)),
        };
        Ok(Response::new(events))
    }

    async fn route(&self, request: Request<RouteRequest>) -> Result<Response<RouteResponse>, Status> {
        let call = mesh::Call::of(&request)?;
        call.tenant()?;
        let request = request.into_inner();
        question(&request.question).map_err(error::status)?;
        locale(&request.locale).map_err(error::status)?;
        if let Some(left) = request.time_left
            && Duration::try_from(left).is_err()
        {
            return Err(error::invalid("time_left", "a duration of zero or more"));
        }
        let needs = Needs {
            model: &request.model,
            locale: &request.locale,
            question_bytes: request.question.len(),
            passage_bytes: if request.evidence_passages == 0 { 0 } else { USUAL_PASSAGE },
        };
        self.catalogue.route(&needs).map(Response::new).map_err(error::status)
    }

    async fn list_models(
        &self,
        _: Request<ListModelsRequest>,
    ) -> Result<Response<ListModelsResponse>, Status> {
        Ok(Response::new(ListModelsResponse { models: self.catalogue.cards().to_vec() }))
    }
}

fn all(events: Vec<Event>) -> Events {
    Box::pin(stream::iter(events.into_iter().map(|event| Ok(GenerateResponse { event: Some(event) }))))
}

fn question(text: &str) -> Result<(), Error> {
    if text.trim().is_empty() || text.chars().count() > MAX_QUESTION_CHARACTERS {
        return Err(Error::Invalid {
            field: "question",
            allowed: "1 to 8,000 characters, not all of them blank",
        });
    }
    Ok(())
}

fn locale(tag: &str) -> Result<(), Error> {
    if is_tag(tag) {
        Ok(())
    } else {
        Err(Error::Invalid { field: "locale", allowed: "a BCP 47 tag such as `en` or `de-AT`, or empty" })
    }
}

/// Whether a passage is larger than any that knowledge hands out: weighing it could take long.
fn too_long(hit: &Hit) -> bool {
    let sentences: usize = hit.sentences.iter().map(|sentence| sentence.text.len()).sum();
    let headings = hit
        .passage
        .as_ref()
        .map_or(0, |p| p.title.len() + p.heading_path.iter().map(String::len).sum::<usize>());
    let text = hit.passage.as_ref().map_or(0, |passage| passage.text.len());
    hit.sentences.len() > MAX_PASSAGE_SENTENCES || sentences.max(text) + headings > MAX_PASSAGE_BYTES
}

fn check(request: &GenerateRequest) -> Result<(), Error> {
    question(&request.question)?;
    locale(&request.locale)?;
    if request.resolved_question.chars().count() > 2 * MAX_QUESTION_CHARACTERS {
        return Err(Error::Invalid { field: "resolved_question", allowed: "at most 16,000 characters" });
    }
    if request.evidence.len() > MAX_EVIDENCE {
        return Err(Error::Invalid { field: "evidence", allowed: "at most 100 passages" });
    }
    if request.evidence.iter().any(too_long) {
        return Err(Error::Invalid {
            field: "evidence",
            allowed: "passages of at most 256 sentences and 64 KiB of text, title and headings",
        });
    }
    if request.unknown_terms.len() > MAX_TERMS {
        return Err(Error::Invalid { field: "unknown_terms", allowed: "at most 1,000 terms" });
    }
    if request.max_sentences > MAX_SENTENCES {
        return Err(Error::Invalid { field: "max_sentences", allowed: "0 (takes 5) to 50" });
    }
    Ok(())
}

/// The question with what it leans on.
fn asked(request: &GenerateRequest) -> &str {
    if request.resolved_question.is_empty() { &request.question } else { &request.resolved_question }
}

fn wanted(request: &GenerateRequest) -> u32 {
    if request.max_sentences == 0 { DEFAULT_SENTENCES } else { request.max_sentences }
}

/// A hit as a prompt has it; none for one without a passage.
fn line(hit: &Hit) -> Option<String> {
    let passage = hit.passage.as_ref()?;
    let text = text_of(&passage.text, &hit.sentences);
    (!text.trim().is_empty()).then(|| prompt::line(passage, &text))
}

fn task(request: &GenerateRequest, min_answerability: f32) -> Task<'_> {
    let question = asked(request);
    let language = match request.locale.as_str() {
        "" => extractive::language_of(question),
        tag => Language::of_tag(tag),
    };
    Task {
        asked: &request.question,
        question,
        evidence: &request.evidence,
        language,
        unknown_terms: &request.unknown_terms,
        max_sentences: wanted(request) as usize,
        min_answerability,
    }
}

fn extract(request: &GenerateRequest, route: RouteResponse, min_answerability: f32) -> Vec<Event> {
    let verdict = extractive::answer(task(request, min_answerability));
    let mut finish = Finish { answerability: verdict.answerability, ..Finish::default() };
    let mut events = vec![Event::Route(route)];
    let (reason, label) = match verdict.reply {
        Reply::Answer(positions) => {
            let sentences =
                positions.into_iter().filter_map(|(hit, sentence)| cite(&request.evidence[hit], sentence));
            events.extend(sentences.map(Event::Sentence));
            (FinishReason::Complete, "complete")
        }
        Reply::Unanswerable => (FinishReason::InsufficientEvidence, "insufficient_evidence"),
        Reply::Clarify(topics) => {
            finish.clarification = clarification(&topics, &request.locale);
            (FinishReason::NeedsClarification, "needs_clarification")
        }
    };
    metrics::reply(catalogue::EXTRACTIVE, label);
    finish.reason = reason.into();
    events.push(Event::Finish(finish));
    events
}

fn cite(hit: &Hit, sentence: usize) -> Option<ReplySentence> {
    let passage = hit.passage.as_ref()?;
    let sentence = hit.sentences.get(sentence)?;
    let citation = Citation {
        start: sentence.start,
        end: sentence.end,
        quote: sentence.text.clone(),
        support: 1.0,
        ..citing(passage)
    };
    let text = sentence.text.split_whitespace().collect::<Vec<_>>().join(" ");
    Some(ReplySentence { text, citations: vec![citation] })
}

fn clarification(topics: &[String], locale: &str) -> String {
    let (last, first) = topics.split_last().map_or(("", &[][..]), |(last, first)| (last.as_str(), first));
    let list = first.join(", ");
    if locale.starts_with("de") {
        format!("Worum geht es Ihnen: {list} oder {last}?")
    } else {
        format!("Which of these do you mean: {list} or {last}?")
    }
}

#[cfg(test)]
mod tests {
    use switchboard_mesh::testing;
    use switchboard_proto::generation::v1::generation_service_client::GenerationServiceClient;

    use super::*;

    async fn client() -> GenerationServiceClient<mesh::Channel> {
        let folder = std::env::temp_dir();
        let mounted = crate::start(Config::default(), &testing::context(&folder)).await.unwrap();
        GenerationServiceClient::new(testing::serve(&mounted))
    }

    #[tokio::test]
    async fn a_reply_begins_with_its_route_and_ends_with_its_finish() {
        let request = GenerateRequest { question: "When do you open?".into(), ..GenerateRequest::default() };
        let mut events =
            client().await.generate(testing::call("acme").request(request)).await.unwrap().into_inner();
        let first = events.message().await.unwrap().unwrap().event.unwrap();
        assert!(matches!(first, Event::Route(route) if route.model == catalogue::EXTRACTIVE));
        let last = events.message().await.unwrap().unwrap().event.unwrap();
        assert!(matches!(last, Event::Finish(f) if f.reason() == FinishReason::InsufficientEvidence));
        assert!(events.message().await.unwrap().is_none());
    }

    #[tokio::test]
    async fn a_blank_question_names_its_field() {
        let request = GenerateRequest { question: "  ".into(), ..GenerateRequest::default() };
        let status = client().await.generate(testing::call("acme").request(request)).await.unwrap_err();
        assert_eq!(status.code(), tonic::Code::InvalidArgument);
        assert!(status.message().contains("8,000"));
    }
}

//! `POST /v1/converse`: a turn as JSON, or event by event.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    Extension, Json,
    extract::{Request, State},
    response::{
        IntoResponse, Response,
        sse::{Event as Frame, KeepAlive, Sse},
    },
};
use http::{HeaderMap, StatusCode, Uri, header};
use mesh::{Call, Channel, Class, Deadline, overload::Place as Admitted};
use proto::conversation::v1::{
    self as conversation, ConverseResponse, conversation_service_client::ConversationServiceClient,
    converse_response::Event,
};
use serde::{Deserialize, Serialize};
use switchboard_mesh as mesh;
use switchboard_proto as proto;
use tonic::{Code, Status, Streaming};

use crate::{
    auth::{Door, Place},
    body, json,
    keys::Grant,
    problem::Problem,
};

/// A budget is soft and a deadline hard: the turn gets this much past its budget to end well.
const MARGIN: Duration = Duration::from_secs(2);

/// What a turn is called over gRPC, so that both doors share a limit.
const CONVERSE: &str = "/switchboard.conversation.v1.ConversationService/Converse";

/// What the handler works with.
#[derive(Clone)]
pub(crate) struct Turns {
    pub(crate) door: Arc<Door>,
    pub(crate) conversation: Channel,
}

/// The request's body.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Ask {
    text: String,
    conversation_id: Option<String>,
    channel: Option<Medium>,
    locale: Option<String>,
    audiences: Option<Vec<String>>,
    product: Option<String>,
    jurisdiction: Option<String>,
    budget: Option<Budget>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Medium {
    Chat,
    Voice,
    Email,
    Social,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Budget {
    first_sentence_ms: Option<f64>,
    whole_ms: Option<f64>,
}

/// Runs a turn. Dropping the response, or the wait for it, cancels the turn.
pub(crate) async fn converse(
    State(turns): State<Turns>,
    Extension(Grant { tenant, .. }): Extension<Grant>,
    request: Request,
) -> Result<Response, Problem> {
    let door = &turns.door;
    let latest = Deadline::after(door.config.request_time);
    let (parts, body) = request.into_parts();
    // Who it is came before what they send: nobody unknown makes us read a body or takes a place.
    let place = door.enter(&tenant)?;
    let stream = wants_events(&parts.headers, &parts.uri)?;
    let ask: Ask =
        body::json(&parts.headers, body, door.config.max_body_bytes, door.config.body_time).await?;
    let (message, budget) = ask.into_message()?;
    let deadline = budget.map_or(latest, |budget| latest.min(Deadline::after(budget.saturating_add(MARGIN))));
    // As the turn will have it, so that it is counted and let in as what it is.
    let class = match message.channel() {
        conversation::Channel::Voice => Class::Voice,
        conversation::Channel::Email => Class::Batch,
        _ => Class::Chat,
    };
    let call = Call::new(tenant, deadline).with_class(class);
    door.count(&call).await?;
    let mut upstream = Upstream::open(&turns, &call, message).await?;
    // A turn that is refused is refused by a status, so the first event decides how to answer.
    let first = upstream.message().await?;
    let events = Events { upstream, next: first, seen: Vec::new(), place };
    let mut response =
        if stream { events.into_sse() } else { Json(events.into_turn().await?).into_response() };
    // Whoever does not read the answer keeps its place no longer than this: the connection is cut.
    response.extensions_mut().insert(deadline);
    Ok(response)
}

impl Ask {
    /// The message, and the whole time it asks for.
    fn into_message(self) -> Result<(conversation::ConverseRequest, Option<Duration>), Problem> {
        let channel = match self.channel {
            None => conversation::Channel::Unspecified,
            Some(Medium::Chat) => conversation::Channel::Chat,
            Some(Medium::Voice) => conversation::Channel::Voice,
            Some(Medium::Email) => conversation::Channel::Email,
            Some(Medium::Social) => conversation::Channel::Social,
        };
        let asked = self.budget.unwrap_or_default();
        let first_sentence = time("budget.first_sentence_ms", asked.first_sentence_ms)?;
        let whole = time("budget.whole_ms", asked.whole_ms)?;
        let budget = self.budget.is_some().then(|| conversation::Budget {
            first_sentence: first_sentence.map(wire),
            whole: whole.map(wire),
        });
        let message = conversation::ConverseRequest {
            conversation_id: self.conversation_id.unwrap_or_default(),
            text: self.text,
            channel: channel.into(),
            locale: self.locale.unwrap_or_default(),
            audiences: self.audiences.unwrap_or_default(),
            product: self.product.unwrap_or_default(),
            jurisdiction: self.jurisdiction.unwrap_or_default(),
            budget,
        };
        Ok((message, whole))
    }
}

/// A time in milliseconds that the contract can carry. What a turn may take is for conversation to
/// say.
fn time(field: &str, millis: Option<f64>) -> Result<Option<Duration>, Problem> {
    /// About 30 years, so that a mistaken unit reaches the check that explains the range.
    const MOST: f64 = 1e12;
    match millis {
        None => Ok(None),
        Some(millis) if (0.0..=MOST).contains(&millis) => Ok(Some(Duration::from_secs_f64(millis / 1e3))),
        Some(_) => Err(Problem::field(field, "expected a number of milliseconds, not negative")),
    }
}

fn wire(time: Duration) -> prost_types::Duration {
    prost_types::Duration::try_from(time).expect("at most 30 years, which the type holds")
}

/// Whether the turn is wanted event by event: `?stream=true`, or `Accept: text/event-stream`.
fn wants_events(headers: &HeaderMap, uri: &Uri) -> Result<bool, Problem> {
    #[derive(Deserialize)]
    struct Options {
        stream: Option<bool>,
    }
    let options = axum::extract::Query::<Options>::try_from_uri(uri)
        .map_err(|_| Problem::field("stream", "expected true or false"))?;
    let accepts = |value: &http::HeaderValue| {
        value.to_str().is_ok_and(|value| value.to_ascii_lowercase().contains("text/event-stream"))
    };
    Ok(options.stream.unwrap_or_else(|| headers.get_all(header::ACCEPT).iter().any(accepts)))
}

/// A turn that the process has let in: what becomes of it teaches the limit.
struct Upstream {
    stream: Streaming<ConverseResponse>,
    admitted: Option<Admitted>,
}

impl Upstream {
    async fn open(
        turns: &Turns,
        call: &Call,
        message: conversation::ConverseRequest,
    ) -> Result<Self, Status> {
        // Over gRPC the server stack does the same.
        let admitted = turns.door.overload.admit(call, CONVERSE, None).await?;
        let mut client = ConversationServiceClient::new(turns.conversation.clone());
        match client.converse(call.request(message)).await {
            Ok(response) => Ok(Self { stream: response.into_inner(), admitted }),
            Err(status) => {
                admitted.into_iter().for_each(|admitted| admitted.end(status.code()));
                Err(status)
            }
        }
    }

    async fn message(&mut self) -> Result<Option<ConverseResponse>, Status> {
        let message = self.stream.message().await;
        let ended = match &message {
            Ok(Some(_)) => {
                self.admitted.iter_mut().for_each(Admitted::message);
                return message;
            }
            Ok(None) => Code::Ok,
            Err(status) => status.code(),
        };
        self.admitted.take().into_iter().for_each(|admitted| admitted.end(ended));
        message
    }
}

/// The events of a running turn.
struct Events {
    upstream: Upstream,
    /// The event that is next, already read; `None` at the end.
    next: Option<ConverseResponse>,
    seen: Vec<ConverseResponse>,
    place: Place,
}

impl Events {
    /// Reads to the end, past the report too: a call that is dropped early counts as cancelled.
    async fn into_turn(mut self) -> Result<json::Turn, Problem> {
        while let Some(event) = self.next.take() {
            self.seen.push(event);
            self.next = self.upstream.message().await?;
        }
        drop(self.place);
        json::turn(&self.seen).ok_or_else(unfinished)
    }

    fn into_sse(self) -> Response {
        let frames = futures::stream::unfold(Some(self), |events| async move {
            let (frame, rest) = events?.step().await?;
            Some((Ok::<_, Infallible>(frame), rest))
        });
        let response = Sse::new(frames).keep_alive(KeepAlive::new().interval(Duration::from_secs(15)));
        // Proxies that gather a response before they pass it on would undo the streaming.
        ([("x-accel-buffering", "no")], response).into_response()
    }

    /// The next frame, and what comes after it; `None` at the end.
    async fn step(mut self) -> Option<(Frame, Option<Self>)> {
        loop {
            let event = match self.next.take() {
                Some(event) => event,
                None => match self.upstream.message().await {
                    Ok(Some(event)) => event,
                    Ok(None) if json::turn(&self.seen).is_some() => return None,
                    Ok(None) => return Some((failed(&unfinished()), None)),
                    Err(status) => return Some((failed(&status.into()), None)),
                },
            };
            self.seen.push(event);
            let frame = match self.seen.last().and_then(|event| event.event.as_ref()) {
                Some(Event::Started(event)) => frame("started", &json::started(event)),
                Some(Event::Sentence(event)) => frame("sentence", &json::sentence(event)),
                Some(Event::HandOff(event)) => frame("hand_off", &json::hand_off(event)),
                Some(Event::Report(_)) => frame("report", &json::turn(&self.seen)),
                // An event of a later contract; those who do not know it go on.
                None => continue,
            };
            return Some((frame, Some(self)));
        }
    }
}

fn unfinished() -> Problem {
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the turn ended without a report")
}

fn failed(problem: &Problem) -> Frame {
    frame("error", &problem.body())
}

fn frame(name: &'static str, data: &impl Serialize) -> Frame {
    Frame::default().event(name).json_data(data).expect("plain types with string keys are JSON")
}

//! `ConversationService`: decode, call the core, encode.

use std::{pin::Pin, sync::Arc, time::SystemTime};

use futures::{FutureExt as _, Stream, StreamExt as _, stream};
use switchboard_mesh::{self as mesh, error};
use switchboard_proto::{
    conversation::v1::{
        Conversation, ConverseRequest, ConverseResponse, Feedback, GetConversationRequest,
        GetConversationResponse, ListConversationsRequest, ListConversationsResponse, Rating,
        SubmitFeedbackRequest, SubmitFeedbackResponse, Turn as ProtoTurn,
        conversation_service_server::ConversationService,
    },
    policy::v1::RedactRequest,
};
use tokio::{sync::mpsc, time::Instant};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use crate::{
    Config, Peers,
    error::Error,
    record::{self, Recorder},
    request::Input,
    rerank::Offer,
    store::{self, Store},
    turn::Turn,
};

const MAX_COMMENT_CHARACTERS: usize = 2_000;
const MAX_SCORE: u32 = 5;
const MAX_LABELS: usize = 16;
const MAX_LABEL: usize = 64;
const MAX_PAGE: u32 = 1_000;
const DEFAULT_PAGE: u32 = 100;

pub(crate) struct Conversations {
    config: Config,
    peers: Peers,
    store: Arc<dyn Store>,
    reranking: Arc<Offer>,
    recorder: Arc<Recorder>,
}

impl Conversations {
    pub(crate) fn new(config: Config, peers: Peers, store: Arc<dyn Store>, recorder: Arc<Recorder>) -> Self {
        let reranking = Arc::new(Offer::new(config.rerank));
        Self { config, peers, store, reranking, recorder }
    }
}

#[tonic::async_trait]
impl ConversationService for Conversations {
    type ConverseStream = Pin<Box<dyn Stream<Item = Result<ConverseResponse, Status>> + Send>>;

    async fn converse(
        &self,
        request: Request<ConverseRequest>,
    ) -> Result<Response<Self::ConverseStream>, Status> {
        let arrived = Instant::now();
        let call = mesh::Call::of(&request)?;
        call.tenant()?;
        let input = Input::try_from_request(request.into_inner(), &self.config).map_err(error::status)?;
        let turn = Turn {
            input,
            call,
            arrived,
            passages: self.config.passages,
            candidates: self.config.rerank_candidates,
            reranking: Arc::clone(&self.reranking),
            peers: self.peers.clone(),
            store: Arc::clone(&self.store),
            recorder: Arc::clone(&self.recorder),
        };
        let (events, received) = mpsc::channel(16);
        // The turn is polled by the response stream itself: when the caller goes, it stops.
        let running = turn.run(events).into_stream().filter_map(|()| async { None });
        Ok(Response::new(Box::pin(stream::select(ReceiverStream::new(received), running))))
    }

    async fn get_conversation(
        &self,
        request: Request<GetConversationRequest>,
    ) -> Result<Response<GetConversationResponse>, Status> {
        let call = mesh::Call::of(&request)?;
        let id = request.into_inner().conversation_id;
        let conversation = self.store.get(call.tenant()?, &id).await.map_err(error::status)?;
        Ok(Response::new(GetConversationResponse { conversation: Some(encode(conversation, true)) }))
    }

    async fn list_conversations(
        &self,
        request: Request<ListConversationsRequest>,
    ) -> Result<Response<ListConversationsResponse>, Status> {
        let call = mesh::Call::of(&request)?;
        let request = request.into_inner();
        let size = match request.page_size {
            0 => DEFAULT_PAGE,
            size if size <= MAX_PAGE => size,
            _ => return Err(error::invalid("page_size", "0 (takes 100) to 1,000")),
        } as usize;
        let all = self.store.list(call.tenant()?).await;
        // The token is the id of the last conversation of the page before.
        let begin = match request.page_token.as_str() {
            "" => 0,
            token => all
                .iter()
                .position(|conversation| conversation.id == token)
                .map(|position| position + 1)
                .ok_or_else(|| error::invalid("page_token", "the token of an earlier page, or empty"))?,
        };
        let page = &all[begin..all.len().min(begin + size)];
        let more = begin + page.len() < all.len();
        let next_page_token =
            if more { page.last().map(|c| c.id.clone()).unwrap_or_default() } else { String::new() };
        let conversations = page.iter().cloned().map(|conversation| encode(conversation, false)).collect();
        Ok(Response::new(ListConversationsResponse { conversations, next_page_token }))
    }

    async fn submit_feedback(
        &self,
        request: Request<SubmitFeedbackRequest>,
    ) -> Result<Response<SubmitFeedbackResponse>, Status> {
        let call = mesh::Call::of(&request)?;
        let request = request.into_inner();
        let feedback = request.feedback.unwrap_or_default();
        check(&feedback)?;
        // Nothing is held of a conversation that is not there.
        let known = self.store.get(call.tenant()?, &request.conversation_id).await.map_err(error::status)?;
        if !known.turns.iter().any(|turn| turn.number == request.turn) {
            return Err(error::status(Error::NoTurn));
        }
        let (tenant, conversation, turn) = (call.tenant()?, &request.conversation_id, request.turn);
        let comment = self.redacted(&call, feedback.comment, conversation).await?;
        let correction = self.redacted(&call, feedback.correction, conversation).await?;
        let feedback = Feedback { comment, correction, ..feedback };
        let stored = self.store.feedback(tenant, conversation, turn, feedback.clone()).await;
        let (of, change) = stored.map_err(error::status)?;
        let mut records = vec![record::feedback(conversation, turn, of, &feedback)];
        records.extend(change.map(|change| record::outcome(conversation, &change)));
        if !self.recorder.put(tenant, records) {
            return Err(error::of_kind(error::Kind::Unavailable, "feedback cannot be recorded now"));
        }
        Ok(Response::new(SubmitFeedbackResponse {}))
    }
}

/// Checks feedback as it comes.
fn check(feedback: &Feedback) -> Result<(), Status> {
    let says_nothing = feedback.rating == 0
        && feedback.score == 0
        && feedback.resolved.is_none()
        && feedback.correction.is_empty()
        && feedback.labels.is_empty();
    if says_nothing || Rating::try_from(feedback.rating).is_err() {
        let allowed = "helpful or unhelpful; unset only with a score, resolved, a correction or labels";
        return Err(error::invalid("feedback.rating", allowed));
    }
    if feedback.score > MAX_SCORE {
        return Err(error::invalid("feedback.score", "1 to 5, or 0 for none"));
    }
    for (field, text) in
        [("feedback.comment", &feedback.comment), ("feedback.correction", &feedback.correction)]
    {
        if text.chars().count() > MAX_COMMENT_CHARACTERS {
            return Err(error::invalid(field, "at most 2,000 characters"));
        }
    }
    let is_label = |label: &String| {
        (1..=MAX_LABEL).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
            // They are recorded in the open: none may be somebody's number.
            && switchboard_text::redaction::find(label).is_empty()
    };
    if feedback.labels.len() > MAX_LABELS || !feedback.labels.iter().all(is_label) {
        let allowed = "at most 16, each of 1 to 64 letters, digits, `-`, `_` and `.`, and none personal data";
        return Err(error::invalid("feedback.labels", allowed));
    }
    Ok(())
}

impl Conversations {
    /// Words as they may be stored. Without policy nothing is.
    async fn redacted(
        &self,
        call: &mesh::Call,
        text: String,
        conversation_id: &str,
    ) -> Result<String, Status> {
        if text.is_empty() {
            return Ok(text);
        }
        let request = RedactRequest { text, conversation_id: conversation_id.to_owned() };
        Ok(self.peers.policy.clone().redact(call.request_to_any(request)).await?.into_inner().text)
    }
}

fn timestamp(time: SystemTime) -> Option<prost_types::Timestamp> {
    Some(prost_types::Timestamp::from(time))
}

fn encode(conversation: store::Conversation, with_turns: bool) -> Conversation {
    let turns =
        if with_turns { conversation.turns.into_iter().map(encode_turn).collect() } else { Vec::new() };
    Conversation {
        conversation_id: conversation.id,
        started_at: timestamp(conversation.started_at),
        updated_at: timestamp(conversation.updated_at),
        turn_count: conversation.turn_count,
        turns,
    }
}

fn encode_turn(turn: store::Turn) -> ProtoTurn {
    ProtoTurn {
        turn: turn.number,
        text: turn.text,
        reply: turn.reply,
        outcome: turn.outcome.into(),
        channel: turn.channel.into(),
        feedback: turn.feedback,
    }
}

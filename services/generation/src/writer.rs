//! Runs a language model's card: from the text that a node streams to sentences that cite.
//!
//! [`Writer::open`] asks a node; [`Writer::run`] sends what becomes of its text. A sentence is sent once it
//! has ended and something carries it: what it cites, or a sentence of a passage that is found for it. Until
//! the first sentence is sent an error is the call's; afterwards the reply is cut. Dropping the future drops
//! the node's stream, which ends the node's work.

use std::sync::Arc;

use switchboard_mesh::{Call, Channel, error};
use switchboard_proto::{
    generation::v1::{Finish, FinishReason, GenerateResponse, ReplySentence, generate_response::Event},
    inference::v1 as inference,
    inference::v1::inference_service_client::InferenceServiceClient,
};
use tokio::{sync::mpsc, task::JoinHandle, time::Instant};
use tonic::{Status, Streaming};

use crate::{
    catalogue::LanguageModel,
    cited::{Cited, Reader},
    error::{Error, from_node},
    metrics,
    prompt::{STOP, Written},
    refusal,
    sources::Sources,
};

/// Bytes of the longest reply that is read. The longest one that cards may ask for has about as many.
const LONGEST_REPLY: usize = 128 << 10;
/// Bytes of the largest message of a node: a step is a token or a few.
const LARGEST_STEP: usize = 256 << 10;

/// What is told of a reply, in order.
pub(crate) type Events = mpsc::Sender<Result<GenerateResponse, Status>>;

/// A client of nodes for replies.
pub(crate) fn client(inference: Channel) -> InferenceServiceClient<Channel> {
    InferenceServiceClient::new(inference).max_decoding_message_size(LARGEST_STEP)
}

/// A reply that a node is writing.
pub(crate) struct Writer {
    model: Arc<LanguageModel>,
    stream: Streaming<inference::GenerateResponse>,
    reader: Reader,
    /// The passages, when they were read, which is done while the node begins.
    sources: Sources,
    coming: Option<JoinHandle<Sources>>,
    /// Most sentences to send.
    wanted: u32,
    sent: u32,
    tally: Tally,
}

/// How reading a reply came to its end.
enum End {
    /// The model was done or says that the passages do not answer, or there are as many sentences as wanted.
    Done,
    /// The model's reply is at its longest, or longer than any that is wanted, or never ends a sentence.
    Length,
    CallerLeft,
}

/// What a node is asked for.
pub(crate) struct Order {
    pub(crate) model: Arc<LanguageModel>,
    pub(crate) prompt: Written,
    /// The prompt's passages, which are being read.
    pub(crate) sources: JoinHandle<Sources>,
    /// Most sentences of the reply.
    pub(crate) wanted: u32,
}

impl Writer {
    /// Asks a node that has the model for a reply.
    ///
    /// # Errors
    /// What the node answers before it begins.
    pub(crate) async fn open(
        mut inference: InferenceServiceClient<Channel>,
        call: &Call,
        order: Order,
    ) -> Result<Self, Status> {
        let Order { model, prompt, sources, wanted } = order;
        let tally = Tally {
            began: Instant::now(),
            model: Arc::clone(&model),
            input: prompt.tokens,
            output: 0,
            reason: "abandoned",
        };
        let card = &model.card;
        let request = inference::GenerateRequest {
            model: model.model.clone(),
            messages: prompt.messages,
            max_tokens: card.max_tokens,
            temperature: card.temperature,
            stop: vec![STOP.to_owned()],
            ..inference::GenerateRequest::default()
        };
        let opened = inference.generate(call.request_for(&model.model, request)).await;
        let stream = match opened {
            Ok(stream) => stream.into_inner(),
            Err(status) => {
                tally.nothing();
                return Err(from_node(status, &model));
            }
        };
        let (reader, coming) = (Reader::default(), Some(sources));
        Ok(Self { model, stream, reader, sources: Sources::default(), coming, wanted, sent: 0, tally })
    }

    /// Sends the sentences and the end, which has `finish` as it begins.
    pub(crate) async fn run(mut self, finish: Finish, events: Events) {
        let (reason, label) = match self.read(&events).await {
            Ok(End::CallerLeft) => return,
            Err(status) if self.sent == 0 => {
                self.tally.reason = "failed";
                // Who is gone needs no status.
                let _ = events.send(Err(status)).await;
                return;
            }
            Err(status) => {
                tracing::debug!(card = self.model.name, code = ?status.code(), "reply cut at a sentence");
                (FinishReason::Cut, "cut")
            }
            Ok(End::Length) => (FinishReason::Length, "length"),
            Ok(End::Done) if self.sent == 0 => (FinishReason::InsufficientEvidence, "insufficient_evidence"),
            Ok(End::Done) => (FinishReason::Complete, "complete"),
        };
        self.tally.reason = label;
        let finish = Finish {
            reason: reason.into(),
            input_tokens: self.tally.input,
            output_tokens: self.tally.output,
            cost_micros: self.model.cost(self.tally.input, self.tally.output),
            ..finish
        };
        send(&events, Event::Finish(finish)).await;
    }

    /// Reads the reply to its end; an error where the node or the time was lost.
    async fn read(&mut self, events: &Events) -> Result<End, Status> {
        let (mut bytes, mut steps) = (0, 0);
        // A step for each token, and some that hold text back.
        let most_steps = 2 * self.model.card.max_tokens + 16;
        loop {
            let step = match self.stream.message().await {
                Ok(Some(step)) => step,
                Ok(None) => {
                    return Err(error::status(Error::BrokenOff { name: self.model.name.clone() }));
                }
                Err(status) => return Err(from_node(status, &self.model)),
            };
            self.tally.output = self.tally.output.max(step.tokens);
            if step.prompt_tokens > 0 {
                self.tally.input = step.prompt_tokens;
            }
            bytes += step.text.len();
            steps += 1;
            let read = self.reader.push(&step.text);
            while let Some(cited) = self.reader.next() {
                if let Some(end) = self.say(cited, events).await? {
                    return Ok(end);
                }
            }
            if read.is_err() || bytes > LONGEST_REPLY || steps > most_steps {
                metrics::dropped(&self.model.name, "too_long");
                return Ok(End::Length);
            }
            match step.finish_reason.as_str() {
                "" => {}
                reason => return self.rest(reason == "length", events).await,
            }
        }
    }

    /// Says what is left when the node has ended; a sentence without its end only where the model meant it.
    async fn rest(&mut self, cut: bool, events: &Events) -> Result<End, Status> {
        let (mut rest, unfinished) = std::mem::take(&mut self.reader).finish();
        match unfinished {
            Some(_) if cut => metrics::dropped(&self.model.name, "unfinished"),
            unfinished => rest.extend(unfinished),
        }
        for cited in rest {
            if let Some(end) = self.say(cited, events).await? {
                return Ok(end);
            }
        }
        Ok(if cut { End::Length } else { End::Done })
    }

    /// Sends a sentence, or drops it; how the reply ends where it ends by that.
    async fn say(&mut self, cited: Cited, events: &Events) -> Result<Option<End>, Status> {
        let card = &self.model.name;
        if refusal::is_refusal(&cited.text) {
            metrics::dropped(card, "refusal");
            return Ok((self.sent == 0).then_some(End::Done));
        }
        if let Some(coming) = self.coming.take() {
            self.sources = coming.await.map_err(|error| error::status(Error::Unread(error)))?;
        }
        let mut citations = Vec::new();
        for number in cited.numbers {
            match self.sources.cite(&cited.text, number) {
                Some(citation) => citations.push(citation),
                None => metrics::no_such_passage(card),
            }
        }
        if citations.is_empty() {
            match self.sources.find(&cited.text) {
                Some(citation) => citations.push(citation),
                None => {
                    metrics::dropped(card, "unsupported");
                    return Ok(None);
                }
            }
        }
        let sentence = ReplySentence { text: cited.text, citations };
        if !send(events, Event::Sentence(sentence)).await {
            return Ok(Some(End::CallerLeft));
        }
        if self.sent == 0 {
            metrics::first_sentence(card, self.tally.began.elapsed());
        }
        self.sent += 1;
        Ok((self.sent == self.wanted).then_some(End::Done))
    }
}

/// Sends an event; whether the caller is still there.
async fn send(events: &Events, event: Event) -> bool {
    events.send(Ok(GenerateResponse { event: Some(event) })).await.is_ok()
}

/// What a reply used; counted however it ends.
struct Tally {
    began: Instant,
    model: Arc<LanguageModel>,
    /// As estimated, until the node says.
    input: u32,
    output: u32,
    reason: &'static str,
}

impl Tally {
    /// No node began.
    fn nothing(mut self) {
        (self.input, self.reason) = (0, "failed");
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        metrics::reply(&self.model.name, self.reason);
        metrics::tokens(&self.model.name, self.input, self.output);
    }
}

#[cfg(test)]
mod tests;

//! A text that is inspected while it arrives.
//!
//! [`redaction::Stream`] holds back what could still become part of a match, and says of the rest what it would say
//! of the whole text; so no byte of a match leaves, however the text is cut into chunks. What it lets go is
//! gathered until a sentence ends, or a word where a sentence is long, and is judged piece by piece.

use std::{collections::VecDeque, pin::Pin, sync::Arc};

use futures::{Stream, StreamExt as _, stream};
use mesh::{Call, Tenant, error};
use proto::policy::v1::{InspectStreamRequest, InspectStreamResponse, Verdict, inspect_stream_request::Part};
use switchboard_mesh as mesh;
use switchboard_proto as proto;
use switchboard_text::{
    redaction::{self, Entity, Kinds},
    sentences,
};
use tonic::{Status, Streaming};

use super::{
    Core, Found,
    decode::{Inspecting, MAX_CHARACTERS},
    on_core,
};
use crate::{error::Error, inspection};

/// From here on a piece ends with a word.
const LONG: usize = 2_000;

/// How much more has to arrive before the next look, at the least, in bytes: some words.
const LOOK_AFTER: usize = 32;

/// The pieces of a text.
pub(crate) type Pieces = Pin<Box<dyn Stream<Item = Result<InspectStreamResponse, Status>> + Send>>;

/// What is held of a text.
struct Inspection {
    core: Arc<Core>,
    call: Call,
    tenant: Tenant,
    inbound: Streaming<InspectStreamRequest>,
    started: Option<Started>,
    /// Where `decided` begins, in characters of the whole text.
    offset: usize,
    /// All that arrived, in characters.
    characters: usize,
    /// From which length on what is decided is looked at again: chunks can be letters, and a look takes time
    /// linear in what is pending.
    look_at: usize,
    ready: VecDeque<InspectStreamResponse>,
    done: bool,
}

/// What is known once the first message came.
struct Started {
    request: Inspecting,
    stream: redaction::Stream,
    decided: Decided,
}

/// Text of which is known what in it is personal data.
#[derive(Default)]
struct Decided {
    text: String,
    characters: usize,
    /// In order; places are in `text`.
    entities: Vec<Entity>,
}

/// Inspects what arrives. Work is done as the pieces are asked for, and ends with whoever asks.
pub(super) fn pieces(
    core: Arc<Core>,
    call: Call,
    tenant: Tenant,
    inbound: Streaming<InspectStreamRequest>,
) -> Pieces {
    let inspection = Inspection {
        core,
        call,
        tenant,
        inbound,
        started: None,
        offset: 0,
        characters: 0,
        look_at: LOOK_AFTER,
        ready: VecDeque::new(),
        done: false,
    };
    let pieces = stream::unfold(inspection, |mut inspection| async move {
        let piece = inspection.next().await?;
        inspection.done |= piece.is_err();
        Some((piece, inspection))
    });
    pieces.boxed()
}

impl Inspection {
    async fn next(&mut self) -> Option<Result<InspectStreamResponse, Status>> {
        loop {
            if let Some(piece) = self.ready.pop_front() {
                return Some(Ok(piece));
            }
            if self.done {
                return None;
            }
            let advanced = match self.inbound.message().await {
                Ok(Some(message)) => self.take(message).await.map_err(error::status),
                Ok(None) => self.finish().await.map_err(error::status),
                Err(status) => Err(status),
            };
            if let Err(status) = advanced {
                return Some(Err(status));
            }
        }
    }

    async fn take(&mut self, message: InspectStreamRequest) -> Result<(), Error> {
        match (message.part, &mut self.started) {
            (Some(Part::Start(start)), None) => {
                if !start.text.is_empty() {
                    return Err(Error::Field {
                        field: "start.text",
                        allowed: "empty: chunks carry the text",
                    });
                }
                let request = Inspecting::of(start)?;
                let stream = redaction::Stream::new(inspection::kinds(request.direction));
                self.started = Some(Started { request, stream, decided: Decided::default() });
                Ok(())
            }
            (Some(Part::Chunk(chunk)), Some(started)) => {
                // Counted only as far as it could fit.
                let fits = chunk.len() <= MAX_CHARACTERS * 4;
                self.characters += if fits { chunk.chars().count() } else { MAX_CHARACTERS + 1 };
                if self.characters > MAX_CHARACTERS {
                    return Err(Error::Field { field: "chunk", allowed: "at most 64,000 characters in all" });
                }
                let pieces = started.stream.push(&chunk);
                started.decided.extend(pieces);
                if started.decided.text.len() < self.look_at {
                    return Ok(());
                }
                let cut = started.decided.cut();
                if let Some(at) = cut {
                    self.release(at).await?;
                }
                let length = self.started.as_ref().map_or(0, |started| started.decided.text.len());
                self.look_at = length + (length / 8).max(LOOK_AFTER);
                Ok(())
            }
            _ => Err(Error::Field { field: "part", allowed: "`start` first, once, and chunks after it" }),
        }
    }

    async fn finish(&mut self) -> Result<(), Error> {
        self.done = true;
        let Some(started) = &mut self.started else {
            return Err(Error::Field { field: "part", allowed: "`start` first" });
        };
        let stream = std::mem::replace(&mut started.stream, redaction::Stream::new(Kinds::ALL));
        started.decided.extend(stream.finish());
        match started.decided.text.len() {
            0 => Ok(()),
            all => self.release(all).await,
        }
    }

    /// Judges what is decided up to `at`, and lets it go on.
    async fn release(&mut self, at: usize) -> Result<(), Error> {
        let Some(mut started) = self.started.take() else { return Ok(()) };
        let part = started.decided.split(at);
        let bytes = started.request.bytes() + part.text.len();
        let stored = started.request.is_stored();
        let (tenant, offset) = (self.tenant.clone(), self.offset);
        self.offset += part.characters;
        let Inspecting { direction, source, about, .. } = &started.request;
        let models = &self.core.models;
        let asks = models.asks(*direction, *source, about.verbatim);
        let heard = models.look(&self.call.for_message(), asks, &part.text, &part.entities).await;
        let work = move |core: &Core| {
            let found = Found { entities: part.entities, heard };
            let (piece, _) = core.inspect(&tenant, &started.request, &part.text, found)?;
            Ok((started, piece))
        };
        let (started, mut piece) = on_core(&self.core, bytes, stored, work).await?;
        self.started = Some(started);
        let shift = u32::try_from(offset).unwrap_or(u32::MAX);
        for finding in piece.findings.iter_mut().chain(&mut piece.signals) {
            finding.start = finding.start.saturating_add(shift);
            finding.end = finding.end.saturating_add(shift);
        }
        if matches!(piece.verdict(), Verdict::Refuse | Verdict::HandOff) {
            self.done = true;
        }
        self.ready.push_back(InspectStreamResponse { piece: Some(piece) });
        Ok(())
    }
}

impl Decided {
    fn extend(&mut self, pieces: Vec<redaction::Piece>) {
        for piece in pieces {
            let (bytes, chars) = (self.text.len(), self.characters);
            self.text.push_str(&piece.text);
            self.characters += piece.text.chars().count();
            if let Some(mut entity) = piece.entity {
                entity.span.bytes = bytes..self.text.len();
                entity.span.chars = chars..self.characters;
                self.entities.push(entity);
            }
        }
    }

    /// How far it may go on while more is to come; `None` while it has to wait.
    fn cut(&self) -> Option<usize> {
        // The last sentence may go on.
        let mut ends: Vec<usize> =
            sentences::split(&self.text).into_iter().map(|sentence| sentence.bytes.end).collect();
        ends.pop();
        let free = |at: &usize| {
            let within = |entity: &Entity| entity.span.bytes.start < *at && *at < entity.span.bytes.end;
            *at > 0 && !self.entities.iter().any(within)
        };
        ends.into_iter().rev().find(free).or_else(|| {
            let long = self.text.len() > LONG;
            let spaces = self.text.rmatch_indices(char::is_whitespace).map(|(at, _)| at);
            long.then(|| spaces.take(LOOK_AFTER).find(free)).flatten()
        })
    }

    /// Takes out what stands before `at`.
    fn split(&mut self, at: usize) -> Self {
        let rest = self.text.split_off(at);
        let text = std::mem::replace(&mut self.text, rest);
        let characters = text.chars().count();
        self.characters -= characters;
        let behind = self.entities.partition_point(|entity| entity.span.bytes.end <= at);
        let mut later = self.entities.split_off(behind);
        for Entity { span, .. } in &mut later {
            span.bytes = span.bytes.start - at..span.bytes.end - at;
            span.chars = span.chars.start - characters..span.chars.end - characters;
        }
        Self { text, characters, entities: std::mem::replace(&mut self.entities, later) }
    }
}

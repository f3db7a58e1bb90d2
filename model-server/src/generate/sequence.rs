//! A text that is being continued, and what its caller gets to hear of it.

use switchboard_mesh::{Call, Class, Deadline};
use tokio::{sync::mpsc, time::Instant};

use super::queue::Place;
use crate::error::Error;

/// Chooses the tokens of one sequence and makes text of them.
pub(crate) trait Writer: Send {
    /// Chooses the next token by the logits after the last of `context`, which are all tokens so far.
    ///
    /// # Errors
    /// When no token can be chosen, as of numbers that are not finite. The sequence ends with it.
    fn write(&mut self, logits: &mut [f32], context: &[u32]) -> Result<Written, Error>;

    /// The text that is held back so far; asked when the sequence ends for want of tokens.
    fn flush(&mut self) -> String;
}

/// A token that was chosen.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Written {
    pub(crate) token: u32,
    /// The text that is certain by now and was not given before; whole characters.
    pub(crate) text: String,
    /// How likely it was, where that was asked for.
    pub(crate) odds: Option<Odds>,
    /// Whether the text ends here.
    pub(crate) ends: bool,
}

/// How likely a token was, and what else could have stood there.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Odds {
    /// Natural logarithm of its probability.
    pub(crate) logprob: f32,
    /// The most likely tokens with theirs, best first.
    pub(crate) top: Vec<(u32, f32)>,
}

/// Why a text ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The model was done, or wrote what it was to stop at.
    Stop,
    /// It has as many tokens as were asked for.
    Length,
}

/// A part of a text, as it is written.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Chunk {
    /// The token that was written last.
    pub(crate) token: u32,
    pub(crate) text: String,
    pub(crate) odds: Option<Odds>,
    /// Tokens so far.
    pub(crate) tokens: usize,
    /// Set in the last one.
    pub(crate) ending: Option<Ending>,
}

/// What a caller gets, one after the other.
pub(crate) type Chunks = mpsc::Receiver<Result<Chunk, Error>>;

/// A text that is being continued.
pub(crate) struct Sequence {
    pub(super) class: Class,
    pub(super) deadline: Deadline,
    pub(super) arrived: Instant,
    /// Of the prompt and, after it, what was written.
    pub(super) tokens: Vec<u32>,
    /// Tokens of the prompt.
    pub(super) prompt: usize,
    /// Most tokens to write.
    pub(super) most: usize,
    writer: Box<dyn Writer>,
    chunks: mpsc::Sender<Result<Chunk, Error>>,
    /// How often it lost its slot to somebody more urgent.
    pub(super) displaced: u32,
    /// When the last token was written.
    pub(super) last: Option<Instant>,
    _place: Place,
}

impl Sequence {
    /// A sequence and what its caller hears of it. `tokens` is not empty; `most` is at least 1.
    pub(super) fn new(
        place: Place,
        tokens: Vec<u32>,
        most: usize,
        writer: Box<dyn Writer>,
        call: &Call,
    ) -> (Self, Chunks) {
        // Room for all that can come, so that a caller who reads slowly holds up nobody.
        let (chunks, receiver) = mpsc::channel(most + 1);
        let (prompt, arrived) = (tokens.len(), Instant::now());
        let sequence = Self {
            class: call.class,
            deadline: call.deadline,
            arrived,
            tokens,
            prompt,
            most,
            writer,
            chunks,
            displaced: 0,
            last: None,
            _place: place,
        };
        (sequence, receiver)
    }

    /// Whether nobody listens any more.
    pub(super) fn is_gone(&self) -> bool {
        self.chunks.is_closed()
    }

    /// Tokens written so far.
    pub(super) fn written(&self) -> usize {
        self.tokens.len() - self.prompt
    }

    /// Writes the next token; whether the sequence goes on.
    pub(super) fn write(&mut self, logits: &mut [f32]) -> bool {
        let written = match self.writer.write(logits, &self.tokens) {
            Ok(written) => written,
            Err(error) => {
                self.end(error);
                return false;
            }
        };
        self.tokens.push(written.token);
        let Written { token, mut text, odds, ends } = written;
        let ending = match (ends, self.written() >= self.most) {
            (true, _) => Some(Ending::Stop),
            (false, true) => {
                text.push_str(&self.writer.flush());
                Some(Ending::Length)
            }
            (false, false) => None,
        };
        let chunk = Chunk { token, text, odds, tokens: self.written(), ending };
        self.chunks.try_send(Ok(chunk)).is_ok() && ending.is_none()
    }

    /// Ends it before it is done.
    pub(super) fn end(&self, error: Error) {
        // Who has gone needs not hear it.
        let _ = self.chunks.try_send(Err(error));
    }
}

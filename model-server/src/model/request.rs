//! The way of a request through a model: to token rows, to numbers, to an answer.

use std::{sync::Arc, time::Duration};

use switchboard_mesh::Call;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Model;
use crate::{
    backend::{BackendError, Row},
    error::Error,
    scheduler::Done,
    statistics::{Parts, Tally},
    tokenize::{TextTokenizer, Tokens},
};

/// Texts of more bytes than this are tokenised off the async threads; fewer take under a
/// millisecond, less than the way there and back may cost on a busy machine.
const INLINE_BYTES: usize = 4096;

/// What a model made of a request.
#[derive(Debug)]
pub(crate) struct Answer<T> {
    /// One result for each text, in order.
    pub(crate) rows: Vec<T>,
    pub(crate) timing: Timing,
}

/// Where a request's time went, and what it had to read.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Timing {
    pub(crate) tokenization: Duration,
    pub(crate) queue: Duration,
    pub(crate) inference: Duration,
    /// Tokens that were read, special ones included.
    pub(crate) tokens: usize,
    /// Characters of all texts.
    pub(crate) characters: usize,
}

/// What a task makes of a request, before and after the computing.
pub(super) struct Work<P, F> {
    /// As many rows as `prepare` makes.
    pub(super) rows: usize,
    /// Of the texts that `prepare` reads.
    pub(super) size: Size,
    /// Makes the rows.
    pub(super) prepare: P,
    /// Makes the answer of the rows and their numbers; ids are there for late interaction only.
    pub(super) finish: F,
    /// Whether to finish off the async threads, because it may take long.
    pub(super) aside: bool,
}

/// How much text there is.
#[derive(Clone, Copy)]
pub(super) struct Size {
    pub(super) bytes: usize,
    pub(super) characters: usize,
}

impl Size {
    pub(super) fn of(texts: &[String]) -> Self {
        Self {
            bytes: texts.iter().map(String::len).sum(),
            characters: texts.iter().map(|text| text.chars().count()).sum(),
        }
    }
}

impl Model {
    /// Takes a request its way, and counts it however it ends.
    pub(super) async fn run<T, P, F>(&self, work: Work<P, F>, call: &Call) -> Result<Answer<T>, Error>
    where
        T: Send + 'static,
        P: FnOnce(&TextTokenizer, &CancellationToken) -> Result<Vec<Tokens>, Error> + Send + 'static,
        F: FnOnce(Vec<Tokens>, Vec<Vec<f32>>, &CancellationToken) -> Result<Vec<T>, Error> + Send + 'static,
    {
        let tally = Tally::begin(self.texts()?.queue.statistics());
        match self.answer(work, call).await {
            Ok((answer, output)) => {
                let Timing { tokenization: input, queue, inference: infer, .. } = answer.timing;
                tally.succeeded(answer.rows.len(), Parts { queue, input, infer, output });
                Ok(answer)
            }
            Err(error) => {
                tally.failed();
                Err(error)
            }
        }
    }

    /// The answer, and how long it took to finish it.
    async fn answer<T, P, F>(&self, work: Work<P, F>, call: &Call) -> Result<(Answer<T>, Duration), Error>
    where
        T: Send + 'static,
        P: FnOnce(&TextTokenizer, &CancellationToken) -> Result<Vec<Tokens>, Error> + Send + 'static,
        F: FnOnce(Vec<Tokens>, Vec<Vec<f32>>, &CancellationToken) -> Result<Vec<T>, Error> + Send + 'static,
    {
        let Work { rows, size, prepare, finish, aside } = work;
        let texts = self.texts()?;
        let places = texts.queue.admit(rows, call.class)?;
        let began = Instant::now();
        let tokenizer = Arc::clone(&texts.tokenizer);
        let mut tokens = step(size.bytes > INLINE_BYTES, move |gone| prepare(&tokenizer, gone)).await?;
        let tokenization = began.elapsed();
        let count = tokens.iter().map(|tokens| tokens.count).sum();
        // Late interaction needs the ids again; for the others they are only moved.
        let keep = texts.reader.is_some();
        let rows: Vec<Row> = tokens
            .iter_mut()
            .map(|tokens| if keep { tokens.row.clone() } else { std::mem::take(&mut tokens.row) })
            .collect();
        let Done { rows, queue, inference } = texts.queue.submit(places, rows, call)?.answer().await?;
        let began = Instant::now();
        let rows = step(aside, move |gone| finish(tokens, rows, gone)).await?;
        let timing = Timing { tokenization, queue, inference, tokens: count, characters: size.characters };
        Ok((Answer { rows, timing }, began.elapsed()))
    }
}

/// Makes a row of each input; an error names the input's place in the request. Ends early when the caller
/// has gone.
pub(super) fn each<I>(
    inputs: &[I],
    gone: &CancellationToken,
    row: impl Fn(&I) -> Result<Tokens, Error>,
) -> Result<Vec<Tokens>, Error> {
    let wanted = inputs.iter().enumerate().take_while(|_| !gone.is_cancelled());
    wanted
        .map(|(index, input)| row(input).map_err(|error| error.in_field(format!("texts[{index}]"))))
        .collect()
}

/// Does a part of the work, off the async threads where it is `long`. There it goes on when the future is
/// dropped, but is told: what it gives from then on, nobody sees.
async fn step<T: Send + 'static>(
    long: bool,
    work: impl FnOnce(&CancellationToken) -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let gone = CancellationToken::new();
    if !long {
        return work(&gone);
    }
    let _guard = gone.clone().drop_guard();
    let done = tokio::task::spawn_blocking(move || work(&gone)).await;
    done.unwrap_or_else(|error| Err(BackendError::Failed(error.to_string()).into()))
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn work_aside_is_told_when_its_caller_has_gone() {
        let (told, heard) = oneshot::channel();
        let work = |gone: &CancellationToken| {
            while !gone.is_cancelled() {
                std::thread::yield_now();
            }
            told.send(()).map_err(|()| Error::Stopped)
        };
        let mut future = Box::pin(step(true, work));
        assert!(futures::poll!(future.as_mut()).is_pending());
        drop(future);
        heard.await.unwrap();
    }

    #[test]
    fn an_error_names_the_place_and_nothing_is_made_for_the_gone() {
        let gone = CancellationToken::new();
        let row = |input: &u32| match input {
            7 => Err(Error::invalid("text", "seven")),
            _ => Ok(Tokens::default()),
        };
        assert_eq!(each(&[1, 2, 3], &gone, row).unwrap().len(), 3);
        assert_eq!(each(&[1, 7, 3], &gone, row).unwrap_err().to_string(), "texts[1]: seven");
        gone.cancel();
        assert!(each(&[1, 7, 3], &gone, row).unwrap().is_empty());
    }
}

//! Texts, or their tokens, to labels.

use std::sync::Arc;

use switchboard_mesh::Call;
use tokio_util::sync::CancellationToken;

use super::{
    Answer, Model,
    request::{Size, Work, each},
};
use crate::{
    error::Error,
    labels::{self, Label},
    repository::Task,
    tokenize::{TextTokenizer, Tokens, Truncation},
};

/// How to classify.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ClassifyOptions {
    /// Whether scores are what the model gives, and not probabilities.
    pub(crate) raw_scores: bool,
    /// Whether token labels come for each token apart, and not joined to spans.
    pub(crate) each_token: bool,
    pub(crate) truncation: Truncation,
}

/// The labels of a text: all of them, the best first; or its labelled spans, in reading order.
#[derive(Debug)]
pub(crate) struct Classification {
    pub(crate) labels: Vec<Label>,
    pub(crate) tokens: usize,
    pub(crate) truncated: bool,
}

impl Model {
    /// Labels `texts`, each with a second text where the model judges pairs, in order.
    ///
    /// # Errors
    /// As [`Self::embed`]; `Invalid` for second texts where tokens are labelled.
    pub(crate) async fn classify(
        &self,
        texts: Vec<String>,
        second_texts: Vec<String>,
        options: ClassifyOptions,
        call: &Call,
    ) -> Result<Answer<Classification>, Error> {
        let tokens = match &self.card.task {
            Task::Sequence { .. } => false,
            Task::Tokens { .. } => true,
            _ => return Err(self.other_task("classify")),
        };
        let (first, second) = (texts.len(), second_texts.len());
        if second > 0 && tokens {
            return Err(Error::invalid("second_texts", "the model labels tokens of single texts"));
        }
        if second > 0 && second != first {
            let problem = format!("{second} for {first} texts; as many or none are allowed");
            return Err(Error::invalid("second_texts", problem));
        }
        let card = Arc::clone(&self.card);
        let finish = move |tokens: Vec<Tokens>, rows: Vec<Vec<f32>>, gone: &CancellationToken| {
            let wanted = rows.into_iter().zip(tokens).take_while(|_| !gone.is_cancelled());
            Ok(wanted.map(|(logits, tokens)| label(&card.task, options, &logits, &tokens)).collect())
        };
        let Size { bytes, characters } = Size::of(&texts);
        let more = Size::of(&second_texts);
        let size = Size { bytes: bytes + more.bytes, characters: characters + more.characters };
        let truncation = options.truncation;
        let prepare = move |tokenizer: &TextTokenizer, gone: &CancellationToken| {
            if second_texts.is_empty() {
                return each(&texts, gone, |text| match tokens {
                    true => tokenizer.row(tokenizer.split_with_spans(text)?, truncation, true),
                    false => tokenizer.row(tokenizer.split(text)?, truncation, false),
                });
            }
            let pairs: Vec<_> = texts.iter().zip(&second_texts).collect();
            each(&pairs, gone, |(first, second)| {
                tokenizer.pair(tokenizer.split(first)?, tokenizer.split(second)?, truncation)
            })
        };
        self.run(Work { rows: first, size, prepare, finish, aside: tokens }, call).await
    }
}

fn label(task: &Task, options: ClassifyOptions, logits: &[f32], tokens: &Tokens) -> Classification {
    let labels = match task {
        Task::Sequence { labels, independent } => {
            labels::of_text(logits, labels, *independent, options.raw_scores)
        }
        task => {
            let each = labels::of_tokens(logits, task.labels(), &tokens.spans, options.raw_scores);
            if options.each_token { each } else { labels::join(each) }
        }
    };
    Classification { labels, tokens: tokens.count, truncated: tokens.truncated }
}

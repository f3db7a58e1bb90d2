//! Texts to how well they answer a query.

use std::sync::Arc;

use switchboard_mesh::Call;
use tokio_util::sync::CancellationToken;

use super::{
    Answer, Model,
    request::{Size, Work, each},
};
use crate::{
    error::Error,
    labels,
    late::{self, Reader},
    repository::Task,
    tokenize::{TextTokenizer, Tokens, Truncation},
};

impl Model {
    /// Scores `texts` by how well they answer `query`, in order.
    ///
    /// # Errors
    /// As [`Self::embed`]; the field says whether the query or which text is at fault.
    pub(crate) async fn rerank(
        &self,
        query: String,
        texts: Vec<String>,
        raw_scores: bool,
        truncation: Truncation,
        call: &Call,
    ) -> Result<Answer<f32>, Error> {
        let asked = Asked { query, texts, raw_scores, truncation };
        match (&self.card.task, &self.texts()?.reader) {
            (Task::CrossEncoder, _) => self.read_together(asked, call).await,
            (Task::LateInteraction(_), Some(reader)) => self.read_apart(reader, asked, call).await,
            _ => Err(self.other_task("rerank")),
        }
    }

    async fn read_together(&self, asked: Asked, call: &Call) -> Result<Answer<f32>, Error> {
        let size = asked.size();
        let Asked { query, texts, raw_scores, truncation } = asked;
        let finish = move |_: Vec<Tokens>, rows: Vec<Vec<f32>>, _: &CancellationToken| {
            let logits = rows.into_iter().map(|row| row.first().copied().unwrap_or_default());
            Ok(logits.map(|logit| if raw_scores { logit } else { labels::sigmoid(logit) }).collect())
        };
        let rows = texts.len();
        let prepare = move |tokenizer: &TextTokenizer, gone: &CancellationToken| {
            let query = tokenizer.first_of_pairs(&query, truncation);
            let query = query.map_err(|error| error.in_field("query"))?;
            each(&texts, gone, |text| tokenizer.pair(query.clone(), tokenizer.split(text)?, truncation))
        };
        self.run(Work { rows, size, prepare, finish, aside: false }, call).await
    }

    async fn read_apart(
        &self,
        reader: &Arc<Reader>,
        asked: Asked,
        call: &Call,
    ) -> Result<Answer<f32>, Error> {
        let size = asked.size();
        let Asked { query, texts, raw_scores, truncation } = asked;
        let width = self.card.dimensions;
        let scorer = Arc::clone(reader);
        // The query is the last row.
        let finish = move |tokens: Vec<Tokens>, mut rows: Vec<Vec<f32>>, gone: &CancellationToken| {
            let query = late::scaled(rows.pop().unwrap_or_default(), width);
            let count = (query.len() / width).max(1) as f32;
            let score = |(vectors, tokens): (Vec<f32>, Tokens)| {
                let sum = scorer.score(&query, vectors, width, &tokens.row.ids);
                if raw_scores { sum } else { sum / count }
            };
            let wanted = rows.into_iter().zip(tokens).take_while(|_| !gone.is_cancelled());
            Ok(wanted.map(score).collect())
        };
        let rows = texts.len() + 1;
        let reader = Arc::clone(reader);
        let prepare = move |tokenizer: &TextTokenizer, gone: &CancellationToken| {
            let query = reader.query(tokenizer, &query, truncation);
            let query = query.map_err(|error| error.in_field("query"))?;
            let mut rows = each(&texts, gone, |text| reader.document(tokenizer, text, truncation))?;
            rows.push(query);
            Ok(rows)
        };
        self.run(Work { rows, size, prepare, finish, aside: true }, call).await
    }
}

/// What is asked of a model that reranks.
struct Asked {
    query: String,
    texts: Vec<String>,
    raw_scores: bool,
    truncation: Truncation,
}

impl Asked {
    /// Counts the query's bytes, which have to be tokenised, but no characters of it.
    fn size(&self) -> Size {
        let Size { bytes, characters } = Size::of(&self.texts);
        Size { bytes: bytes + self.query.len(), characters }
    }
}

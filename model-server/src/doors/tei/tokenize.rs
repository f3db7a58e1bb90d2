//! Texts to tokens and back.

use switchboard_mesh::error;
use switchboard_proto::tei::v1::{
    DecodeRequest, DecodeResponse, EncodeRequest, EncodeResponse, SimpleToken, tokenize_server::Tokenize,
};
use tonic::{Request, Response, Status, Streaming, codegen::BoxStream};

use super::{Asked, Door, SIDE_BY_SIDE};
use crate::{
    bounds::{self, MOST_CHARACTERS},
    doors::stream,
    error::Error,
    repository::Task,
    tokenize::Piece,
};

/// Longer texts, and more ids, are worked on off the threads that serve: a character takes under half a
/// microsecond.
const INLINE: usize = 4096;

impl Door {
    async fn split(&self, asked: &Asked, request: EncodeRequest) -> Result<EncodeResponse, Status> {
        bounds::one("inputs", &request.inputs, MOST_CHARACTERS).map_err(error::status)?;
        let model = self.any(&asked.model).map_err(error::status)?;
        let text = match request.prompt_name.filter(|name| !name.is_empty()) {
            Some(name) => {
                let prompt = prompt(&model.card.task, &name).map_err(error::status)?;
                format!("{prompt}{}", request.inputs)
            }
            None => request.inputs,
        };
        let (size, special) = (text.len(), request.add_special_tokens);
        let work = move || Ok(EncodeResponse { tokens: tokens(&text, model.tokenize(&text, special)?) });
        aside(size, work).await.map_err(error::status)
    }

    async fn join(&self, asked: &Asked, request: DecodeRequest) -> Result<DecodeResponse, Status> {
        let ids = request.ids;
        if !(1..=MOST_CHARACTERS).contains(&ids.len()) {
            let problem = format!("{} ids; 1 to {MOST_CHARACTERS} are allowed", ids.len());
            return Err(error::status(Error::invalid("ids", problem)));
        }
        let model = self.any(&asked.model).map_err(error::status)?;
        let (size, skip_special) = (ids.len(), request.skip_special_tokens);
        let work = move || Ok(DecodeResponse { text: model.decode(&ids, skip_special)? });
        aside(size, work).await.map_err(error::status)
    }
}

/// Does `work` on a text or tokens of that `size`, off the threads that serve if it may take long.
async fn aside<T: Send + 'static>(
    size: usize,
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    if size <= INLINE {
        return work();
    }
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(Error::Tokenizer(error.to_string())))
}

/// The text of a prompt.
fn prompt<'a>(task: &'a Task, name: &str) -> Result<&'a str, Error> {
    let Task::Embed { prompts, .. } = task else {
        return Err(Error::invalid("prompt_name", "the model has no prompts"));
    };
    prompts.get(name).map(String::as_str).ok_or_else(|| {
        let known: Vec<&str> = prompts.keys().map(String::as_str).collect();
        let known = if known.is_empty() { "none".into() } else { known.join(", ") };
        Error::invalid("prompt_name", format!("the model has no prompt of that name; it has {known}"))
    })
}

/// Tokens as this contract has them: with the part of the text that each stands for.
fn tokens(text: &str, pieces: Vec<Piece>) -> Vec<SimpleToken> {
    let bounds: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
    let part = |start: usize, stop: usize| text.get(*bounds.get(start)?..*bounds.get(stop)?);
    let number = |place: usize| u32::try_from(place).unwrap_or(u32::MAX);
    pieces
        .into_iter()
        .map(|Piece { id, text: name, special, span }| SimpleToken {
            id,
            text: span.and_then(|(start, stop)| part(start, stop)).map_or(name, String::from),
            special,
            start: span.map(|(start, _)| number(start)),
            stop: span.map(|(_, stop)| number(stop)),
        })
        .collect()
}

#[tonic::async_trait]
impl Tokenize for Door {
    async fn tokenize(&self, request: Request<EncodeRequest>) -> Result<Response<EncodeResponse>, Status> {
        let asked = Asked::of(&request)?;
        self.split(&asked, request.into_inner()).await.map(Response::new)
    }

    type TokenizeStreamStream = BoxStream<EncodeResponse>;

    async fn tokenize_stream(
        &self,
        request: Request<Streaming<EncodeRequest>>,
    ) -> Result<Response<Self::TokenizeStreamStream>, Status> {
        let (asked, door) = (Asked::of(&request)?, self.clone());
        let answer = move |request| {
            let (asked, door) = (asked.for_message(), door.clone());
            async move { door.split(&asked, request).await }
        };
        Ok(Response::new(stream::answers(request.into_inner(), SIDE_BY_SIDE, answer)))
    }

    async fn decode(&self, request: Request<DecodeRequest>) -> Result<Response<DecodeResponse>, Status> {
        let asked = Asked::of(&request)?;
        self.join(&asked, request.into_inner()).await.map(Response::new)
    }

    type DecodeStreamStream = BoxStream<DecodeResponse>;

    async fn decode_stream(
        &self,
        request: Request<Streaming<DecodeRequest>>,
    ) -> Result<Response<Self::DecodeStreamStream>, Status> {
        let (asked, door) = (Asked::of(&request)?, self.clone());
        let answer = move |request| {
            let (asked, door) = (asked.for_message(), door.clone());
            async move { door.join(&asked, request).await }
        };
        Ok(Response::new(stream::answers(request.into_inner(), SIDE_BY_SIDE, answer)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_carry_the_part_of_the_text_that_they_stand_for() {
        let piece = |id, text: &str, span: Option<(usize, usize)>| Piece {
            id,
            text: text.into(),
            special: span.is_none(),
            span,
        };
        let pieces = vec![
            piece(101, "[CLS]", None),
            piece(7, "gro", Some((0, 3))),
            piece(8, "##ße", Some((3, 5))),
            piece(9, "x", Some((4, 99))),
        ];
        let tokens = tokens("Größe", pieces);
        let seen: Vec<_> =
            tokens.iter().map(|token| (token.text.as_str(), token.start, token.stop)).collect();
        assert_eq!(
            seen,
            [
                ("[CLS]", None, None),
                ("Grö", Some(0), Some(3)),
                ("ße", Some(3), Some(5)),
                ("x", Some(4), Some(99)),
            ]
        );
    }
}

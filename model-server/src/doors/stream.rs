//! Answers to the messages of a stream.

use std::future::Future;

use futures::StreamExt as _;
use tonic::{Status, Streaming, codegen::BoxStream};

/// Answers each message of `requests` in order, with up to `side_by_side` of them in work, so that texts
/// of one stream share batches. A message that fails ends the stream, and so does its caller's going:
/// nothing here runs unless the answers are polled.
pub(super) fn answers<Q, A, F>(
    requests: Streaming<Q>,
    side_by_side: usize,
    answer: impl Fn(Q) -> F + Send + 'static,
) -> BoxStream<A>
where
    Q: Send + 'static,
    A: Send + 'static,
    F: Future<Output = Result<A, Status>> + Send + 'static,
{
    let answers = requests.map(move |request| {
        let answer = request.map(&answer);
        async { answer?.await }
    });
    Box::pin(answers.buffered(side_by_side))
}

//! What the mesh still knows of the turns that its client was told of.

use anyhow::{Context as _, Result};
use futures::{StreamExt as _, stream};
use switchboard_proto::conversation::v1::{
    GetConversationRequest, conversation_service_client::ConversationServiceClient,
};
use tokio::time::Instant;
use tonic::{Code, Request, transport::Channel};

use crate::{
    client::{Turn, trusted},
    load::Turns,
};

/// Questions to the mesh at once.
const AT_ONCE: usize = 32;

/// What became of acknowledged turns.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Kept {
    /// Turns whose report came.
    pub(crate) acknowledged: usize,
    /// Those that a node has.
    pub(crate) kept: usize,
    /// Those that no node has, and that are older than the last end of a node of their role: such a node
    /// keeps conversations in its memory alone.
    pub(crate) forgotten: usize,
    /// Those that no node has, for no such reason.
    pub(crate) missing: usize,
}

/// Asks every node of the conversation role, at its own port, for every acknowledged turn: which of them
/// served it, its client does not know. `ends` are the times at which such a node ended.
pub(crate) async fn reconcile(nodes: &[Channel], turns: &Turns, ends: &[Instant]) -> Result<Kept> {
    let acknowledged: Vec<&Turn> = turns.all.iter().filter(|turn| turn.acknowledged.is_some()).collect();
    let known = stream::iter(&acknowledged).map(|turn| async move {
        let Some((conversation, number)) = &turn.acknowledged else { return Ok(false) };
        for node in nodes {
            if knows(node, conversation, *number).await? {
                return Ok(true);
            }
        }
        anyhow::Ok(false)
    });
    let known: Vec<Result<bool>> = known.buffered(AT_ONCE).collect().await;
    let mut kept = Kept { acknowledged: acknowledged.len(), ..Kept::default() };
    for (turn, known) in acknowledged.iter().zip(known) {
        if known? {
            kept.kept += 1;
        } else if ends.iter().any(|end| *end >= turn.due) {
            kept.forgotten += 1;
        } else {
            kept.missing += 1;
        }
    }
    Ok(kept)
}

async fn knows(node: &Channel, conversation: &str, number: u32) -> Result<bool> {
    let mut request = Request::new(GetConversationRequest { conversation_id: conversation.to_owned() });
    trusted(request.metadata_mut());
    match ConversationServiceClient::new(node.clone()).get_conversation(request).await {
        Ok(found) => {
            let turns = found.into_inner().conversation.unwrap_or_default().turns;
            Ok(turns.iter().any(|turn| turn.turn == number))
        }
        Err(status) if status.code() == Code::NotFound => Ok(false),
        Err(status) => Err(status).context("a node of the conversation role does not answer"),
    }
}

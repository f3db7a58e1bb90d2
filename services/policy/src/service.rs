//! The generated trait: decode, call the core, encode.

use std::sync::Arc;

use mesh::{Call, Tenant, error};
use proto::policy::v1::{
    self as v1, DecideRequest, DecideResponse, Finding, InspectRequest, InspectResponse, RedactRequest,
    RedactResponse, RestoreRequest, RestoreResponse, Verdict, policy_service_server::PolicyService,
};
use switchboard_mesh as mesh;
use switchboard_proto as proto;
use switchboard_text::redaction::{Redacted, Replaced};
use tonic::{Request, Response, Status};

use crate::{
    error::Error,
    inspection::{self, Direction},
    metrics,
    vault::{Held, Vault},
};

/// The most characters of a text, by contract.
const MAX_CHARACTERS: usize = 64_000;
/// Up to this many bytes a text is inspected where the call is served: it takes some 100
/// microseconds, less than a hop to another thread costs under load.
const INLINE_BYTES: usize = 4096;
/// The most bytes of a conversation's id and of a purpose: ids are UUIDs or the caller's own keys,
/// a purpose is a phrase.
const MAX_NAME_BYTES: usize = 256;

/// Serves `PolicyService`.
pub(crate) struct Service {
    vault: Arc<Vault>,
}

impl Service {
    pub(crate) fn new(vault: Arc<Vault>) -> Self {
        Self { vault }
    }

    /// Checks text and conversation, and redacts.
    async fn redacted(
        &self,
        tenant: &Tenant,
        text: String,
        conversation: &str,
        direction: Direction,
    ) -> Result<Redacted, Error> {
        check_text(&text)?;
        check_conversation(conversation)?;
        let redacted = if text.len() <= INLINE_BYTES {
            inspection::inspect(&text, direction, &self.vault, tenant, conversation)
        } else {
            let (vault, tenant, conversation) = (self.vault.clone(), tenant.clone(), conversation.to_owned());
            let inspect = move || inspection::inspect(&text, direction, &vault, &tenant, &conversation);
            tokio::task::spawn_blocking(inspect).await?
        };
        for replaced in &redacted.replaced {
            metrics::replaced(replaced.entity.kind.as_str(), direction.as_str());
        }
        Ok(redacted)
    }
}

#[tonic::async_trait]
impl PolicyService for Service {
    async fn inspect(&self, request: Request<InspectRequest>) -> Result<Response<InspectResponse>, Status> {
        let call = Call::of(&request)?;
        let InspectRequest { text, direction, conversation_id, locale: _ } = request.into_inner();
        let direction = direction_of(direction).map_err(error::status)?;
        let redacted = self.redacted(call.tenant()?, text, &conversation_id, direction).await;
        let redacted = redacted.map_err(error::status)?;
        let verdict = if redacted.replaced.is_empty() { Verdict::Allow } else { Verdict::Rewrite };
        Ok(Response::new(InspectResponse {
            verdict: verdict.into(),
            reason: inspection::reason(&redacted.replaced),
            findings: redacted.replaced.into_iter().map(finding).collect(),
            text: redacted.text,
        }))
    }

    async fn redact(&self, request: Request<RedactRequest>) -> Result<Response<RedactResponse>, Status> {
        let call = Call::of(&request)?;
        let RedactRequest { text, conversation_id } = request.into_inner();
        let redacted = self.redacted(call.tenant()?, text, &conversation_id, Direction::Input).await;
        let redacted = redacted.map_err(error::status)?;
        let findings = redacted.replaced.into_iter().map(finding).collect();
        Ok(Response::new(RedactResponse { text: redacted.text, findings }))
    }

    /// Asks for a purpose and counts the calls. The purpose itself is kept nowhere: it is the caller's
    /// free text, which may hold personal data, so it is neither logged nor a label.
    async fn restore(&self, request: Request<RestoreRequest>) -> Result<Response<RestoreResponse>, Status> {
        let call = Call::of(&request)?;
        let tenant = call.tenant()?;
        let RestoreRequest { text, conversation_id, purpose } = request.into_inner();
        check_text(&text).and_then(|()| check_restore(&conversation_id, &purpose)).map_err(error::status)?;
        // What is not held is as missing as a conversation that never was.
        let held = self.vault.find(tenant, &conversation_id).unwrap_or_else(|| Held::alone(1));
        let restored = held.lock().restore(&text);
        metrics::restored(restored.restored, restored.missing);
        let missing = u32::try_from(restored.missing).unwrap_or(u32::MAX);
        Ok(Response::new(RestoreResponse { text: restored.text, missing }))
    }

    async fn decide(&self, request: Request<DecideRequest>) -> Result<Response<DecideResponse>, Status> {
        Call::of(&request)?.tenant()?;
        Err(error::status(Error::NoPolicy))
    }
}

fn direction_of(direction: i32) -> Result<Direction, Error> {
    match v1::Direction::try_from(direction) {
        Ok(v1::Direction::Input) => Ok(Direction::Input),
        Ok(v1::Direction::Output) => Ok(Direction::Output),
        Ok(v1::Direction::Unspecified) | Err(_) => {
            Err(Error::Field { field: "direction", allowed: "DIRECTION_INPUT or DIRECTION_OUTPUT" })
        }
    }
}

fn check_text(text: &str) -> Result<(), Error> {
    // A character takes at most four bytes; a text far over the limit is not counted through.
    if text.len() > MAX_CHARACTERS * 4 || text.chars().count() > MAX_CHARACTERS {
        return Err(Error::Field { field: "text", allowed: "at most 64,000 characters" });
    }
    Ok(())
}

fn check_conversation(conversation: &str) -> Result<(), Error> {
    if conversation.len() > MAX_NAME_BYTES {
        return Err(Error::Field { field: "conversation_id", allowed: "at most 256 bytes" });
    }
    Ok(())
}

fn check_restore(conversation: &str, purpose: &str) -> Result<(), Error> {
    check_conversation(conversation)?;
    if conversation.is_empty() {
        return Err(Error::Field { field: "conversation_id", allowed: "the conversation to restore from" });
    }
    if purpose.trim().is_empty() || purpose.len() > MAX_NAME_BYTES {
        return Err(Error::Field { field: "purpose", allowed: "why it is needed, 1 to 256 bytes" });
    }
    Ok(())
}

fn finding(replaced: Replaced) -> Finding {
    let Replaced { entity, placeholder } = replaced;
    // Offsets are below the 64,000 characters that a text may have.
    let offset = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
    Finding {
        start: offset(entity.span.chars.start),
        end: offset(entity.span.chars.end),
        kind: entity.kind.as_str().to_owned(),
        score: entity.score,
        detector: entity.detector.to_owned(),
        placeholder,
    }
}

#[cfg(test)]
mod tests;

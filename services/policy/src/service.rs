//! The generated trait: decode, call the core, encode.

mod decode;
mod documents;
mod encode;
mod stream;

use std::sync::Arc;

use mesh::{Call, Tenant, error};
use proto::policy::v1::{
    DecideRequest, DecideResponse, ForgetRequest, ForgetResponse, GetBundleRequest, GetBundleResponse,
    InspectRequest, InspectResponse, InspectStreamRequest, RedactRequest, RedactResponse,
    ReloadBundlesRequest, ReloadBundlesResponse, RestoreRequest, RestoreResponse,
    policy_service_server::PolicyService,
};
use switchboard_mesh as mesh;
use switchboard_proto as proto;
use switchboard_text::redaction::Redacted;
use tonic::{Request, Response, Status, Streaming};

pub(crate) use self::documents::Documents;
use self::{decode::Inspecting, documents::Key};
use crate::{
    bundles::Bundles,
    error::Error,
    inspection::{self, Direction},
    judge::{Judge, Text},
    metrics,
    vault::Vault,
};

/// Up to this many bytes a text is inspected where the call is served: it takes some 100
/// microseconds, less than a hop to another thread costs under load.
const INLINE_BYTES: usize = 4096;

/// Serves `PolicyService`.
pub(crate) struct Service {
    core: Arc<Core>,
}

/// What calls share.
pub(crate) struct Core {
    pub(crate) vault: Arc<Vault>,
    pub(crate) judge: Judge,
    pub(crate) bundles: Arc<Bundles>,
    pub(crate) documents: Documents,
}

impl Core {
    /// Redacts, and counts what was replaced.
    fn redact(
        &self,
        tenant: &Tenant,
        text: &str,
        conversation: &str,
        direction: Direction,
    ) -> Result<Redacted, Error> {
        let redacted = inspection::inspect(text, direction, &self.vault, tenant, conversation)?;
        count(&redacted, direction);
        Ok(redacted)
    }

    fn inspect(&self, tenant: &Tenant, request: &Inspecting) -> Result<InspectResponse, Error> {
        let key = Key::of(tenant, || self.bundles.of(tenant).to_string(), request);
        if let Some(known) = key.as_ref().and_then(|key| self.documents.get(key)) {
            return Ok(known);
        }
        let Inspecting { text, direction, source, about } = request;
        let redacted = self.redact(tenant, text, &about.conversation, *direction)?;
        let text =
            Text { written: text, redacted: &redacted.text, direction: *direction, source: *source, about };
        let inspected = self.judge.inspect(tenant, &text);
        let sure = !inspected.judged.failed();
        let reply = encode::inspected(redacted, inspected);
        if let Some(key) = key.filter(|_| sure) {
            self.documents.put(key, &reply);
        }
        Ok(reply)
    }
}

fn count(redacted: &Redacted, direction: Direction) {
    for replaced in &redacted.replaced {
        metrics::replaced(replaced.entity.kind.as_str(), direction.as_str());
    }
}

impl Service {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        Self { core }
    }
}

/// Runs what takes time linear in a text of `bytes`, or needs what may be `stored` on a disk, where it
/// harms nobody else.
async fn on_core<T: Send + 'static>(
    core: &Arc<Core>,
    bytes: usize,
    stored: bool,
    work: impl FnOnce(&Core) -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    if bytes <= INLINE_BYTES && !(stored && core.vault.blocks()) {
        return work(core);
    }
    let core = Arc::clone(core);
    tokio::task::spawn_blocking(move || work(&core)).await?
}

#[tonic::async_trait]
impl PolicyService for Service {
    type InspectStreamStream = stream::Pieces;

    async fn inspect(&self, request: Request<InspectRequest>) -> Result<Response<InspectResponse>, Status> {
        let call = Call::of(&request)?;
        let tenant = call.tenant()?.clone();
        let request = Inspecting::of(request.into_inner()).map_err(error::status)?;
        let (bytes, stored) = (request.bytes(), request.is_stored());
        let reply = on_core(&self.core, bytes, stored, move |core| core.inspect(&tenant, &request)).await;
        Ok(Response::new(reply.map_err(error::status)?))
    }

    async fn inspect_stream(
        &self,
        request: Request<Streaming<InspectStreamRequest>>,
    ) -> Result<Response<stream::Pieces>, Status> {
        let call = Call::of(&request)?;
        let tenant = call.tenant()?.clone();
        Ok(Response::new(stream::pieces(Arc::clone(&self.core), tenant, request.into_inner())))
    }

    async fn redact(&self, request: Request<RedactRequest>) -> Result<Response<RedactResponse>, Status> {
        let call = Call::of(&request)?;
        let tenant = call.tenant()?.clone();
        let RedactRequest { text, conversation_id } = request.into_inner();
        decode::check_text(&text)
            .and_then(|()| decode::check_conversation(&conversation_id))
            .map_err(error::status)?;
        let (bytes, stored) = (text.len(), !conversation_id.is_empty());
        let redact = move |core: &Core| core.redact(&tenant, &text, &conversation_id, Direction::Input);
        let redacted = on_core(&self.core, bytes, stored, redact).await;
        Ok(Response::new(encode::redacted(redacted.map_err(error::status)?)))
    }

    /// Asks for a purpose and counts the calls. The purpose itself is kept nowhere: it is the caller's
    /// free text, which may hold personal data, so it is neither logged nor a label.
    async fn restore(&self, request: Request<RestoreRequest>) -> Result<Response<RestoreResponse>, Status> {
        let call = Call::of(&request)?;
        let tenant = call.tenant()?.clone();
        let RestoreRequest { text, conversation_id, purpose } = request.into_inner();
        decode::check_text(&text)
            .and_then(|()| decode::check_restore(&conversation_id, &purpose))
            .map_err(error::status)?;
        let restore = move |core: &Core| Ok(core.vault.restore(&tenant, &conversation_id, &text)?);
        let restored = on_core(&self.core, 0, true, restore).await.map_err(error::status)?;
        metrics::restored(restored.restored, restored.missing);
        let missing = u32::try_from(restored.missing).unwrap_or(u32::MAX);
        Ok(Response::new(RestoreResponse { text: restored.text, missing }))
    }

    async fn forget(&self, request: Request<ForgetRequest>) -> Result<Response<ForgetResponse>, Status> {
        let call = Call::of(&request)?;
        let tenant = call.tenant()?.clone();
        let forget = decode::forget(request.into_inner()).map_err(error::status)?;
        let bytes = forget.bytes();
        let forget = move |core: &Core| match forget {
            decode::Forget::Conversation(conversation) => {
                core.judge.forget(&tenant, &conversation);
                Ok(core.vault.forget(&tenant, &conversation)?)
            }
            decode::Forget::Value(value) => Ok(core.vault.forget_value(&tenant, &value)?),
        };
        let values = on_core(&self.core, bytes, true, forget).await.map_err(error::status)?;
        Ok(Response::new(ForgetResponse { values: u32::try_from(values).unwrap_or(u32::MAX) }))
    }

    async fn decide(&self, request: Request<DecideRequest>) -> Result<Response<DecideResponse>, Status> {
        let call = Call::of(&request)?;
        let tenant = call.tenant()?;
        let (action, facts) = decode::action(request.into_inner()).map_err(error::status)?;
        Ok(Response::new(encode::decided(self.core.judge.decide(tenant, &action, facts))))
    }

    async fn get_bundle(
        &self,
        request: Request<GetBundleRequest>,
    ) -> Result<Response<GetBundleResponse>, Status> {
        let call = Call::of(&request)?;
        let bundles = encode::bundles(self.core.bundles.about(call.tenant()?));
        Ok(Response::new(GetBundleResponse { bundles }))
    }

    async fn reload_bundles(
        &self,
        request: Request<ReloadBundlesRequest>,
    ) -> Result<Response<ReloadBundlesResponse>, Status> {
        let call = Call::of(&request)?;
        let tenant = call.tenant()?;
        let bundles = Arc::clone(&self.core.bundles);
        let looked = tokio::task::spawn_blocking(move || bundles.look(true)).await;
        looked.map_err(|lost| error::status(Error::Lost(lost)))?;
        let bundles = encode::bundles(self.core.bundles.about(tenant));
        Ok(Response::new(ReloadBundlesResponse { bundles }))
    }
}

#[cfg(test)]
mod tests;

//! The generated trait: decode, call the core, encode.

mod decode;
mod documents;
mod encode;
mod stream;

use std::{mem, sync::Arc};

use mesh::{Call, Tenant, error};
use proto::policy::v1::{
    DecideRequest, DecideResponse, ForgetRequest, ForgetResponse, GetBundleRequest, GetBundleResponse,
    InspectRequest, InspectResponse, InspectStreamRequest, RedactRequest, RedactResponse,
    ReloadBundlesRequest, ReloadBundlesResponse, RestoreRequest, RestoreResponse,
    policy_service_server::PolicyService,
};
use switchboard_mesh as mesh;
use switchboard_proto as proto;
use switchboard_text::redaction::{self, Entity, Redacted};
use tonic::{Request, Response, Status, Streaming};

pub(crate) use self::documents::Documents;
use self::{decode::Inspecting, documents::Key};
use crate::{
    bundles::Bundles,
    detectors::Heard,
    error::Error,
    inspection::{self, Direction},
    judge::{Judge, Text},
    metrics,
    models::{Asks, Models},
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
    pub(crate) models: Models,
}

/// What was found in a text before anything is decided about it.
struct Found {
    entities: Vec<Entity>,
    heard: Heard,
}

impl Core {
    /// Replaces, and counts what was replaced. Names stand behind what was found by its form.
    fn redact(
        &self,
        tenant: &Tenant,
        text: &str,
        conversation: &str,
        direction: Direction,
        found: &mut Found,
    ) -> Result<Redacted, Error> {
        let (entities, named) = (mem::take(&mut found.entities), mem::take(&mut found.heard.named));
        let entities = redaction::with_named(text, entities, named);
        let redacted = inspection::replace(text, entities, direction, &self.vault, tenant, conversation)?;
        for replaced in &redacted.replaced {
            metrics::replaced(replaced.entity.kind.as_str(), direction.as_str());
        }
        Ok(redacted)
    }

    /// Redacts and judges `text`, which is all of the request's or a piece of it; whether the rules answered.
    fn inspect(
        &self,
        tenant: &Tenant,
        request: &Inspecting,
        text: &str,
        mut found: Found,
    ) -> Result<(InspectResponse, bool), Error> {
        let Inspecting { direction, source, about, .. } = request;
        let redacted = self.redact(tenant, text, &about.conversation, *direction, &mut found)?;
        let inspected = self.judge.inspect(
            tenant,
            &Text {
                written: text,
                redacted: &redacted.text,
                direction: *direction,
                source: *source,
                about,
                heard: &found.heard,
            },
        );
        let answered = !inspected.judged.failed();
        Ok((encode::inspected(redacted, inspected, &found.heard), answered))
    }
}

/// Finds what is in a text: by its form, and by the models that are asked. What it waits for is bounded.
async fn look(
    core: &Arc<Core>,
    call: &Call,
    text: &Arc<str>,
    direction: Direction,
    asks: Asks,
) -> Result<Found, Error> {
    let read = Arc::clone(text);
    let find = move |_: &Core| Ok(inspection::find(&read, direction));
    let entities = on_core(core, text.len(), false, find).await?;
    let heard = core.models.look(call, asks, text, &entities).await;
    Ok(Found { entities, heard })
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
        let core = &self.core;
        let decides = || format!("{}{}", core.bundles.of(&tenant), core.models.versions());
        let key = Key::of(&tenant, decides, &request);
        if let Some(known) = key.as_ref().and_then(|key| core.documents.get(key)) {
            return Ok(Response::new(known));
        }
        let asks = core.models.asks(request.direction, request.source, request.about.verbatim);
        let found = look(core, &call, &request.text, request.direction, asks).await.map_err(error::status)?;
        let whole = found.heard.missing().next().is_none();
        let (bytes, stored) = (request.bytes(), request.is_stored());
        let inspect = move |core: &Core| core.inspect(&tenant, &request, &request.text, found);
        let (reply, answered) = on_core(core, bytes, stored, inspect).await.map_err(error::status)?;
        if let Some(key) = key.filter(|_| answered && whole) {
            core.documents.put(key, &reply);
        }
        Ok(Response::new(reply))
    }

    async fn inspect_stream(
        &self,
        request: Request<Streaming<InspectStreamRequest>>,
    ) -> Result<Response<stream::Pieces>, Status> {
        let call = Call::of(&request)?;
        let tenant = call.tenant()?.clone();
        Ok(Response::new(stream::pieces(Arc::clone(&self.core), call, tenant, request.into_inner())))
    }

    async fn redact(&self, request: Request<RedactRequest>) -> Result<Response<RedactResponse>, Status> {
        let call = Call::of(&request)?;
        let tenant = call.tenant()?.clone();
        let RedactRequest { text, conversation_id } = request.into_inner();
        decode::check_text(&text)
            .and_then(|()| decode::check_conversation(&conversation_id))
            .map_err(error::status)?;
        let (bytes, stored, text) = (text.len(), !conversation_id.is_empty(), Arc::<str>::from(text));
        let asks = self.core.models.asks_names();
        let found = look(&self.core, &call, &text, Direction::Input, asks).await;
        let mut found = found.map_err(error::status)?;
        let redact = move |core: &Core| {
            let redacted = core.redact(&tenant, &text, &conversation_id, Direction::Input, &mut found)?;
            Ok(encode::redacted(redacted, &found.heard))
        };
        let reply = on_core(&self.core, bytes, stored, redact).await;
        Ok(Response::new(reply.map_err(error::status)?))
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

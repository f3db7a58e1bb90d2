//! The generated trait: decode, call the core, encode.

use std::{collections::HashMap, path::PathBuf, pin::Pin, sync::Arc};

use futures::Stream;
use mesh::{Call, Tenant, error};
use proto::ledger::v1::{
    self as v1, AppendRequest, AppendResponse, CheckpointsRequest, CheckpointsResponse, EraseSubjectRequest,
    EraseSubjectResponse, ExportRequest, ExportResponse, GetRequest, GetResponse, ProveRequest,
    ProveResponse, QueryRequest, QueryResponse, UnsealRequest, UnsealResponse, VerifyRequest, VerifyResponse,
    ledger_service_server::LedgerService,
};
use switchboard_mesh as mesh;
use switchboard_proto as proto;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use crate::{
    chain::Hash,
    checkpoint::Trusted,
    config::ExportConfig,
    draft, encode,
    error::Error,
    export,
    group::{self, Writer},
    metrics, prove,
    seal::Masters,
    store::{Store, Which},
    verify,
};

/// The most checkpoints of a page.
const MAX_CHECKPOINTS: usize = 1000;
/// The most bytes of a page of records.
const MAX_PAGE_BYTES: usize = 3 << 20;

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Serves `LedgerService`.
pub(crate) struct Service {
    pub(crate) shared: Arc<Shared>,
}

/// What a call works with.
pub(crate) struct Shared {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) writer: Writer,
    /// Opens subjects' keys.
    pub(crate) masters: Masters,
    pub(crate) trusted: Trusted,
    /// Folder of the heads outside the store.
    pub(crate) heads: PathBuf,
    /// Where exports go.
    pub(crate) export: ExportConfig,
}

impl Shared {
    async fn query(&self, tenant: &Tenant, request: QueryRequest) -> Result<QueryResponse, Error> {
        let (filter, limit) = draft::filter(request)?;
        let mut rows = self.store.query(tenant, filter, limit + 1).await?;
        let mut more = rows.len() > limit;
        rows.truncate(limit);
        // The record before is mostly in the page as well.
        let known: HashMap<u64, Hash> =
            rows.iter().filter_map(|row| Some((row.sequence, row.hash().ok()?))).collect();
        let (mut records, mut bytes) = (Vec::with_capacity(rows.len()), 0);
        for row in &rows {
            // A record takes about twice its encoding, which it brings along.
            bytes += row.content.len() * 2 + 300;
            if bytes > MAX_PAGE_BYTES && !records.is_empty() {
                more = true;
                break;
            }
            let before = known.get(&row.sequence.saturating_sub(1)).copied();
            records.push(self.record(tenant, row, before).await?);
        }
        let last = records.last().map(|record: &v1::Record| record.sequence.to_string());
        Ok(QueryResponse { next_page_token: last.filter(|_| more).unwrap_or_default(), records })
    }

    /// A record for callers, with the hash before it, which is asked of the store where it is not `known`.
    async fn record(
        &self,
        tenant: &Tenant,
        row: &crate::plan::Row,
        known: Option<Hash>,
    ) -> Result<v1::Record, Error> {
        let previous = match (row.sequence, known) {
            (_, Some(known)) => known,
            (0 | 1, None) => crate::chain::genesis(tenant.as_str()),
            (sequence, None) => {
                self.store.hashes(tenant, sequence - 1, 1).await?.pop().ok_or_else(|| Error::Damaged {
                    sequence: sequence - 1,
                    detail: "it is not there".into(),
                })?
            }
        };
        encode::record(row, &previous)
    }

    async fn get(&self, tenant: &Tenant, request: GetRequest) -> Result<v1::Record, Error> {
        let which = match (request.record_id.as_str(), request.sequence) {
            ("", 0) => return Err(Error::field("record_id", "an id, or a sequence from 1")),
            ("", sequence) => Which::Sequence(sequence),
            (id, 0) => Which::Id(draft::id_of("record_id", id)?),
            _ => return Err(Error::field("sequence", "0 where there is an id")),
        };
        let row = self.store.find(tenant, which).await?.ok_or(Error::Gone)?;
        self.record(tenant, &row, None).await
    }

    async fn unseal(&self, tenant: &Tenant, request: UnsealRequest) -> Result<Vec<u8>, Error> {
        draft::required("purpose", &request.purpose, 256)?;
        let id = draft::id_of("record_id", &request.record_id)?;
        let row = self.store.find(tenant, Which::Id(id)).await?.ok_or(Error::Gone)?;
        let content = row.content()?;
        let digest = content.seal.ok_or(Error::NotSealed)?;
        let sealed = row.sealed.as_ref().ok_or(Error::Unsealed)?;
        let kept = self.store.key(tenant, digest.key).await?.ok_or(Error::Erased)?;
        self.masters.unwrap(&kept)?.open(tenant.as_str(), id, content.subject, &sealed.bytes)
    }

    async fn prove(&self, tenant: &Tenant, request: ProveRequest) -> Result<ProveResponse, Error> {
        let id = draft::id_of("record_id", &request.record_id)?;
        let proof = prove::prove(&*self.store, tenant, id, request.checkpoint_sequence).await?;
        Ok(ProveResponse {
            record: Some(self.record(tenant, &proof.row, None).await?),
            checkpoint: Some(encode::checkpoint(proof.checkpoint)),
            path: proof.path.into_iter().map(Vec::from).collect(),
        })
    }

    async fn checkpoints(
        &self,
        tenant: &Tenant,
        request: CheckpointsRequest,
    ) -> Result<CheckpointsResponse, Error> {
        let limit = draft::page_size(request.page_size, 50, MAX_CHECKPOINTS)?;
        let below = draft::page_token(&request.page_token)?.unwrap_or(u64::MAX);
        let mut found = self.store.checkpoints_below(tenant, below, limit + 1).await?;
        let more = found.len() > limit;
        found.truncate(limit);
        let last = found.last().map(|checkpoint| checkpoint.sequence.to_string());
        let head = self.store.head(tenant).await?;
        Ok(CheckpointsResponse {
            checkpoints: found.into_iter().map(encode::checkpoint).collect(),
            next_page_token: last.filter(|_| more).unwrap_or_default(),
            sequence: head.sequence,
            head: head.hash.to_vec(),
        })
    }

    async fn append(&self, tenant: &Tenant, request: AppendRequest) -> Result<AppendResponse, Error> {
        let bytes = prost_size(&request);
        let batch = draft::batch(tenant, request.records)?;
        let receipts = self.writer.append(batch, bytes).await?;
        let receipts = receipts.into_iter().map(|receipt| encode::receipt(tenant, receipt)).collect();
        Ok(AppendResponse { receipts })
    }

    async fn erase(
        &self,
        tenant: &Tenant,
        request: EraseSubjectRequest,
    ) -> Result<EraseSubjectResponse, Error> {
        let EraseSubjectRequest { subject, record_id, reason } = request;
        let (batch, subject) = draft::erasure(tenant, subject, &record_id, reason, group::now())?;
        let (receipt, records) = self.writer.erase(batch, subject).await?;
        Ok(EraseSubjectResponse { receipt: Some(encode::receipt(tenant, receipt)), records })
    }
}

/// About how many bytes a request holds while it waits.
fn prost_size(request: &AppendRequest) -> usize {
    let open = |record: &v1::NewRecord| -> usize {
        record.attributes.iter().map(|(key, value)| key.len() + value.len() + 96).sum()
    };
    request.records.iter().map(|record| record.sealed.len() + open(record) + 600).sum()
}

/// Sends what a long piece of work says as it goes on; it ends when its caller goes.
fn answers<T: Send + 'static, F>(work: impl FnOnce(mpsc::Sender<Result<T, Status>>) -> F) -> Answers<T>
where
    F: Future<Output = Result<T, Error>> + Send + 'static,
{
    let (sender, receiver) = mpsc::channel(16);
    let work = work(sender.clone());
    tokio::spawn(async move {
        tokio::select! {
            done = work => {
                let _ = sender.send(done.map_err(error::status)).await;
            }
            () = sender.closed() => {}
        }
    });
    Box::pin(ReceiverStream::new(receiver))
}

#[tonic::async_trait]
impl LedgerService for Service {
    type VerifyStream = Answers<VerifyResponse>;
    type ExportStream = Answers<ExportResponse>;

    async fn append(&self, request: Request<AppendRequest>) -> Result<Response<AppendResponse>, Status> {
        let call = Call::of(&request)?;
        let done = self.shared.append(call.tenant()?, request.into_inner()).await;
        done.map(Response::new).map_err(error::status)
    }

    async fn query(&self, request: Request<QueryRequest>) -> Result<Response<QueryResponse>, Status> {
        let call = Call::of(&request)?;
        let done = self.shared.query(call.tenant()?, request.into_inner()).await;
        done.map(Response::new).map_err(error::status)
    }

    async fn get(&self, request: Request<GetRequest>) -> Result<Response<GetResponse>, Status> {
        let call = Call::of(&request)?;
        let done = self.shared.get(call.tenant()?, request.into_inner()).await;
        done.map(|record| Response::new(GetResponse { record: Some(record) })).map_err(error::status)
    }

    async fn unseal(&self, request: Request<UnsealRequest>) -> Result<Response<UnsealResponse>, Status> {
        let call = Call::of(&request)?;
        let done = self.shared.unseal(call.tenant()?, request.into_inner()).await;
        metrics::unsealed(done.is_ok());
        done.map(|sealed| Response::new(UnsealResponse { sealed })).map_err(error::status)
    }

    async fn verify(&self, request: Request<VerifyRequest>) -> Result<Response<Self::VerifyStream>, Status> {
        let tenant = Call::of(&request)?.tenant()?.clone();
        let from = request.into_inner().from_sequence;
        let shared = Arc::clone(&self.shared);
        Ok(Response::new(answers(move |sender| async move {
            let mut progress = |records, total| {
                // Progress that nobody takes in time is not worth waiting for.
                let part = v1::verify_response::Part::Progress(v1::VerifyProgress { records, total });
                let _ = sender.try_send(Ok(VerifyResponse { part: Some(part) }));
            };
            let Shared { store, heads, trusted, .. } = &*shared;
            let verdict = verify::verify(&**store, heads, trusted, &tenant, from, &mut progress).await?;
            metrics::verdict(verdict.bad.is_none());
            if let Some(bad) = &verdict.bad {
                tracing::error!(%tenant, sequence = bad.sequence, fault = bad.fault.as_str_name(), "a ledger is not intact");
            }
            let part = v1::verify_response::Part::Verdict(encode::verdict(verdict));
            Ok(VerifyResponse { part: Some(part) })
        })))
    }

    async fn prove(&self, request: Request<ProveRequest>) -> Result<Response<ProveResponse>, Status> {
        let call = Call::of(&request)?;
        let done = self.shared.prove(call.tenant()?, request.into_inner()).await;
        done.map(Response::new).map_err(error::status)
    }

    async fn checkpoints(
        &self,
        request: Request<CheckpointsRequest>,
    ) -> Result<Response<CheckpointsResponse>, Status> {
        let call = Call::of(&request)?;
        let done = self.shared.checkpoints(call.tenant()?, request.into_inner()).await;
        done.map(Response::new).map_err(error::status)
    }

    async fn export(&self, request: Request<ExportRequest>) -> Result<Response<Self::ExportStream>, Status> {
        let tenant = Call::of(&request)?.tenant()?.clone();
        let from = request.into_inner().from_sequence;
        let shared = Arc::clone(&self.shared);
        Ok(Response::new(answers(move |sender| async move {
            let mut progress = |records, total| {
                let part = v1::export_response::Part::Progress(v1::ExportProgress { records, total });
                let _ = sender.try_send(Ok(ExportResponse { part: Some(part) }));
            };
            let place = export::Place::open(&shared.export).await?;
            let summary = export::export(&*shared.store, &place, &tenant, from, &mut progress).await?;
            Ok(ExportResponse { part: Some(v1::export_response::Part::Summary(summary)) })
        })))
    }

    async fn erase_subject(
        &self,
        request: Request<EraseSubjectRequest>,
    ) -> Result<Response<EraseSubjectResponse>, Status> {
        let call = Call::of(&request)?;
        let done = self.shared.erase(call.tenant()?, request.into_inner()).await;
        done.map(Response::new).map_err(error::status)
    }
}

#[cfg(test)]
mod tests;

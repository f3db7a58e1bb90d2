//! What the core knows, as the contract has it.

use mesh::Tenant;
use proto::ledger::v1;
use switchboard_mesh as mesh;
use switchboard_proto as proto;

use crate::{
    chain::{self, Hash},
    checkpoint::Checkpoint,
    draft::timestamp,
    error::Error,
    plan::{Receipt, Row},
    verify::Verdict,
};

/// A record.
///
/// # Errors
/// `Damaged` when it cannot be read.
pub(crate) fn record(row: &Row, previous: &Hash) -> Result<v1::Record, Error> {
    let content = row.content()?;
    let attributes = chain::attributes(content.attributes)
        .map(|pair| pair.map(|(key, value)| (key.to_owned(), value.to_owned())))
        .collect::<Result<_, _>>()
        .map_err(|error| Error::Damaged { sequence: row.sequence, detail: error.to_string() })?;
    let seal = match (&content.seal, &row.sealed) {
        (None, _) => v1::Seal::None,
        (Some(_), Some(sealed)) if sealed.key_lives => v1::Seal::Kept,
        (Some(_), _) => v1::Seal::Erased,
    };
    Ok(v1::Record {
        sequence: content.sequence,
        record_id: content.id.to_string(),
        kind: content.kind.into(),
        conversation_id: content.conversation.to_owned(),
        turn_id: content.turn.to_owned(),
        stage: content.stage.to_owned(),
        time: Some(timestamp(content.time)),
        ledger_time: Some(timestamp(content.ledger_time)),
        subject: content.subject.to_owned(),
        refers_to: content.refers_to.map(|id| id.to_string()).unwrap_or_default(),
        versions: Some(v1::Versions {
            model: content.model.to_owned(),
            policy: content.policy.to_owned(),
            prompt: content.prompt.to_owned(),
            knowledge: content.knowledge.to_owned(),
        }),
        attributes,
        seal: seal.into(),
        previous_hash: previous.to_vec(),
        hash: row.hash.clone(),
        content: row.content.clone(),
    })
}

/// A receipt.
pub(crate) fn receipt(tenant: &Tenant, receipt: Receipt) -> v1::Receipt {
    v1::Receipt {
        tenant: tenant.to_string(),
        record_id: receipt.id.to_string(),
        sequence: receipt.sequence,
        hash: receipt.hash.to_vec(),
        repeated: receipt.repeated,
    }
}

/// A checkpoint.
pub(crate) fn checkpoint(checkpoint: Checkpoint) -> v1::Checkpoint {
    v1::Checkpoint {
        tenant: checkpoint.tenant,
        sequence: checkpoint.sequence,
        head: checkpoint.head.to_vec(),
        root: checkpoint.root.to_vec(),
        time: Some(timestamp(checkpoint.time)),
        key_id: checkpoint.key_id,
        signature: checkpoint.signature.to_vec(),
        public_key: checkpoint.public_key.to_vec(),
    }
}

/// A verdict.
pub(crate) fn verdict(verdict: Verdict) -> v1::Verdict {
    let Verdict { bad, records, checkpoints, signed_to, head } = verdict;
    let mut told = v1::Verdict {
        intact: bad.is_none(),
        records,
        checkpoints,
        signed_to,
        head: head.to_vec(),
        ..v1::Verdict::default()
    };
    if let Some(bad) = bad {
        told.fault = bad.fault.into();
        told.sequence = bad.sequence;
        told.last_sequence = bad.last_sequence;
        told.record_id = bad.id.map(|id| id.to_string()).unwrap_or_default();
        told.reason = bad.reason;
    }
    told
}

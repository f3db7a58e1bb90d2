//! The contracts of the mesh: generated messages, clients and servers, and no logic.
//!
//! One module per role; `switchboard/<role>/v1/<role>.proto` holds the comments that matter. Beside them
//! stand contracts of others, whose clients a node serves; their files are in `foreign/`. The
//! whole descriptor set, comments included, is [`DESCRIPTORS`]; nodes serve it by reflection.

/// The encoded `FileDescriptorSet` of every contract, imports and comments included.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// A turn from the customer's words to a checked reply.
pub mod conversation {
    /// Version 1.
    #[allow(missing_docs, unreachable_pub, clippy::all, reason = "generated; the .proto has the comments")]
    pub mod v1 {
        tonic::include_proto!("switchboard.conversation.v1");
    }
}

/// Texts to vectors.
pub mod embeddings {
    /// Version 1.
    #[allow(missing_docs, unreachable_pub, clippy::all, reason = "generated; the .proto has the comments")]
    pub mod v1 {
        tonic::include_proto!("switchboard.embeddings.v1");
    }
}

/// Choosing a model and writing the reply.
pub mod generation {
    /// Version 1.
    #[allow(missing_docs, unreachable_pub, clippy::all, reason = "generated; the .proto has the comments")]
    pub mod v1 {
        tonic::include_proto!("switchboard.generation.v1");
    }
}

/// What a model-server node can compute.
pub mod inference {
    /// Version 1.
    #[allow(missing_docs, unreachable_pub, clippy::all, reason = "generated; the .proto has the comments")]
    pub mod v1 {
        tonic::include_proto!("switchboard.inference.v1");
    }
}

/// What the company knows.
pub mod knowledge {
    /// Version 1.
    #[allow(missing_docs, unreachable_pub, clippy::all, reason = "generated; the .proto has the comments")]
    pub mod v1 {
        tonic::include_proto!("switchboard.knowledge.v1");
    }
}

/// What was decided and done.
pub mod ledger {
    /// Version 1.
    #[allow(missing_docs, unreachable_pub, clippy::all, reason = "generated; the .proto has the comments")]
    pub mod v1 {
        tonic::include_proto!("switchboard.ledger.v1");
    }
}

/// The Open Inference Protocol, version 2, with Triton's extensions: a contract of others.
#[allow(missing_docs, unreachable_pub, clippy::all, reason = "generated; the .proto has the comments")]
pub mod open_inference {
    tonic::include_proto!("inference");
}

/// What may be read, said and done.
pub mod policy {
    /// Version 1.
    #[allow(missing_docs, unreachable_pub, clippy::all, reason = "generated; the .proto has the comments")]
    pub mod v1 {
        tonic::include_proto!("switchboard.policy.v1");
    }
}

/// Which candidates answer a query best.
pub mod reranking {
    /// Version 1.
    #[allow(missing_docs, unreachable_pub, clippy::all, reason = "generated; the .proto has the comments")]
    pub mod v1 {
        tonic::include_proto!("switchboard.reranking.v1");
    }
}

/// The contract of text-embeddings-inference: a contract of others.
pub mod tei {
    /// Version 1.
    #[allow(missing_docs, unreachable_pub, clippy::all, reason = "generated; the .proto has the comments")]
    pub mod v1 {
        tonic::include_proto!("tei.v1");
    }
}

#[cfg(feature = "testing")]
pub mod testing;

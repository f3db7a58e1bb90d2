//! Black-box tests: over in-process meshes, over meshes of several nodes, and over the built binary.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod binary;
mod chaos;
mod dependencies;
mod doors;
mod generation;
mod hub;
mod identity;
mod ingest;
mod keys;
mod ledger;
mod mesh;
mod model_server;
mod models;
mod nodes;
mod on_record;
mod policy;
mod policy_models;
mod processes;
mod pull;
mod rerank;
mod tenants;
mod turn;

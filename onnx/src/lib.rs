//! ONNX files, without a runtime and without Python.
//!
//! [`import`] makes a model folder of a safetensors folder of the BERT family; [`inspect()`] says what
//! a graph takes, gives and holds, and refuses one that lies about it, before a runtime gets to see
//! it; [`safetensors`] reads weights that are in no graph; [`proto`] has the messages of onnx.proto that the
//! first two need. Nothing here runs a graph.

pub mod element;
pub mod import;
pub mod inspect;
pub mod proto;
pub mod safetensors;
mod short;

pub use element::ElementType;
pub use inspect::inspect;

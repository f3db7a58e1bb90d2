//! The marks of a request that the balancer reads from its extensions.

use std::sync::Arc;

use http::Extensions;

/// Any node may answer in another's place.
#[derive(Clone, Copy)]
pub(crate) struct AnyNode;

/// A second node may be asked while the first is slow.
#[derive(Clone, Copy)]
pub(crate) struct Hedged;

/// The model that is needed.
#[derive(Clone)]
pub(crate) struct Model(pub(crate) Arc<str>);

/// All marks of a request.
#[derive(Clone)]
pub(super) struct Marks {
    pub(super) any: bool,
    pub(super) hedged: bool,
    pub(super) model: Option<Arc<str>>,
}

impl Marks {
    pub(super) fn of(extensions: &Extensions) -> Self {
        Self {
            any: extensions.get::<AnyNode>().is_some(),
            hedged: extensions.get::<Hedged>().is_some(),
            model: extensions.get::<Model>().map(|model| Arc::clone(&model.0)),
        }
    }
}

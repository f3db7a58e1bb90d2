//! For whom a call is made, how urgent it is, and until when.

use std::fmt;

use http::{HeaderMap, HeaderName, HeaderValue};
use tonic::{Request, Status};

use crate::{
    balance::{AnyNode, Hedged, Model},
    deadline::{self, Deadline},
    error,
};

/// The metadata key of the tenant.
pub const TENANT: HeaderName = HeaderName::from_static("x-switchboard-tenant");
/// The metadata key of the class.
pub const CLASS: HeaderName = HeaderName::from_static("x-switchboard-class");

/// The metadata key of the model that a request needs, so that nodes can tell their load apart by it.
pub const MODEL: HeaderName = HeaderName::from_static("x-switchboard-model");

/// One company or business unit; nothing crosses tenants.
///
/// One to 64 characters out of `a-z`, `0-9`, `-` and `_`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tenant(std::sync::Arc<str>);

impl Tenant {
    /// Checks a tenant's name.
    ///
    /// # Errors
    /// A message that says what is allowed.
    pub fn try_new(name: &str) -> Result<Self, &'static str> {
        let fits = (1..=64).contains(&name.len())
            && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_');
        if fits {
            Ok(Self(name.into()))
        } else {
            Err("a tenant is 1 to 64 characters out of a-z, 0-9, - and _")
        }
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Tenant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Who goes first when there is not enough: voice, then chat, then batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Nobody is waiting.
    Batch,
    /// Somebody is waiting at a screen.
    #[default]
    Chat,
    /// Somebody is waiting on the phone.
    Voice,
}

impl Class {
    /// The name in metadata and labels.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Batch => "batch",
            Self::Chat => "chat",
            Self::Voice => "voice",
        }
    }

    fn parse(text: &[u8]) -> Option<Self> {
        match text {
            b"batch" => Some(Self::Batch),
            b"chat" => Some(Self::Chat),
            b"voice" => Some(Self::Voice),
            _ => None,
        }
    }
}

/// What a handler knows of the call it serves. The server stack puts it into the request's
/// extensions; the client stack takes it from there and writes it to the wire.
#[derive(Clone, Debug)]
pub struct Call {
    /// For whom; absent on calls that belong to no tenant, such as health checks.
    tenant: Option<Tenant>,
    /// How urgent.
    pub class: Class,
    /// Until when.
    pub deadline: Deadline,
}

impl Call {
    /// A call for `tenant`, of class chat, until `deadline`.
    #[must_use]
    pub fn new(tenant: Tenant, deadline: Deadline) -> Self {
        Self { tenant: Some(tenant), class: Class::default(), deadline }
    }

    /// The call that `request` belongs to.
    ///
    /// # Errors
    /// INTERNAL when the service is not mounted behind the server stack.
    pub fn of<T>(request: &Request<T>) -> Result<Self, Status> {
        request.extensions().get::<Self>().cloned().ok_or_else(|| {
            error::of_kind(error::Kind::Internal, "the service is not behind the mesh server stack")
        })
    }

    /// The tenant.
    ///
    /// # Errors
    /// UNAUTHENTICATED when the call names none.
    pub fn tenant(&self) -> Result<&Tenant, Status> {
        self.tenant.as_ref().ok_or_else(|| {
            error::of_kind(
                error::Kind::Unauthenticated,
                format!("the metadata has no {TENANT}; calls are made for a tenant"),
            )
        })
    }

    /// This call with a deadline no later than `deadline`.
    #[must_use]
    pub fn until(&self, deadline: Deadline) -> Self {
        Self { deadline: self.deadline.min(deadline), ..self.clone() }
    }

    /// This call as one message of a stream is worked on, which may itself go on for long: with no more
    /// time than a call that names no deadline, since queues go by when a request is due.
    #[must_use]
    pub fn for_message(&self) -> Self {
        self.until(Deadline::after(deadline::DEFAULT))
    }

    /// This call with another deadline, which may be later.
    pub(crate) fn with_deadline(self, deadline: Deadline) -> Self {
        Self { deadline, ..self }
    }

    /// This call with another class.
    #[must_use]
    pub fn with_class(&self, class: Class) -> Self {
        Self { class, ..self.clone() }
    }

    /// A request to another role on behalf of this call.
    #[must_use]
    pub fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.extensions_mut().insert(self.clone());
        request
    }

    /// The same, of one message that any node of the role may answer in another's place, since it
    /// changes nothing: where one is away, is full, or lacks what is asked for, the next one is asked.
    #[must_use]
    pub fn request_to_any<T>(&self, message: T) -> Request<T> {
        let mut request = self.request(message);
        request.extensions_mut().insert(AnyNode);
        request
    }

    /// The same, of one message that only nodes with `model` can answer: they alone are asked, where nodes
    /// tell what they have. An empty name stands for the node's own choice.
    #[must_use]
    pub fn request_for<T>(&self, model: &str, message: T) -> Request<T> {
        let mut request = self.request_to_any(message);
        if !model.is_empty() {
            request.extensions_mut().insert(Model(model.into()));
        }
        request
    }

    /// Reads a call from metadata. A missing deadline is [`deadline::DEFAULT`], a missing class chat.
    ///
    /// # Errors
    /// INVALID_ARGUMENT naming the key whose value is malformed.
    pub fn from_headers(headers: &HeaderMap) -> Result<Self, Status> {
        let left = match headers.get(deadline::HEADER) {
            Some(value) => {
                deadline::parse(value).map_err(|allowed| error::invalid(deadline::HEADER, allowed))?
            }
            None => deadline::DEFAULT,
        };
        let tenant = match headers.get(TENANT) {
            Some(value) => Some(
                Tenant::try_new(value.to_str().unwrap_or_default())
                    .map_err(|allowed| error::invalid(TENANT.as_str(), allowed))?,
            ),
            None => None,
        };
        let class = match headers.get(CLASS) {
            Some(value) => Class::parse(value.as_bytes())
                .ok_or_else(|| error::invalid(CLASS.as_str(), "a class is voice, chat or batch"))?,
            None => Class::default(),
        };
        Ok(Self { tenant, class, deadline: Deadline::after(left) })
    }

    /// Writes this call to metadata, replacing what stands there.
    pub(crate) fn write(&self, headers: &mut HeaderMap) {
        if let Some(tenant) = &self.tenant
            && let Ok(value) = HeaderValue::from_str(tenant.as_str())
        {
            headers.insert(TENANT, value);
        }
        headers.insert(CLASS, HeaderValue::from_static(self.class.as_str()));
        headers.insert(deadline::HEADER, deadline::format(self.deadline.left()));
    }
}

/// A request that may be asked of a second node while the first is slow; the first answer counts. For
/// requests with one message and one reply that any node may answer. Calls of class batch are asked of one
/// node all the same.
#[must_use]
pub fn hedged<T>(mut request: Request<T>) -> Request<T> {
    request.extensions_mut().insert(AnyNode);
    request.extensions_mut().insert(Hedged);
    request
}

/// The model that a request with these extensions needs.
pub(crate) fn model(extensions: &http::Extensions) -> Option<HeaderValue> {
    extensions.get::<Model>().and_then(|Model(name)| HeaderValue::from_str(name).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tenants_are_plain_names() {
        assert!(Tenant::try_new("acme-eu_2").is_ok());
        for bad in ["", "Acme", "a/b", "..", "a b", &"x".repeat(65)] {
            assert!(Tenant::try_new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_call_survives_its_metadata() {
        let call =
            Call::new(Tenant::try_new("acme").unwrap(), Deadline::after(std::time::Duration::from_secs(3)))
                .with_class(Class::Voice);
        let mut headers = HeaderMap::new();
        call.write(&mut headers);
        let read = Call::from_headers(&headers).unwrap();
        assert_eq!(read.tenant().unwrap().as_str(), "acme");
        assert_eq!(read.class, Class::Voice);
        assert!(read.deadline.left() <= std::time::Duration::from_secs(3));
    }
}

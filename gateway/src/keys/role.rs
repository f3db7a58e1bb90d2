//! What a key is for, and what narrows it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::permissions;

/// What a key is for; `permissions.rs` says what each role may call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Stands behind a customer: runs turns, and goes on with conversations whose id it knows.
    CustomerApp,
    /// Works for the company: runs turns, sees every conversation and document, changes no document.
    Agent,
    /// Does everything that the gateway serves.
    Admin,
    /// Reads what was said and stored, and causes nothing.
    Auditor,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 4] = [Self::CustomerApp, Self::Agent, Self::Admin, Self::Auditor];

    /// The name in files, commands and messages.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CustomerApp => "customer-app",
            Self::Agent => "agent",
            Self::Admin => "admin",
            Self::Auditor => "auditor",
        }
    }

    /// The role of this name.
    ///
    /// # Errors
    /// A message that says what is allowed.
    pub fn parse(name: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|role| role.as_str() == name);
        found.ok_or_else(|| format!("a role is one of {}", Self::ALL.map(Self::as_str).join(", ")))
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A service, such as `knowledge`, or a group of its methods, such as `knowledge:read`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Scope(&'static str);

impl Scope {
    /// The scope of this name.
    ///
    /// # Errors
    /// A message that says what is allowed.
    pub fn parse(name: &str) -> Result<Self, String> {
        let found = permissions::scopes().find(|scope| *scope == name);
        found.map(Self).ok_or_else(|| {
            let allowed: Vec<_> = permissions::scopes().collect();
            format!("a scope is one of {}", allowed.join(", "))
        })
    }

    /// The name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.0
    }

    /// Whether it has what `group` names in it: itself, or a group of its methods.
    pub(crate) fn takes_in(self, group: &str) -> bool {
        group.strip_prefix(self.0).is_some_and(|rest| rest.is_empty() || rest.starts_with(':'))
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back_and_others_say_what_is_allowed() {
        for role in Role::ALL {
            assert_eq!(Role::parse(role.as_str()), Ok(role));
            assert_eq!(serde_json::to_value(role).unwrap(), role.as_str());
        }
        assert!(Role::parse("Admin").unwrap_err().contains("customer-app, agent, admin, auditor"));
        assert_eq!(Scope::parse("knowledge:write").unwrap().as_str(), "knowledge:write");
        for wrong in ["", "knowledge:", "knowledge:all", "know", "inference", "*"] {
            assert!(Scope::parse(wrong).unwrap_err().contains("knowledge, knowledge:read"), "{wrong:?}");
        }
    }

    #[test]
    fn a_service_takes_in_its_groups_and_a_group_only_itself() {
        let (service, group) = (Scope::parse("knowledge").unwrap(), Scope::parse("knowledge:read").unwrap());
        assert!(service.takes_in("knowledge:read") && service.takes_in("knowledge"));
        assert!(group.takes_in("knowledge:read"));
        for other in ["knowledge", "knowledge:write", "knowledge:readers", "knowledges:read"] {
            assert!(!group.takes_in(other), "{other}");
        }
        assert!(!service.takes_in("knowledges"));
    }
}

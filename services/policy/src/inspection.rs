//! What is replaced in a text, by the way it is going.
//!
//! What a customer writes is redacted whole. What goes to a customer was written from redacted text
//! and from the company's documents, so it is held to another rule: contact details in it are the
//! company's own (the shop's number, its support address) and must reach the customer, unless the
//! conversation has them from the customer, in which case a raw value has leaked past the redaction.
//! Card numbers, IBANs and national ids are replaced wherever they come from. Names and places, where a model
//! finds them, are as contact details: an answer may name the company's own.
//!
//! Limit: who said something first is not known here. A company's own contact that the customer typed
//! too ("is help@acme.com yours?") counts as the customer's from then on, and answers show a
//! placeholder in its place, even where they cite a document that has it.

use std::collections::BTreeSet;

use switchboard_mesh::Tenant;
use switchboard_text::redaction::{self, Entity, Kinds, Redacted, Replaced};

use crate::vault::{StoreError, Vault};

/// Which way a text is going.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From a customer.
    Input,
    /// To a customer.
    Output,
}

impl Direction {
    /// The name in labels.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::Output => "output",
        }
    }
}

/// What is found in a text by its form.
pub(crate) fn find(text: &str, direction: Direction) -> Vec<Entity> {
    redaction::find_kinds(text, kinds(direction))
}

/// What is looked for in this direction: raw text may also have what looks like a placeholder.
pub(crate) fn kinds(direction: Direction) -> Kinds {
    match direction {
        Direction::Input => Kinds::ALL,
        Direction::Output => Kinds::PATTERNS,
    }
}

/// Replaces, of what was found in a text, what must not go on in this direction. A conversation without
/// personal data takes no place in the vault.
///
/// # Errors
/// [`StoreError`]: the text must not go on.
pub(crate) fn replace(
    text: &str,
    mut entities: Vec<Entity>,
    direction: Direction,
    vault: &Vault,
    tenant: &Tenant,
    conversation: &str,
) -> Result<Redacted, StoreError> {
    // Contact details in an answer are the company's own, unless the customer told them.
    if direction == Direction::Output && entities.iter().any(|entity| !entity.kind.is_always_private()) {
        let known = vault.knows(tenant, conversation)?;
        entities.retain(|entity| entity.kind.is_always_private() || known(entity.kind, entity.span.of(text)));
    }
    if entities.is_empty() {
        // Any use keeps the conversation, as far as it is in memory: most texts have nothing to look up.
        vault.touch(tenant, conversation);
        return Ok(Redacted { text: text.to_owned(), replaced: Vec::new() });
    }
    vault.replace(tenant, conversation, text, &entities)
}

/// Why a text was rewritten, in words for a person; empty when it was not. Names kinds, no values.
pub(crate) fn reason(replaced: &[Replaced]) -> String {
    if replaced.is_empty() {
        return String::new();
    }
    let kinds: BTreeSet<&str> = replaced.iter().map(|replaced| replaced.entity.kind.as_str()).collect();
    let kinds: Vec<&str> = kinds.into_iter().collect();
    format!("personal data was replaced by placeholders: {}", kinds.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::VaultConfig;

    fn inspect(
        text: &str,
        direction: Direction,
        vault: &Vault,
        tenant: &Tenant,
        conversation: &str,
    ) -> Result<Redacted, StoreError> {
        replace(text, find(text, direction), direction, vault, tenant, conversation)
    }

    /// Inspects texts of one conversation, each with its direction.
    fn inspected<const N: usize>(vault: &Vault, texts: [(&str, Direction); N]) -> [Redacted; N] {
        let tenant = Tenant::try_new("acme").unwrap();
        texts.map(|(text, direction)| inspect(text, direction, vault, &tenant, "c1").unwrap())
    }

    #[tokio::test]
    async fn an_answer_keeps_the_companys_contact_details_and_loses_the_customers() {
        let answer = "Write to help@acme.com or call +49 30 1234567; we know you as jo@home.de.";
        let vault = Vault::new(VaultConfig::default());
        let [told, out] =
            inspected(&vault, [("I am jo@home.de", Direction::Input), (answer, Direction::Output)]);
        assert_eq!(out.text, answer.replace("jo@home.de", &told.replaced[0].placeholder));
    }

    #[tokio::test]
    async fn money_and_identity_never_go_out() {
        let answer = "Card 4111 1111 1111 1111, IBAN DE89 3704 0044 0532 0130 00, SSN 460-89-9847";
        let [out] = inspected(&Vault::new(VaultConfig::default()), [(answer, Direction::Output)]);
        assert_eq!(redaction::without_placeholders(&out.text), "Card card, IBAN iban, SSN national id");
        assert_eq!(
            reason(&out.replaced),
            "personal data was replaced by placeholders: card, iban, national-id"
        );
    }

    #[tokio::test]
    async fn a_conversation_without_personal_data_takes_no_place() {
        let vault = Vault::new(VaultConfig { conversations: 1, ..VaultConfig::default() });
        let tenant = Tenant::try_new("acme").unwrap();
        let told = inspect("jo@home.de", Direction::Input, &vault, &tenant, "c1").unwrap().text;
        inspect("Can I return shoes?", Direction::Input, &vault, &tenant, "c2").unwrap();
        inspect("Write to help@acme.com", Direction::Output, &vault, &tenant, "c3").unwrap();
        let restored = vault.restore(&tenant, "c1", &told).unwrap();
        assert_eq!(restored.text, "jo@home.de", "it was not displaced");
    }
}

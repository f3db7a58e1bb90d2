//! What is replaced in a text, by the way it is going.
//!
//! What a customer writes is redacted whole. What goes to a customer was written from redacted text
//! and from the company's documents, so it is held to another rule: contact details in it are the
//! company's own (the shop's number, its support address) and must reach the customer, unless the
//! conversation has them from the customer, in which case a raw value has leaked past the redaction.
//! Card numbers, IBANs and national ids are replaced wherever they come from.

use std::collections::BTreeSet;

use switchboard_text::redaction::{Pseudonyms, Redacted, Replaced, redact, redact_only};

/// Which way a text is going.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// From a customer.
    Input,
    /// To a customer.
    Output,
}

impl Direction {
    /// The name in labels.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::Output => "output",
        }
    }
}

/// Replaces what must not go on in this direction.
pub(crate) fn inspect(text: &str, direction: Direction, pseudonyms: &mut Pseudonyms) -> Redacted {
    match direction {
        Direction::Input => redact(text, pseudonyms),
        Direction::Output => {
            redact_only(text, pseudonyms, |entity, known| known || entity.kind.is_always_private())
        }
    }
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

    #[test]
    fn an_answer_keeps_the_companys_contact_details_and_loses_the_customers() {
        let mut pseudonyms = Pseudonyms::default();
        inspect("I am jo@home.de", Direction::Input, &mut pseudonyms);
        let answer = "Write to help@acme.com or call +49 30 1234567; we know you as jo@home.de.";
        assert_eq!(
            inspect(answer, Direction::Output, &mut pseudonyms).text,
            "Write to help@acme.com or call +49 30 1234567; we know you as [email-1]."
        );
    }

    #[test]
    fn money_and_identity_never_go_out() {
        let answer = "Card 4111 1111 1111 1111, IBAN DE89 3704 0044 0532 0130 00, SSN 460-89-9847";
        let out = inspect(answer, Direction::Output, &mut Pseudonyms::default());
        assert_eq!(out.text, "Card [card-1], IBAN [iban-1], SSN [national-id-1]");
        assert_eq!(
            reason(&out.replaced),
            "personal data was replaced by placeholders: card, iban, national-id"
        );
    }
}

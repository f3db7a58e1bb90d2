//! What Switchboard itself says: the few sentences that no document holds.

/// What there is to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phrase {
    /// The documents do not answer.
    NoAnswer,
    /// The budget ran out before an answer was ready.
    NoTime,
    /// A part that the answer needs is away.
    NotNow,
    /// Policy does not let the question be answered.
    Refused,
}

impl Phrase {
    /// The phrase in the customer's language: German for `de`, English otherwise.
    pub(crate) fn text(self, locale: &str) -> &'static str {
        let german = locale.get(..2).is_some_and(|language| language.eq_ignore_ascii_case("de"));
        match (self, german) {
            (Self::NoAnswer, false) => "I could not find an answer to that in our documents.",
            (Self::NoAnswer, true) => "Dazu habe ich in unseren Unterlagen keine Antwort gefunden.",
            (Self::NoTime, false) => "I could not find the answer in time. Please ask again.",
            (Self::NoTime, true) => {
                "Ich konnte die Antwort nicht rechtzeitig finden. Bitte fragen Sie noch einmal."
            }
            (Self::Refused, false) => "I am not allowed to answer that.",
            (Self::Refused, true) => "Das darf ich nicht beantworten.",
            (Self::NotNow, false) => "I cannot look that up right now. Please try again in a little while.",
            (Self::NotNow, true) => {
                "Das kann ich gerade nicht nachsehen. Bitte versuchen Sie es etwas später erneut."
            }
        }
    }
}

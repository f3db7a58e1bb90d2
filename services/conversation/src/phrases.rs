//! What Switchboard itself says: the few sentences that no document holds.

/// What there is to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phrase {
    /// The documents do not answer.
    NoAnswer,
    /// The budget ran out before an answer was ready.
    NoTime,
    /// Policy does not let the question be answered.
    Refused,
    /// Policy wants the customer to put it differently.
    Rephrase,
    /// A person takes over.
    PassedOn,
    /// A person takes over from a customer who is upset.
    SorryPassedOn,
    /// A person was to take over, and cannot be told of it now.
    NotPassedOn,
    /// The documents do not answer; a person may.
    NoAnswerPassedOn,
    /// A part that the answer needs is away; a person may help.
    NotNowPassedOn,
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
            (Self::Rephrase, false) => "Could you put that in other words, please?",
            (Self::Rephrase, true) => "Können Sie das bitte anders ausdrücken?",
            (Self::PassedOn, false) => "I am passing this on to a colleague, who will get back to you.",
            (Self::PassedOn, true) => {
                "Ich gebe das an eine Kollegin oder einen Kollegen weiter, die sich melden."
            }
            (Self::SorryPassedOn, false) => {
                "I am sorry about this. I am passing it on to a colleague, who will get back to you."
            }
            (Self::SorryPassedOn, true) => {
                "Das tut mir leid. Ich gebe es an eine Kollegin oder einen Kollegen weiter, die sich melden."
            }
            (Self::NotPassedOn, false) => {
                "A colleague should look at this, but I cannot reach them right now. Please try again in a \
                 little while."
            }
            (Self::NotPassedOn, true) => {
                "Das sollte sich jemand von uns ansehen, aber ich erreiche gerade niemanden. Bitte versuchen \
                 Sie es etwas später erneut."
            }
            (Self::NoAnswerPassedOn, false) => {
                "I could not find an answer to that in our documents. I am passing your question on to a colleague."
            }
            (Self::NoAnswerPassedOn, true) => {
                "Dazu habe ich in unseren Unterlagen keine Antwort gefunden. Ich gebe Ihre Frage an eine \
                 Kollegin oder einen Kollegen weiter."
            }
            (Self::NotNowPassedOn, false) => {
                "I cannot look that up right now. I am passing your question on to a colleague."
            }
            (Self::NotNowPassedOn, true) => {
                "Das kann ich gerade nicht nachsehen. Ich gebe Ihre Frage an eine Kollegin oder einen \
                 Kollegen weiter."
            }
        }
    }
}

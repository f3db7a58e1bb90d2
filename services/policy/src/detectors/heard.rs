//! What models say of a text, beside the rules.

use switchboard_text::redaction::Entity;

use super::Finding;

/// How much of a text a model has read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reading {
    /// Nothing, as it should be: no model is set, or this text is none for it.
    #[default]
    Off,
    /// All of it.
    Whole,
    /// Some of it: the text is longer than the model reads.
    Part,
    /// Nothing: it is away, late, or not the kind of model that is needed.
    Unavailable,
}

impl Reading {
    /// The name in rules.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Whole => "ok",
            Self::Part => "partial",
            Self::Unavailable => "unavailable",
        }
    }

    /// Whether something was not read that should have been.
    #[must_use]
    pub fn is_missing(self) -> bool {
        matches!(self, Self::Part | Self::Unavailable)
    }
}

/// What models found in a text. Nothing of it where none is set.
#[derive(Clone, Debug, Default)]
pub struct Heard {
    /// How much the model of names has read.
    pub names: Reading,
    /// How much the model of orders has read.
    pub injection: Reading,
    /// Names of persons and places.
    pub named: Vec<Entity>,
    /// Stretches that give orders.
    pub orders: Vec<Finding>,
}

impl Heard {
    /// The detectors, by name, each with what it has read.
    #[must_use]
    pub fn readings(&self) -> [(&'static str, Reading); 2] {
        [("names", self.names), ("injection", self.injection)]
    }

    /// The detectors that did not read all that they should have: rules alone decided on the rest.
    pub fn missing(&self) -> impl Iterator<Item = &'static str> {
        self.readings().into_iter().filter(|(_, reading)| reading.is_missing()).map(|(name, _)| name)
    }
}

//! Pure functions over text: no I/O, no state, no clock; any service may use them.
//!
//! [`clean`] makes a question fit to be read, [`redaction`] finds and replaces personal data,
//! [`sentences`] cuts text where sentences end, [`words`] reduces it to comparable terms, and
//! [`context`] resolves a question that leans on the turns before it. [`fold`] undoes what hides words
//! from a reader of patterns. [`grounding`] says whether passages carry a sentence, by its words,
//! [`numbers`], [`entities`] and [`negation`]. All of it runs in time linear in the text, whatever the
//! text is.

pub mod clean;
pub mod context;
pub mod entities;
pub mod fold;
pub mod grounding;
pub mod negation;
pub mod numbers;
pub mod redaction;
pub mod sentences;
mod span;
pub mod validity;
pub mod words;

pub use span::Span;

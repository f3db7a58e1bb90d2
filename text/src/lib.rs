//! Pure functions over text: redaction, sentences, evidence.

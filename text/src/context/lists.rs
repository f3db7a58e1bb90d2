//! Closed word classes of conversation; lower case, English and German together, since no word of
//! one misleads in the other often enough to need the language first.

/// Words that open a turn and say nothing of its topic.
pub(super) const FILLERS: &[&str] = &[
    "ok", "okay", "alright", "right", "thanks", "thank", "you", "great", "good", "perfect", "cool", "yes",
    "yeah", "no", "nope", "sure", "hm", "hmm", "oh", "ah", "well", "hi", "hello", "hey", "danke", "super",
    "gut", "ja", "nein", "prima", "schön", "hallo", "alles", "klar",
];

/// Openings that carry on with what was said.
pub(super) const CONTINUATIONS: &[&[&str]] = &[
    &["and"],
    &["but"],
    &["or"],
    &["also"],
    &["then"],
    &["so"],
    &["what", "about"],
    &["how", "about"],
    &["even", "if"],
    &["same"],
    &["the", "same"],
    &["only"],
    &["instead"],
    &["and", "if"],
    &["what", "else"],
    &["anything", "else"],
    &["und"],
    &["aber"],
    &["oder"],
    &["auch"],
    &["dann"],
    &["also"],
    &["was", "ist", "mit"],
    &["wie", "ist", "es", "mit"],
    &["wie", "ist", "das", "mit"],
    &["wie", "sieht", "es", "mit"],
    &["wie", "sieht", "es", "bei"],
    &["sonst"],
    &["was", "noch"],
    &["gilt", "das"],
];

/// Pronouns that stand for something named elsewhere, whatever follows them.
pub(super) const PRONOUNS: &[&str] = &[
    "they", "them", "their", "theirs", "its", "ones", "ihn", "ihm", "davon", "dafür", "damit", "dazu",
    "darauf", "daran", "darüber", "dagegen", "solche", "welches",
];

/// Words behind which a noun stands.
pub(super) const DETERMINERS: &[&str] = &[
    "the", "a", "an", "my", "your", "our", "his", "her", "this", "these", "those", "any", "some", "der",
    "die", "das", "den", "dem", "des", "ein", "eine", "einen", "einem", "einer", "mein", "meine", "meinen",
    "meinem", "meiner", "ihr", "ihre", "ihren", "unser", "unsere",
];

/// Verbs behind which a lone "that" or "this" is the subject.
pub(super) const AUXILIARIES: &[&str] = &[
    "is", "are", "was", "were", "does", "do", "did", "can", "could", "will", "would", "should", "has", "have",
];

/// Words that open the clause which an expletive "it" announces.
pub(super) const CLAUSES: &[&str] = &["to", "if", "when", "for", "wenn", "zu", "bis"];

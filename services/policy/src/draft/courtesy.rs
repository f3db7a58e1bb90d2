//! Sentences that claim nothing: greetings, thanks, regrets and offers of help.

use switchboard_text::{
    negation,
    words::{self, Language},
};

/// Content words of courtesies. A sentence of these alone, and of stop words, needs no passage.
const WORDS: &str = "happy glad help helping assist assistance sorry apologize apologise apologies regret \
    inconvenience thank thanks thankful appreciate understand understanding question questions ask let know \
    feel free welcome please further anything reach hope great good nice day wonderful patience contacting \
    contact certainly sure course look checking check moment hi hello dear hear trouble frustrating frustration \
    reaching write writing else need more best regards \
    gerne gern helfen hilfe weiterhelfen leid entschuldigung entschuldigen bedauern unannehmlichkeiten danke dank \
    vielen fragen frage weitere weiteren verfügung hallo guten tag freuen verständnis geduld bitte melden \
    jederzeit schön grüße freundlichen liebe lieber tut stehe stehen moment";

/// How an answer begins that says yes or no; "no" is among the words that deny.
const ANSWERS: [&str; 7] = ["yes", "ja", "nein", "doch", "sure", "certainly", "of course"];

/// The longest courtesy, in words: what is longer says something.
const MOST_WORDS: usize = 24;

/// Whether a sentence says yes or no to something, or denies, in whatever words.
pub(super) fn answers(sentence: &str) -> bool {
    let begin: Vec<String> = words::words(sentence).take(2).map(str::to_lowercase).collect();
    let begins =
        |answer: &&str| begin.join(" ") == **answer || begin.first().is_some_and(|word| word == *answer);
    ANSWERS.iter().any(begins) || negation::clauses(sentence).iter().any(|clause| !clause.cues.is_empty())
}

/// Whether a sentence is nothing but courtesy. One that [`answers`] is none.
pub(super) fn is_courtesy(sentence: &str) -> bool {
    static KNOWN: std::sync::LazyLock<std::collections::HashSet<&str>> =
        std::sync::LazyLock::new(|| WORDS.split_whitespace().collect());
    if sentence.chars().any(|c| c.is_ascii_digit()) || words::words(sentence).count() > MOST_WORDS {
        return false;
    }
    words::content_words(sentence, Language::English)
        .iter()
        .all(|word| KNOWN.contains(word.as_str()) || words::is_stop_word(word, Language::German))
}

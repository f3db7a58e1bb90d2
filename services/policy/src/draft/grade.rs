//! How hard an English sentence is to read.

use switchboard_text::words;

/// Fewer words than this make no grade: "Unfortunately not." is not hard to read.
const FEWEST_WORDS: usize = 5;

/// The school grade that a sentence takes to be understood; `None` for a short one.
///
/// `0.39 * words / sentences + 11.8 * syllables / words - 15.59`, here of one sentence. A word with figures
/// has one syllable.
///
/// # Source
/// Kincaid, Fishburne, Rogers and Chissom 1975, for the US Navy. The formula is made for whole texts; a
/// limit on single sentences should lie some grades above one on texts.
pub(super) fn flesch_kincaid(sentence: &str) -> Option<f32> {
    let words: Vec<&str> = words::words(sentence).collect();
    if words.len() < FEWEST_WORDS {
        return None;
    }
    let syllables: usize = words.iter().map(|word| syllables(word)).sum();
    let count = words.len() as f32;
    Some(0.39 * count + 11.8 * syllables as f32 / count - 15.59)
}

/// The syllables of an English word: runs of vowels, without a silent `e` at the end; at least one.
fn syllables(word: &str) -> usize {
    let word = word.to_lowercase();
    let mut runs = 0;
    let mut inside = false;
    for c in word.chars() {
        let vowel = matches!(c, 'a' | 'e' | 'i' | 'o' | 'u' | 'y' | 'é' | 'ä' | 'ö' | 'ü');
        runs += usize::from(vowel && !inside);
        inside = vowel;
    }
    let silent = (word.ends_with('e') && !word.ends_with("le") && !word.ends_with("ee"))
        || (word.ends_with("ed") && !word.ends_with("ted") && !word.ends_with("ded"))
        || (word.ends_with("es")
            && !["ses", "zes", "ces", "ges", "xes", "ches", "shes", "ies"]
                .iter()
                .any(|end| word.ends_with(end)));
    // "people", "science": two vowels, two syllables; too few words to matter.
    runs.saturating_sub(usize::from(silent && runs > 1)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn syllables_are_counted() {
        for (word, count) in [
            ("the", 1),
            ("make", 1),
            ("table", 2),
            ("returned", 2),
            ("wanted", 2),
            ("boxes", 2),
            ("shoes", 1),
            ("refundable", 4),
            ("delivery", 4),
            ("30", 1),
        ] {
            assert_eq!(syllables(word), count, "{word}");
        }
    }

    #[test]
    fn the_grade_is_that_of_the_formula() {
        // Six words of one syllable each: 0.39 * 6 + 11.8 - 15.59.
        let easy = flesch_kincaid("The cat sat on the mat.");
        assert!(easy.is_some_and(|grade| (grade + 1.45).abs() < 1e-4), "{easy:?}");
        let hard = "Notwithstanding the aforementioned contractual stipulations, reimbursement applicability \
                    remains contingent upon administrative authorization.";
        assert!(flesch_kincaid(hard).is_some_and(|grade| grade > 20.0));
        assert_eq!(flesch_kincaid("Unfortunately not."), None);
    }
}

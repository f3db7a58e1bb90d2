//! Letters that look like plain Latin ones.
//!
//! # Source
//! Pairs as in Unicode's UTS #39 (confusables), of the scripts that are used to imitate Latin.

use std::ops::Range;

use super::Folded;

/// Letters of other scripts, as written, and the Latin ones that they look like. A letter may look like
/// one when large (`В`) and like none when small.
const ALIKE: [(&str, &str); 3] = [
    ("аеорсухіјѕԁԛԝһӏкмтАВЕКМНОРСТУХЅІЈԌѴɡ", "aeopcyxijsdqwhlkmtabekmhopctyxsijgvg"),
    ("αειικνορτυχγηωΑΒΕΖΗΙΚΜΝΟΡΤΥΧϲ", "aeiikvoptuxynwabezhikmnoptyxc"),
    ("օոսհցքԼՏՕՍᎪᏴᏟᎬᎻᏆᎫᏦᏞᎷᏢᏒᏚᎢᏙᎳᏃ", "onuhgqlsouabcehijklmprstvwz"),
];

/// Latin letters that are only written differently, and what is meant.
const LATIN: [(char, &str); 38] = [
    ('ß', "ss"),
    ('ẞ', "ss"),
    ('æ', "ae"),
    ('Æ', "ae"),
    ('œ', "oe"),
    ('Œ', "oe"),
    ('ø', "o"),
    ('Ø', "o"),
    ('đ', "d"),
    ('Đ', "d"),
    ('ł', "l"),
    ('Ł', "l"),
    ('ı', "i"),
    ('ɑ', "a"),
    ('ɪ', "i"),
    ('ɩ', "i"),
    ('ɴ', "n"),
    ('ʀ', "r"),
    ('ʏ', "y"),
    ('ʟ', "l"),
    ('ʙ', "b"),
    ('ʜ', "h"),
    ('ɢ', "g"),
    ('ᴀ', "a"),
    ('ᴄ', "c"),
    ('ᴅ', "d"),
    ('ᴇ', "e"),
    ('ᴊ', "j"),
    ('ᴋ', "k"),
    ('ᴍ', "m"),
    ('ᴏ', "o"),
    ('ᴘ', "p"),
    ('ꜱ', "s"),
    ('ᴛ', "t"),
    ('ᴜ', "u"),
    ('ᴠ', "v"),
    ('ᴡ', "w"),
    ('ᴢ', "z"),
];

/// The letter that a sign encloses which Unicode does not decompose: regional indicators, and white
/// letters on black.
pub(super) fn enclosed(c: char) -> Option<char> {
    let first = match u32::from(c) {
        0x1f150..=0x1f169 => 0x1f150,
        0x1f170..=0x1f189 => 0x1f170,
        0x1f1e6..=0x1f1ff => 0x1f1e6,
        _ => return None,
    };
    char::from_u32(u32::from(c) - first + u32::from('a'))
}

/// Whether most letters are plain Latin, so that a word of look-alikes alone is meant to be Latin too.
pub(super) fn is_mostly_latin(text: &str) -> bool {
    let (mut latin, mut other) = (0usize, 0usize);
    for c in text.chars() {
        if c.is_ascii_alphabetic() {
            latin += 1;
        } else if c.is_alphabetic() && script(c) {
            other += 1;
        }
    }
    latin > other
}

/// Whether a letter is of a script that is used to imitate Latin.
fn script(c: char) -> bool {
    matches!(c, '\u{370}'..='\u{52f}' | '\u{531}'..='\u{58f}' | '\u{13a0}'..='\u{13ff}' | 'ɡ')
}

fn alike(c: char) -> Option<char> {
    if !script(c) {
        return None;
    }
    ALIKE.iter().find_map(|(written, meant)| {
        let at = written.chars().position(|known| known == c)?;
        meant.chars().nth(at)
    })
}

/// Letters without anything between them, as written, with their origins.
#[derive(Default)]
pub(super) struct Word {
    pub(super) letters: Vec<(char, Range<usize>)>,
}

impl Word {
    /// Folds the word into `folded` and forgets it. A word of one other script stays what it is, unless
    /// the text is Latin and every letter of the word looks like a Latin one.
    pub(super) fn flush(&mut self, latin: bool, folded: &mut Folded) {
        let foreign = self.letters.iter().any(|(c, _)| script(*c));
        let imitates = foreign
            && (self.letters.iter().any(|(c, _)| c.is_ascii_alphabetic())
                || (latin && self.letters.iter().all(|(c, _)| alike(*c).is_some())));
        for (c, origin) in self.letters.drain(..) {
            if c.is_ascii() {
                folded.push(c.to_ascii_lowercase(), &origin);
            } else if let Some((_, meant)) = LATIN.iter().find(|(known, _)| *known == c) {
                meant.chars().for_each(|c| folded.push(c, &origin));
            } else if let Some(meant) = alike(c).filter(|_| imitates) {
                folded.push(meant, &origin);
            } else {
                c.to_lowercase().for_each(|c| folded.push(c, &origin));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_look_alike_has_its_letter() {
        for (written, meant) in ALIKE {
            assert_eq!(written.chars().count(), meant.chars().count(), "{written}");
            assert!(written.chars().all(script), "{written}");
        }
    }
}

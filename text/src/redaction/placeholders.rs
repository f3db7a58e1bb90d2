//! What stands for a value in a redacted text: its kind and a number, as in `[card-1]`.

use std::{borrow::Cow, fmt, ops::Range, sync::LazyLock};

use regex::Regex;

use super::Kind;

/// How [`Placeholder`] is written.
static WRITTEN: LazyLock<Regex> = LazyLock::new(|| {
    let kinds: Vec<&str> = Kind::ALL.iter().map(|kind| kind.as_str()).collect();
    Regex::new(&format!(r"\[({})-([1-9][0-9]{{0,8}})\]", kinds.join("|"))).expect("kinds are plain words")
});

/// What stands for a value; printed as it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Placeholder {
    /// What the value is.
    pub kind: Kind,
    /// Which of its kind, 1 to 999,999,999.
    pub number: u32,
}

impl fmt::Display for Placeholder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}-{}]", self.kind.as_str(), self.number)
    }
}

/// The placeholders of a text, each with its place in bytes, in order. Takes time linear in the text.
///
/// ```
/// use switchboard_text::redaction::{self, Kind};
///
/// let found: Vec<_> = redaction::placeholders("Refund [card-12] and [model-3]").collect();
/// assert_eq!(found.len(), 1);
/// assert_eq!((found[0].0.clone(), found[0].1.kind, found[0].1.number), (7..16, Kind::Card, 12));
/// ```
pub fn placeholders(text: &str) -> impl Iterator<Item = (Range<usize>, Placeholder)> {
    WRITTEN.captures_iter(text).filter_map(|found| {
        let kind = Kind::ALL.into_iter().find(|kind| kind.as_str() == &found[1])?;
        Some((found.get_match().range(), Placeholder { kind, number: found[2].parse().ok()? }))
    })
}

/// A text with something else where its placeholders are; where there is nothing else they stay.
pub(super) fn replace_each<'a>(
    text: &str,
    mut instead: impl FnMut(Placeholder) -> Option<Cow<'a, str>>,
) -> String {
    let mut out = String::with_capacity(text.len());
    let mut from = 0;
    for (place, placeholder) in placeholders(text) {
        if let Some(instead) = instead(placeholder) {
            out.push_str(&text[from..place.start]);
            out.push_str(&instead);
            from = place.end;
        }
    }
    out + &text[from..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again_and_nothing_else_is() {
        for kind in Kind::ALL {
            let one = Placeholder { kind, number: 4711 };
            let text =
                format!("ü {one}, [{one}] [card-0] [card-01] [card-1234567890] [card-] [Card-1] [other-1]");
            let found: Vec<Placeholder> = placeholders(&text).map(|(_, placeholder)| placeholder).collect();
            assert_eq!(found, [one, one]);
            assert_eq!(placeholders(&text).next().map(|(place, _)| &text[place]), Some(&*one.to_string()));
        }
    }

    #[test]
    fn what_has_nothing_to_take_its_place_stays() {
        let said = |placeholder: Placeholder| (placeholder.number == 1).then(|| "x".into());
        assert_eq!(replace_each("a [card-1][card-2] [card-1]", said), "a x[card-2] x");
        assert_eq!(replace_each("", said), "");
    }
}

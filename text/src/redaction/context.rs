//! What the words before a number say that it is.

use std::sync::LazyLock;

use regex::Regex;

/// What a word says of the number after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hint {
    /// A phone number.
    Phone,
    /// A US social security number.
    Ssn,
    /// A payment card.
    Card,
    /// A number of a thing: an order, an invoice, a version.
    Thing,
}

/// How far before a number a word still speaks of it, in bytes: "please call me back at this one: "
/// and little more.
const REACH: usize = 40;

// ASCII word boundaries: with Unicode ones the regex engine leaves its fast path on any text that
// is not ASCII.
static PHONE: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"(?i)(?-u:\b)(?:(?:tele)?phones?|tel|mobile|cell|cellphone|call|called|calling|ring|fax|whatsapp|sms|
        text|dial|reach|contact|my\ number|telefon\w*|handy\w*|mobil\w*|rufnummer|anrufen|ruf|rufen|
        r(?:ü|ue)ckruf\w*|erreich\w*|meine\ nummer)(?-u:\b)",
    )
});
static CARD: LazyLock<Regex> = LazyLock::new(|| {
    pattern(r"(?i)(?-u:\b)(?:cards?|cc|visa|mastercard|maestro|amex|\w*karten?|\w*kartennummer)(?-u:\b)")
});
static SSN: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"(?i)(?-u:\b)(?:ssn|social\ security|social)(?-u:\b)"));
static THING: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"(?i)(?-u:\b)(?:orders?|invoice|ticket|tracking|booking|reservation|reference|ref|serial|parcel|
        shipment|confirmation|receipt|transaction|coupon|voucher|code|sku|ean|upc|isbn|vat|version|firmware|
        build|release|model|
        (?:customer|client|account|case|item|article|product|policy|contract|member|membership|passport|
        licen[cs]e|loyalty|gift\ card)['’s]*\ (?:number|no|id|\#)|
        bestell\w*|rechnung\w*|kundennummer|auftrag\w*|sendung\w*|vertrag\w*|artikel\w*|buchung\w*|
        kontonummer|beleg\w*|vorgang\w*|mitglied\w*|gutschein\w*|seriennummer)(?-u:\b)",
    )
});

fn pattern(verbose: &str) -> Regex {
    regex::RegexBuilder::new(verbose).ignore_whitespace(true).build().expect("a constant pattern")
}

/// Every hint of a text, in order.
pub(super) struct Hints(Vec<(usize, Hint)>);

impl Hints {
    pub(super) fn of(text: &str) -> Self {
        let mut hints: Vec<(usize, Hint)> = Vec::new();
        for (pattern, hint) in
            [(&*PHONE, Hint::Phone), (&*CARD, Hint::Card), (&*SSN, Hint::Ssn), (&*THING, Hint::Thing)]
        {
            hints.extend(pattern.find_iter(text).map(|found| (found.end(), hint)));
        }
        hints.sort_by_key(|&(end, _)| end);
        Self(hints)
    }

    /// The hint closest before byte `at`, within reach.
    pub(super) fn before(&self, at: usize) -> Option<Hint> {
        self.within(at, REACH)
    }

    /// The hint before byte `at` with hardly a mark between, as in `Tel.:(`.
    pub(super) fn right_before(&self, at: usize) -> Option<Hint> {
        self.within(at, 4)
    }

    fn within(&self, at: usize, reach: usize) -> Option<Hint> {
        let next = self.0.partition_point(|&(end, _)| end <= at);
        let (end, hint) = self.0[..next].last()?;
        (at - end <= reach).then_some(*hint)
    }
}

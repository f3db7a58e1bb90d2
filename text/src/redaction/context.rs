//! What the words around a number say that it is.

use std::{cell::Cell, collections::HashMap, sync::LazyLock};

use super::lexicon::{Lexicon, Lower, WORD_BYTES};

/// What words say of a number near them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hint {
    /// A phone number.
    Phone,
    /// A US social security number.
    Ssn,
    /// Another number that a state gave to a person.
    Id,
    /// A payment card.
    Card,
    /// A date of birth.
    Birth,
    /// A number under which an organisation keeps a person: an account, a patient, a member.
    Record,
    /// A number of a thing: an order, an invoice, a version.
    Thing,
    /// Where somebody lives.
    Address,
}

/// How far before a number a word still speaks of it, in bytes: "please call me back at this one: "
/// and little more.
const REACH: usize = 40;

/// Words that say it alone. Lower case.
const WORDS: &[(Hint, &str)] = &[
    (
        Hint::Phone,
        "phone phones telephone telephones tel mobile cell cellphone call called calling calls ring fax whatsapp \
         sms text texts dial reach reached contact answering messages message voicemail callback desk landline \
         anrufen ruf rufen meldet appeler appelez numero teléfono telefone móvil movil llamar llame celular \
         téléphone téléphoner portable cellulare chiamare chiamami telefoon bel",
    ),
    (Hint::Card, "card cards cc visa mastercard maestro amex tarjeta carte carta"),
    (Hint::Ssn, "ssn social"),
    (
        Hint::Id,
        "nino dni nie nif nir nhs bsn pesel cpf cnp sin tfn aadhaar aadhar pan ahv avs personnummer hetu steuer-id \
         steuerid steueridentifikationsnummer idnr passport pass reisepass pasaporte passeport ausweis \
         personalausweis licence license führerschein permis burgerservicenummer insee codice curp ppsn \
         oasi rodné egn emso jmbg oib",
    ),
    (
        Hint::Birth,
        "born birth birthday birthdate dob d.o.b birthdays geboren geburtsdatum geburtstag geb né née naissance \
         nacimiento nacido nacida nacio nació nato nata nascita nascido nascimento geboortedatum",
    ),
    (
        Hint::Record,
        "mrn acct iban kontonummer patientennummer versichertennummer mitgliedsnummer kundennummer",
    ),
    (
        Hint::Thing,
        "order orders invoice ticket tracking booking reservation reference ref serial parcel shipment confirmation \
         receipt transaction coupon voucher code sku ean upc isbn vat version firmware build release model item \
         article product case pedido factura commande facture",
    ),
    (
        Hint::Address,
        "address live lives living moved deliver delivered delivery ship shipped shipping send mail residence reside \
         resides located wohne wohnt wohnhaft anschrift adresse adresses dirección direccion indirizzo vivo habite",
    ),
];

/// Beginnings of words that say it, as compounds have them. Lower case.
const HEADS: &[(Hint, &str)] = &[
    (Hint::Phone, "telefon"),
    (Hint::Phone, "handy"),
    (Hint::Phone, "mobil"),
    (Hint::Phone, "rufnummer"),
    (Hint::Phone, "rückruf"),
    (Hint::Phone, "rueckruf"),
    (Hint::Phone, "erreich"),
    (Hint::Thing, "bestell"),
    (Hint::Thing, "rechnung"),
    (Hint::Thing, "auftrag"),
    (Hint::Thing, "sendung"),
    (Hint::Thing, "vertrag"),
    (Hint::Thing, "artikel"),
    (Hint::Thing, "buchung"),
    (Hint::Thing, "beleg"),
    (Hint::Thing, "vorgang"),
    (Hint::Thing, "gutschein"),
    (Hint::Thing, "serien"),
    (Hint::Id, "sozialversicherung"),
    (Hint::Id, "steuernummer"),
    (Hint::Id, "ausweis"),
];

/// Words that say whose number it is, before "number", "no", "id" and the like.
const OWNERS: &[(Hint, &str)] = &[
    (
        Hint::Record,
        "account customer client member membership patient record chart policy subscriber insurance medicare \
         medicaid health beneficiary employee student enrollment loyalty routing bank user profile",
    ),
    (
        Hint::Id,
        "passport licence license national tax identity identification security driver drivers driving ni",
    ),
    (Hint::Phone, "my your his her their contact registered home work office"),
    (Hint::Thing, "gift contract item article product case order"),
];

/// What an owner owns.
const NUMBERS: [&str; 9] = ["number", "no", "nr", "id", "num", "nos", "numbers", "ids", "identifier"];

/// Words that say it of a number right behind them.
const NEAR: [&str; 4] = ["account", "patient", "member", "policy"];

/// Words before "card" that make it none for paying.
const UNPAYING: [&str; 6] = ["gift", "loyalty", "sim", "business", "report", "member"];

/// Words right behind a phone number that say what it is.
const LABELS: [&str; 9] = ["office", "fax", "mobile", "cell", "home", "work", "landline", "desk", "direct"];

/// What a word means that can stand before a number.
#[derive(Clone, Copy, Default)]
struct Meaning {
    /// It says what the number is.
    says: Option<Hint>,
    /// It does before a word such as "number".
    owns: Option<Hint>,
    /// It is such a word.
    number: bool,
    /// It goes with one: "number's", "number phone".
    joins: bool,
    /// It does with hardly a mark between: "account 1234".
    near: bool,
}

static MEANINGS: LazyLock<Lexicon<Meaning>> = LazyLock::new(|| {
    let mut meanings: HashMap<&'static str, Meaning> = HashMap::new();
    let split = |lists: &[(Hint, &'static str)]| -> Vec<(&'static str, Hint)> {
        lists.iter().flat_map(|(hint, words)| words.split_whitespace().map(|word| (word, *hint))).collect()
    };
    split(WORDS).into_iter().for_each(|(word, hint)| meanings.entry(word).or_default().says = Some(hint));
    split(OWNERS).into_iter().for_each(|(word, hint)| meanings.entry(word).or_default().owns = Some(hint));
    NUMBERS.into_iter().for_each(|word| meanings.entry(word).or_default().number = true);
    ["s", "phone"].into_iter().for_each(|word| meanings.entry(word).or_default().joins = true);
    NEAR.into_iter().for_each(|word| meanings.entry(word).or_default().near = true);
    meanings.into_iter().collect()
});

/// What a word means that stands behind a number.
#[derive(Clone, Copy)]
enum Behind {
    /// It is a label.
    Label,
    /// It is "is".
    Is,
}

static BEHIND: LazyLock<Lexicon<Behind>> = LazyLock::new(|| {
    let labels = LABELS.into_iter().map(|word| (word, Behind::Label));
    labels.chain(["is", "was", "ist", "es", "est"].map(|word| (word, Behind::Is))).collect()
});

/// The words of a text from byte `at` backwards, each with its place.
pub(super) fn words_before(text: &str, at: usize) -> impl Iterator<Item = (usize, &str)> {
    let bytes = text.as_bytes();
    let mut at = at;
    std::iter::from_fn(move || {
        let far = at.saturating_sub(GAP_BYTES);
        while at > far && !is_letter(bytes[at - 1]) {
            at -= 1;
        }
        let end = at;
        while at > 0 && is_letter(bytes[at - 1]) {
            at -= 1;
        }
        (at < end).then(|| (at, &text[at..end]))
    })
}

/// The words of a text from byte `at` on, each with its place.
pub(super) fn words_after(text: &str, at: usize) -> impl Iterator<Item = (usize, &str)> {
    let bytes = text.as_bytes();
    let mut at = at;
    std::iter::from_fn(move || {
        let far = bytes.len().min(at + GAP_BYTES);
        while at < far && !is_letter(bytes[at]) {
            at += 1;
        }
        let start = at;
        while at < bytes.len() && is_letter(bytes[at]) {
            at += 1;
        }
        (start < at).then(|| (start, &text[start..at]))
    })
}

/// What is outside ASCII is taken for letters: quotes and dashes are plain by now.
fn is_letter(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte >= 0x80
}

/// How much may stand between two words for one to be looked for from the other, in bytes.
const GAP_BYTES: usize = 48;

/// What is said before places of one text, remembered: detectors ask for the same places.
pub(super) struct Hints<'t> {
    text: &'t str,
    last: Cell<Option<(usize, Option<Said>)>>,
}

/// A hint, and where the word ends that gives it.
pub(super) type Said = (Hint, usize);

impl<'t> Hints<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        Self { text, last: Cell::new(None) }
    }

    /// What the words before byte `at` say, the closest first, within reach.
    pub(super) fn before(&self, at: usize) -> Option<Hint> {
        self.said(at).map(|(hint, _)| hint)
    }

    pub(super) fn said(&self, at: usize) -> Option<Said> {
        match self.last.get() {
            Some((place, said)) if place == at => said,
            _ => {
                let said = within(self.text, at, REACH);
                self.last.set(Some((at, said)));
                said
            }
        }
    }
}

/// Whether a hint whose word ends at `end` still speaks of what begins at `at`.
pub(super) fn reaches(end: usize, at: usize) -> bool {
    at - end <= REACH
}

/// What the words before byte `at` say, the closest first, within reach.
#[cfg(test)]
fn before(text: &str, at: usize) -> Option<Hint> {
    within(text, at, REACH).map(|(hint, _)| hint)
}

/// The same with hardly a mark between, as in `Tel.:(`.
pub(super) fn right_before(text: &str, at: usize) -> Option<Hint> {
    within(text, at, 4).map(|(hint, _)| hint)
}

fn within(text: &str, at: usize, reach: usize) -> Option<Said> {
    // No word that counts is longer, so no more needs to be read.
    let from = text.ceil_char_boundary(at.saturating_sub(reach + 2 * WORD_BYTES));
    let cut = from > 0;
    let text = &text[from..at];
    let mut number = false;
    let mut vague = None;
    for (start, word) in words_before(text, text.len()) {
        // "Gift card" is no payment card.
        let card = |at| {
            let before = words_before(text, at).next();
            before
                .is_some_and(|(_, word)| UNPAYING.iter().any(|unpaying| word.eq_ignore_ascii_case(unpaying)))
        };
        let end = start + word.len();
        let far = text.len() - end > reach;
        if far && !number {
            return vague;
        }
        let meaning = MEANINGS.of(word).unwrap_or_default();
        let whole = start > 0 || !cut;
        if number && let Some(hint) = meaning.owns {
            return Some((hint, from + end));
        }
        if far {
            return vague;
        }
        if whole && let Some(hint) = meaning.says.or_else(|| compound(word)) {
            // "delivery to", "send": other words say more.
            if hint == Hint::Card && card(start) {
                return Some((Hint::Thing, from + end));
            }
            if hint == Hint::Address {
                vague = vague.or(Some((hint, from + end)));
            } else {
                return Some((hint, from + end));
            }
        }
        // "account 1234", "patient #77231", with hardly a mark between.
        if meaning.near && text.len() - end <= 3 {
            return Some((Hint::Record, from + end));
        }
        number = meaning.number || (number && meaning.joins);
    }
    vague
}

/// What a word says that is made of several.
fn compound(word: &str) -> Option<Hint> {
    if word.len() < 6 {
        return None;
    }
    let ends = |end: &str| {
        let at = word.len().checked_sub(end.len());
        at.and_then(|at| word.get(at..)).is_some_and(|written| written.eq_ignore_ascii_case(end))
    };
    if word.len() <= WORD_BYTES && (ends("karte") || ends("karten") || ends("kartennummer")) {
        return Some(Hint::Card);
    }
    let first = word.as_bytes()[0].to_ascii_lowercase();
    if !b"abeghmrstv".contains(&first) {
        return None;
    }
    let lower = Lower::of(word)?;
    let head = |head: &str| head.as_bytes()[0] == first && lower.as_str().starts_with(head);
    HEADS.iter().find(|(_, name)| head(name)).map(|&(hint, _)| hint)
}

/// What the words behind byte `at` say: a label such as "(mobile)", or "is my account number".
pub(super) fn after(text: &str, at: usize) -> Option<Hint> {
    let mut words = words_after(text, at);
    let (start, first) = words.next()?;
    let between = &text[at..start];
    if between.len() > 3 || between.contains(['.', '\n', '!', '?', ';']) {
        return None;
    }
    match BEHIND.of(first)? {
        Behind::Label => return Some(Hint::Phone),
        Behind::Is => {}
    }
    let mut owner = None;
    for (at, word) in words.take(5) {
        if Lower::of(word).is_none() {
            break;
        }
        let meaning = MEANINGS.of(word).unwrap_or_default();
        if meaning.number {
            return owner;
        }
        owner = meaning.owns.or(owner);
        if let Some(hint) = meaning.says.or_else(|| compound(word)) {
            return Some(hint);
        }
        if text[at + word.len()..].starts_with(['.', ',', '!', '?']) {
            break;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closest_word_counts() {
        for (text, hint) in [
            ("call me about order ", Some(Hint::Thing)),
            ("order: call me at ", Some(Hint::Phone)),
            ("my account number is ", Some(Hint::Record)),
            ("Patient's no. ", Some(Hint::Record)),
            ("my number is ", Some(Hint::Phone)),
            ("gift card number ", Some(Hint::Thing)),
            ("my card number is ", Some(Hint::Card)),
            ("Geburtsdatum: ", Some(Hint::Birth)),
            ("Meine Handynummer ", Some(Hint::Phone)),
            ("Kreditkarte ", Some(Hint::Card)),
            ("I have an account since ", None),
            ("account ", Some(Hint::Record)),
            ("call, but this is much too far away to say anything of ", None),
            ("", None),
        ] {
            assert_eq!(before(text, text.len()), hint, "{text:?}");
        }
    }

    #[test]
    fn words_behind_count_where_they_name_the_number() {
        for (text, hint) in [
            (" is my account number", Some(Hint::Record)),
            (" (mobile)", Some(Hint::Phone)),
            ("-Fax", Some(Hint::Phone)),
            (" is my date of birth", Some(Hint::Birth)),
            (" is my order", Some(Hint::Thing)),
            (" was late. My phone", None),
            (" or call", None),
            ("", None),
        ] {
            assert_eq!(after(text, 0), hint, "{text:?}");
        }
    }
}

//! Closed classes: units, currencies, months.

use super::Value;

/// Words and signs between the ends of a range, which share the unit of the second.
pub(super) const JOINING: [&str; 9] = ["to", "-", "–", "—", "bis", "or", "oder", "and", "und"];

/// What a number counts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Unit {
    Percent,
    Money(&'static str, f64),
    Hours(f64),
    WorkingDays,
    Months(f64),
    Measure(&'static str, f64),
}

impl Unit {
    pub(super) fn value(self, figure: f64) -> Value {
        match self {
            Self::Percent => Value::Percent(figure),
            Self::Money(currency, factor) => Value::Money { amount: figure * factor, currency },
            Self::Hours(factor) => Value::Hours(figure * factor),
            Self::WorkingDays => Value::WorkingDays(figure),
            Self::Months(factor) => Value::Months(figure * factor),
            Self::Measure(unit, factor) => Value::Measure { amount: figure * factor, unit },
        }
    }
}

/// The longest word of these tables, in bytes; longer ones are not looked up.
const LONGEST: usize = 16;

fn lower(word: &str) -> Option<String> {
    (word.len() <= LONGEST).then(|| word.to_lowercase())
}

/// The unit that a word or sign after a figure is.
pub(super) fn unit(word: &str) -> Option<Unit> {
    // Signs whose case counts.
    match word {
        "%" => return Some(Unit::Percent),
        "m" => return Some(Unit::Measure("m", 1.0)),
        "h" => return Some(Unit::Hours(1.0)),
        "s" => return Some(Unit::Hours(1.0 / 3600.0)),
        _ => {}
    }
    Some(match lower(word)?.as_str() {
        "percent" | "prozent" => Unit::Percent,
        "second" | "seconds" | "sec" | "secs" | "sekunde" | "sekunden" | "sek" => Unit::Hours(1.0 / 3600.0),
        "minute" | "minutes" | "min" | "mins" | "minuten" => Unit::Hours(1.0 / 60.0),
        "hour" | "hours" | "hr" | "hrs" | "stunde" | "stunden" | "std" => Unit::Hours(1.0),
        "day" | "days" | "tag" | "tage" | "tagen" | "tages" | "tägige" | "tägigen" | "tägiges" => {
            Unit::Hours(24.0)
        }
        "night" | "nights" | "nacht" | "nächte" | "nächten" => Unit::Hours(24.0),
        "week" | "weeks" | "woche" | "wochen" | "wöchige" | "wöchigen" => Unit::Hours(168.0),
        "werktag" | "werktage" | "werktagen" | "arbeitstag" | "arbeitstage" | "arbeitstagen" => {
            Unit::WorkingDays
        }
        "month" | "months" | "monat" | "monate" | "monaten" | "monats" | "monatige" => Unit::Months(1.0),
        "year" | "years" | "yr" | "yrs" | "jahr" | "jahre" | "jahren" | "jahres" | "jährige" => {
            Unit::Months(12.0)
        }
        "mm" | "millimeter" | "millimeters" | "millimetre" | "millimetres" => Unit::Measure("m", 0.001),
        "cm" | "centimeter" | "centimeters" | "centimetre" | "centimetres" | "zentimeter" => {
            Unit::Measure("m", 0.01)
        }
        "meter" | "meters" | "metre" | "metres" => Unit::Measure("m", 1.0),
        "km" | "kilometer" | "kilometers" | "kilometre" | "kilometres" => Unit::Measure("m", 1000.0),
        "inch" | "inches" | "zoll" => Unit::Measure("m", 0.0254),
        "foot" | "feet" | "ft" => Unit::Measure("m", 0.3048),
        "mile" | "miles" | "meile" | "meilen" => Unit::Measure("m", 1609.344),
        "g" | "gram" | "grams" | "gramm" => Unit::Measure("g", 1.0),
        "kg" | "kgs" | "kilo" | "kilos" | "kilogram" | "kilograms" | "kilogramm" => {
            Unit::Measure("g", 1000.0)
        }
        "lb" | "lbs" => Unit::Measure("g", 453.592_37),
        "ml" | "milliliter" | "milliliters" | "millilitre" | "millilitres" => Unit::Measure("l", 0.001),
        "l" | "liter" | "liters" | "litre" | "litres" => Unit::Measure("l", 1.0),
        "kb" => Unit::Measure("byte", 1e3),
        "mb" => Unit::Measure("byte", 1e6),
        "gb" => Unit::Measure("byte", 1e9),
        "tb" => Unit::Measure("byte", 1e12),
        "cent" | "cents" | "ct" => Unit::Money("cent", 1.0),
        _ => Unit::Money(currency(word)?, 1.0),
    })
}

/// The currency that a word or sign is.
pub(super) fn currency(word: &str) -> Option<&'static str> {
    Some(match word {
        "$" => "USD",
        "€" => "EUR",
        "£" => "GBP",
        "¥" => "JPY",
        "₹" => "INR",
        _ => match lower(word)?.as_str() {
            "usd" | "dollar" | "dollars" => "USD",
            "eur" | "euro" | "euros" => "EUR",
            "gbp" | "pounds" | "pfund" => "GBP",
            "chf" | "franken" | "francs" => "CHF",
            "jpy" | "yen" => "JPY",
            "inr" | "rupees" => "INR",
            "sek" | "kronor" => "SEK",
            "pln" => "PLN",
            "cad" => "CAD",
            "aud" => "AUD",
            _ => return None,
        },
    })
}

/// The factor of a word that multiplies the figure before it.
pub(super) fn multiple(word: &str) -> Option<f64> {
    Some(match lower(word)?.as_str() {
        "hundred" | "hundert" => 1e2,
        "k" | "thousand" | "tausend" => 1e3,
        "million" | "millions" | "millionen" | "mio" => 1e6,
        "billion" | "billions" | "milliarde" | "milliarden" | "mrd" | "bn" => 1e9,
        _ => return None,
    })
}

/// Whether a word before "days" makes them days that are worked.
pub(super) fn is_working(word: &str) -> bool {
    word.eq_ignore_ascii_case("business") || word.eq_ignore_ascii_case("working")
}

pub(super) fn is_day(word: &str) -> bool {
    word.eq_ignore_ascii_case("day") || word.eq_ignore_ascii_case("days")
}

/// Whether these letters behind a figure make it an ordinal.
pub(super) fn is_ordinal(word: &str) -> bool {
    ["st", "nd", "rd", "th"].iter().any(|ending| word.eq_ignore_ascii_case(ending))
}

/// Half of a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Half {
    Morning,
    Afternoon,
}

impl Half {
    /// Minutes after midnight of a time in this half; 12 is its beginning.
    pub(super) fn of(self, minutes: u16) -> u16 {
        let within = minutes % (12 * 60);
        if self == Self::Morning { within } else { within + 12 * 60 }
    }
}

pub(super) fn half(word: &str) -> Option<Half> {
    match word {
        "am" | "AM" => Some(Half::Morning),
        "pm" | "PM" => Some(Half::Afternoon),
        _ => None,
    }
}

/// The month that a word is, 1 to 12. Whoever writes "may" or "march" small may mean the verb.
pub(super) fn month(word: &str) -> Option<u8> {
    if !word.starts_with(char::is_uppercase) {
        return None;
    }
    Some(match lower(word)?.as_str() {
        "january" | "jan" | "januar" | "jänner" => 1,
        "february" | "feb" | "februar" => 2,
        "march" | "mar" | "märz" => 3,
        "april" | "apr" => 4,
        "may" | "mai" => 5,
        "june" | "jun" | "juni" => 6,
        "july" | "jul" | "juli" => 7,
        "august" | "aug" => 8,
        "september" | "sep" | "sept" => 9,
        "october" | "oct" | "oktober" | "okt" => 10,
        "november" | "nov" => 11,
        "december" | "dec" | "dezember" | "dez" => 12,
        _ => return None,
    })
}

//! What callers tell, as rules read it: bounded in size and depth.

use std::collections::{BTreeMap, HashMap};

use prost::Message as _;
use prost_types::{Struct, value::Kind};
use regorus::Value;

use crate::error::Error;

/// The most bytes of all facts, encoded.
const MOST_BYTES: usize = 64 << 10;
/// The most levels of objects and lists; the library walks them by recursion.
const MOST_LEVELS: usize = 16;

/// Facts of both forms as one object; where both have a name, the string counts.
///
/// # Errors
/// [`Error::Field`] naming `details` when there is too much, or a number is none.
pub(crate) fn object(
    field: &'static str,
    details: Option<&Struct>,
    strings: &HashMap<String, String>,
) -> Result<Value, Error> {
    let bytes = details.map_or(0, Struct::encoded_len)
        + strings.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
    if bytes > MOST_BYTES {
        return Err(Error::Field { field, allowed: "at most 64 KiB of facts" });
    }
    let mut object = match details {
        Some(details) => fields(field, details, 1)?,
        None => BTreeMap::new(),
    };
    for (name, value) in strings {
        object.insert(Value::from(name.as_str()), Value::from(value.as_str()));
    }
    Ok(Value::from(object))
}

fn fields(field: &'static str, object: &Struct, level: usize) -> Result<BTreeMap<Value, Value>, Error> {
    let pairs = object.fields.iter();
    pairs.map(|(name, value)| Ok((Value::from(name.as_str()), one(field, value, level)?))).collect()
}

fn one(field: &'static str, value: &prost_types::Value, level: usize) -> Result<Value, Error> {
    if level > MOST_LEVELS {
        return Err(Error::Field { field, allowed: "at most 16 levels" });
    }
    Ok(match &value.kind {
        None | Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::BoolValue(set)) => Value::from(*set),
        Some(Kind::StringValue(text)) => Value::from(text.as_str()),
        Some(Kind::NumberValue(number)) => {
            self::number(*number).ok_or(Error::Field { field, allowed: "numbers that are finite" })?
        }
        Some(Kind::ListValue(list)) => {
            let values = list.values.iter().map(|value| one(field, value, level + 1));
            Value::from(values.collect::<Result<Vec<_>, _>>()?)
        }
        Some(Kind::StructValue(object)) => Value::from(fields(field, object, level + 1)?),
    })
}

/// A number; whole ones as such, so that rules print 20 and not 20.0.
pub(crate) fn number(number: f64) -> Option<Value> {
    /// Up to here each whole number has a double of its own.
    const WHOLE: f64 = 9_007_199_254_740_992.0;
    if !number.is_finite() {
        return None;
    }
    if number.fract() == 0.0 && number.abs() <= WHOLE {
        #[expect(clippy::cast_possible_truncation, reason = "it is whole and fits")]
        return Some(Value::from(number as i64));
    }
    Some(Value::from(number))
}

/// An object of named values.
pub(crate) fn named<'n>(fields: impl IntoIterator<Item = (&'n str, Value)>) -> Value {
    let fields = fields.into_iter().map(|(name, value)| (Value::from(name), value));
    Value::from(fields.collect::<BTreeMap<_, _>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number_of(value: f64) -> prost_types::Value {
        prost_types::Value { kind: Some(Kind::NumberValue(value)) }
    }

    fn nested(levels: usize) -> Struct {
        let mut value = number_of(1.0);
        for _ in 0..levels {
            let object = Struct { fields: [("a".to_owned(), value)].into() };
            value = prost_types::Value { kind: Some(Kind::StructValue(object)) };
        }
        Struct { fields: [("a".to_owned(), value)].into() }
    }

    #[test]
    fn strings_stand_over_details() {
        let details =
            Struct { fields: [("a".to_owned(), number_of(2.5)), ("b".to_owned(), number_of(20.0))].into() };
        let strings = [("a".to_owned(), "x".to_owned())].into();
        let object = object("details", Some(&details), &strings).unwrap();
        assert_eq!(object, Value::from_json_str(r#"{"a": "x", "b": 20}"#).unwrap());
    }

    #[test]
    fn size_depth_and_numbers_are_bounded() {
        let none = HashMap::new();
        assert!(object("details", Some(&nested(15)), &none).is_ok());
        assert!(object("details", Some(&nested(16)), &none).is_err());
        let odd = Struct { fields: [("a".to_owned(), number_of(f64::NAN))].into() };
        assert!(object("details", Some(&odd), &none).is_err());
        let long = [("a".to_owned(), "x".repeat(MOST_BYTES))].into();
        assert!(object("details", None, &long).is_err());
    }
}

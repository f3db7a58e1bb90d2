//! What templates take from Python: `json.dumps` and `strftime`.

use std::{fmt::Write as _, time::SystemTime};

use chrono::{DateTime, Utc};
use minijinja::{
    Error, ErrorKind, State, Value,
    value::{Kwargs, ValueKind},
};

/// How deep values may lie within each other.
const DEEPEST: usize = 128;
/// Spaces of the widest indent.
const WIDEST: usize = 16;

fn refused(what: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, what.into())
}

/// A value as JSON, as `json.dumps(value, ensure_ascii=False)` writes it. Takes Python's `indent`,
/// `separators`, `sort_keys` and `ensure_ascii`.
pub(super) fn tojson(
    state: &State,
    value: &Value,
    ensure_ascii: Option<bool>,
    options: Kwargs,
) -> Result<Value, Error> {
    let ensure_ascii = ensure_ascii.or(options.get("ensure_ascii")?).unwrap_or(false);
    let indent = match options.get::<Option<Value>>("indent")?.filter(|indent| !indent.is_none()) {
        Some(indent) => Some(
            indent
                .as_usize()
                .filter(|indent| *indent <= WIDEST)
                .ok_or_else(|| refused(format!("tojson has indent={indent}; 0 to {WIDEST} is allowed")))?,
        ),
        None => None,
    };
    let separators = match options.get::<Option<Value>>("separators")?.filter(|value| !value.is_none()) {
        Some(both) => {
            let text = |at| Ok::<_, Error>(both.get_item_by_index(at)?.to_string());
            (text(0)?, text(1)?)
        }
        None if indent.is_some() => (",".to_owned(), ": ".to_owned()),
        None => (", ".to_owned(), ": ".to_owned()),
    };
    let sort_keys = options.get::<Option<bool>>("sort_keys")?.unwrap_or(false);
    options.assert_all_used()?;
    let mut writer =
        Writer { state, ensure_ascii, indent, separators, sort_keys, out: String::new(), paid: 0 };
    writer.value(value, 0)?;
    Ok(Value::from(writer.out))
}

struct Writer<'a, 'b> {
    state: &'a State<'a, 'b>,
    ensure_ascii: bool,
    indent: Option<usize>,
    /// Between members, and between a key and its value.
    separators: (String, String),
    sort_keys: bool,
    out: String,
    /// Bytes that fuel was taken for.
    paid: usize,
}

impl Writer<'_, '_> {
    fn value(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        if depth > DEEPEST {
            return Err(refused(format!("tojson of values more than {DEEPEST} deep")));
        }
        if self.out.len() > self.paid + 64 {
            self.state.consume_fuel(((self.out.len() - self.paid) / 16) as u64)?;
            self.paid = self.out.len();
        }
        match value.kind() {
            ValueKind::None => self.out.push_str("null"),
            ValueKind::Bool => self.out.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => self.number(value),
            ValueKind::String => self.text(value.as_str().unwrap_or_default()),
            ValueKind::Seq | ValueKind::Iterable => {
                let members: Vec<Value> = value.try_iter()?.checked().collect::<Result<_, _>>()?;
                self.members('[', ']', members, depth, |writer, member| writer.value(&member, depth + 1))?;
            }
            ValueKind::Map => {
                let mut keys: Vec<Value> = value.try_iter()?.checked().collect::<Result<_, _>>()?;
                if self.sort_keys {
                    keys.sort_by_key(Value::to_string);
                }
                self.members('{', '}', keys, depth, |writer, key| {
                    writer.text(&key.to_string());
                    writer.out.push_str(&writer.separators.1.clone());
                    writer.value(&value.get_item(&key)?, depth + 1)
                })?;
            }
            other => return Err(refused(format!("tojson of a value that JSON cannot write: {other}"))),
        }
        Ok(())
    }

    fn members(
        &mut self,
        open: char,
        close: char,
        members: Vec<Value>,
        depth: usize,
        mut write: impl FnMut(&mut Self, Value) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.out.push(open);
        let empty = members.is_empty();
        for (number, member) in members.into_iter().enumerate() {
            if number > 0 {
                self.out.push_str(&self.separators.0.clone());
            }
            self.line(depth + 1);
            write(self, member)?;
        }
        if !empty {
            self.line(depth);
        }
        self.out.push(close);
        Ok(())
    }

    fn line(&mut self, depth: usize) {
        if let Some(indent) = self.indent {
            self.out.push('\n');
            self.out.extend(std::iter::repeat_n(' ', indent * depth));
        }
    }

    /// Python writes floats without a point only where they have an exponent, from 1e16 and below 1e-4 on.
    fn number(&mut self, value: &Value) {
        let plain = value.to_string();
        let float = f64::try_from(value.clone()).ok().filter(|_| !value.is_integer());
        match float.filter(|float| float.is_finite()) {
            Some(float) if float != 0.0 && !(1e-4..1e16).contains(&float.abs()) => {
                let short = format!("{float:e}");
                let (digits, exponent) = short.split_once('e').unwrap_or((&short, "0"));
                let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |it| ('-', it));
                // Writing to a text does not fail.
                let _ = write!(self.out, "{digits}e{sign}{exponent:0>2}");
            }
            Some(_) => self.out.push_str(&plain),
            None => self.out.push_str(match float {
                None => &plain,
                Some(float) if float.is_nan() => "NaN",
                Some(float) if float > 0.0 => "Infinity",
                Some(_) => "-Infinity",
            }),
        }
    }

    fn text(&mut self, text: &str) {
        self.out.push('"');
        for letter in text.chars() {
            match letter {
                '"' => self.out.push_str("\\\""),
                '\\' => self.out.push_str("\\\\"),
                '\n' => self.out.push_str("\\n"),
                '\r' => self.out.push_str("\\r"),
                '\t' => self.out.push_str("\\t"),
                '\u{8}' => self.out.push_str("\\b"),
                '\u{c}' => self.out.push_str("\\f"),
                letter if letter < ' ' || (self.ensure_ascii && is_foreign(letter)) => {
                    for unit in letter.encode_utf16(&mut [0; 2]) {
                        let _ = write!(self.out, "\\u{unit:04x}");
                    }
                }
                letter => self.out.push(letter),
            }
        }
        self.out.push('"');
    }
}

/// Whether a character is to be written as a number where only ASCII is wanted. Stand-ins for marks, which
/// are ASCII or stay as they are, are left alone.
fn is_foreign(letter: char) -> bool {
    !letter.is_ascii() && (letter as u32) < 0x10_0000
}

/// A time as Python's `strftime` writes it.
pub(super) fn strftime(now: SystemTime, format: &str) -> Result<String, Error> {
    let mut text = String::new();
    let written = write!(text, "{}", DateTime::<Utc>::from(now).format(format));
    written.map_err(|_| refused(format!("strftime_now does not know the format {format:?}")))?;
    Ok(text)
}

//! `data.voice` of a bundle, as the checks of drafts take it.

use regorus::Value;

use super::{
    BundleError, Verdict,
    decision::{MOST_WORDS, is_name},
};
use crate::draft::{FORM, SPELLING, Voice, Wording};

/// The most sentences that a bundle can want in each reply.
const MOST_SAID: usize = 64;

/// Reads the voice of a bundle's data.
///
/// # Errors
/// [`BundleError::Rules`], which names the bundle's data and what is allowed.
pub(super) fn read(data: &Value, name: &str) -> Result<Voice, BundleError> {
    let wrong = |reason: String| BundleError::Rules { place: format!("{name}/data"), reason };
    let voice = match &data["voice"] {
        Value::Undefined => return Ok(Voice::default()),
        voice @ Value::Object(_) => voice,
        _ => {
            let fields = "`voice` is an object with banned, required, max_grade, said and verdicts";
            return Err(wrong(fields.to_owned()));
        }
    };
    let max_grade = match &voice["max_grade"] {
        Value::Undefined => None,
        #[expect(clippy::cast_possible_truncation, reason = "a school grade")]
        grade => Some(grade.as_f64().map_err(|_| wrong("`voice.max_grade` is a number".to_owned()))? as f32),
    };
    Ok(Voice {
        banned: strings(&voice["banned"], "voice.banned").map_err(wrong)?,
        required: strings(&voice["required"], "voice.required").map_err(wrong)?,
        max_grade,
        said: said(&voice["said"]).map_err(wrong)?,
        verdicts: verdicts(&voice["verdicts"]).map_err(wrong)?,
    })
}

fn strings(value: &Value, key: &str) -> Result<Vec<String>, String> {
    let allowed = || format!("`{key}` is a list of strings");
    match value {
        Value::Undefined => Ok(Vec::new()),
        Value::Array(list) => list
            .iter()
            .map(|word| word.as_string().map(|word| word.to_string()).map_err(|_| allowed()))
            .collect(),
        _ => Err(allowed()),
    }
}

fn said(value: &Value) -> Result<Vec<Wording>, String> {
    match value {
        Value::Undefined => Ok(Vec::new()),
        Value::Array(list) if list.len() <= MOST_SAID => list.iter().map(wording).collect(),
        _ => Err(format!("`voice.said` is a list of at most {MOST_SAID} sentences")),
    }
}

fn wording(value: &Value) -> Result<Wording, String> {
    const FIELDS: &str = "the fields of `voice.said` are rule, say, products, jurisdictions and channels";
    let Value::Object(object) = value else { return Err(FIELDS.to_owned()) };
    let mut wording = Wording::default();
    for (key, value) in object.iter() {
        match &**key.as_string().map_err(|_| FIELDS)? {
            "rule" => wording.rule = value.as_string().map(|name| name.to_string()).unwrap_or_default(),
            "say" => wording.say = value.as_string().map(|say| say.to_string()).unwrap_or_default(),
            "products" => wording.products = strings(value, "voice.said.products")?,
            "jurisdictions" => wording.jurisdictions = strings(value, "voice.said.jurisdictions")?,
            "channels" => wording.channels = strings(value, "voice.said.channels")?,
            _ => return Err(FIELDS.to_owned()),
        }
    }
    if !is_name(&wording.rule) {
        return Err(
            "`voice.said.rule` is 1 to 128 characters out of a-z, A-Z, 0-9, `.`, `_` and `-`".to_owned()
        );
    }
    if wording.say.trim().is_empty() || wording.say.len() > MOST_WORDS {
        return Err(format!(
            "`voice.said.say` of {} is the sentence, at most {MOST_WORDS} bytes",
            wording.rule
        ));
    }
    Ok(wording)
}

fn verdicts(value: &Value) -> Result<Vec<(&'static str, Verdict)>, String> {
    let allowed = || {
        format!(
            "`voice.verdicts` has {}, each allow, refuse or hand_off; {SPELLING} can be rewrite too",
            FORM.join(", ")
        )
    };
    let object = match value {
        Value::Undefined => return Ok(Vec::new()),
        Value::Object(object) => object,
        _ => return Err(allowed()),
    };
    let verdict = |(key, value): (&Value, &Value)| {
        let (key, verdict) = (key.as_string().ok()?, value.as_string().ok()?);
        let kind = FORM.into_iter().find(|kind| **kind == **key)?;
        let verdict = Verdict::parse(verdict)?;
        let fits = matches!(verdict, Verdict::Allow | Verdict::Refuse | Verdict::HandOff)
            || (verdict == Verdict::Rewrite && kind == SPELLING);
        fits.then_some((kind, verdict))
    };
    object.iter().map(|pair| verdict(pair).ok_or_else(allowed)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draft::{GRADE, LANGUAGE};

    fn of(json: &str) -> Result<Voice, String> {
        let data = Value::from_json_str(&format!(r#"{{"voice": {json}}}"#)).unwrap();
        read(&data, "own").map_err(|error| error.to_string())
    }

    #[test]
    fn a_voice_is_read_with_all_that_it_says() {
        let voice = of(r#"{"banned": ["a"], "max_grade": 9, "said": [{"rule": "b.c", "say": "D e.", "channels": ["chat"]}],
            "verdicts": {"language": "hand_off", "reading-level": "refuse", "required-spelling": "rewrite"}}"#)
        .unwrap();
        assert_eq!((voice.banned.len(), voice.max_grade), (1, Some(9.0)));
        assert_eq!((voice.said[0].say.as_str(), voice.said[0].channels.len()), ("D e.", 1));
        let expected = [(LANGUAGE, Verdict::HandOff), (GRADE, Verdict::Refuse), (SPELLING, Verdict::Rewrite)];
        assert_eq!(voice.verdicts, expected);
        let nothing = read(&Value::new_object(), "own").unwrap();
        assert_eq!(nothing, Voice::default());
    }

    #[test]
    fn what_is_wrong_with_it_is_named() {
        for (json, told) in [
            (r#""loud""#, "`voice` is an object"),
            (r#"{"banned": "x"}"#, "`voice.banned`"),
            (r#"{"max_grade": "high"}"#, "`voice.max_grade`"),
            (r#"{"said": {}}"#, "`voice.said` is a list"),
            (r#"{"said": [{"rule": "a", "say": "b", "product": ["c"]}]}"#, "the fields of `voice.said`"),
            (r#"{"said": [{"rule": "a b", "say": "b"}]}"#, "`voice.said.rule`"),
            (r#"{"said": [{"rule": "a", "say": " "}]}"#, "`voice.said.say` of a"),
            (r#"{"said": [{"rule": "a", "say": "b", "channels": "chat"}]}"#, "`voice.said.channels`"),
            (r#"{"verdicts": {"grade": "refuse"}}"#, "`voice.verdicts` has language"),
            (r#"{"verdicts": {"language": "rewrite"}}"#, "`voice.verdicts` has language"),
        ] {
            let error = of(json).unwrap_err();
            assert!(error.contains(told) && error.contains("own/data"), "{json}: {error}");
        }
    }
}

use proptest::prelude::*;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    super::{
        fixtures,
        sampler::{Sampler, Sampling},
        text::Detokenizer,
    },
    *,
};

struct Model {
    vocabulary: Arc<Vocabulary>,
    grammars: Grammars,
}

fn models() -> [Model; 2] {
    [fixtures::chat(), fixtures::fallback()].map(|tokenizer| {
        let vocabulary = fixtures::vocabulary(&tokenizer.to_string());
        let endings = ["</s>", "<|im_end|>"].iter().filter_map(|token| vocabulary.id(token)).collect();
        let grammars = Grammars::new(&vocabulary, &endings).unwrap();
        Model { vocabulary, grammars }
    })
}

/// Draws tokens without a model until the text ends. Where it may end, it mostly does.
fn written(model: &Model, rule: &Rule, seed: u64) -> String {
    let mut constraint = model.grammars.begin(rule).unwrap();
    let mut sampler = Sampler::new(Sampling { temperature: 1.0, seed, ..Sampling::default() });
    let mut detokenizer = Detokenizer::new(&model.vocabulary, true);
    let ends = |token: u32| model.vocabulary.is_special(token);
    let mut text = String::new();
    // Ordinary schemas end far sooner; what is drawn at random has long numbers and texts.
    for _ in 0..4000 {
        let allowed = constraint.mask().unwrap();
        let mut logits: Vec<f32> = (0..model.vocabulary.len() as u32)
            .map(|token| match model.vocabulary.bytes(token) {
                _ if ends(token) => 5.0,
                b"\"" | b"}" | b"]" => 4.0,
                [byte] if byte.is_ascii_whitespace() => -5.0,
                _ => 0.0,
            })
            .collect();
        let token = sampler.next(&mut logits, &[], Some(&allowed)).unwrap().token;
        constraint.accept(token).unwrap();
        if ends(token) {
            break;
        }
        text.push_str(&detokenizer.push(token));
        if constraint.is_done() {
            break;
        }
    }
    text + &detokenizer.finish()
}

fn refusal(rule: &Rule) -> String {
    let [model, _] = models();
    let error = model.grammars.begin(rule).err().expect("the rule is refused");
    error.to_string()
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Order {
    number: String,
    count: u8,
    state: State,
    #[serde(default)]
    notes: Vec<String>,
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
enum State {
    Sent,
    Lost,
}

fn order() -> Rule {
    let schema = json!({
        "type": "object",
        "properties": {
            "number": {"type": "string", "pattern": "^[A-Z]-[0-9]{1,4}$"},
            "count": {"type": "integer", "minimum": 1, "maximum": 99},
            "state": {"enum": ["sent", "lost"]},
            "notes": {"type": "array", "items": {"type": "string", "maxLength": 5}, "maxItems": 3},
        },
        "required": ["number", "count", "state"],
        "additionalProperties": false,
    });
    Rule::JsonSchema(schema.to_string())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn what_is_drawn_fits_the_schema(seed: u64) {
        for model in models() {
            let text = written(&model, &order(), seed);
            let order: Order = serde_json::from_str(&text).map_err(|error| TestCaseError::fail(format!("{error}: {text}")))?;
            let (letter, digits) = order.number.split_once('-').unwrap();
            prop_assert!(letter.len() == 1 && letter.as_bytes()[0].is_ascii_uppercase());
            prop_assert!((1..=4).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit()));
            prop_assert!((1..=99).contains(&order.count) && order.notes.len() <= 3);
            prop_assert!(order.notes.iter().all(|note| note.chars().count() <= 5));
            prop_assert!([State::Sent, State::Lost].contains(&order.state));
        }
    }

    #[test]
    fn what_is_drawn_fits_the_expression(seed: u64) {
        for model in models() {
            let text = written(&model, &Rule::Regex("(is|where) [0-9]{2}/ö?".into()), seed);
            let rest = text.strip_prefix("is ").or(text.strip_prefix("where ")).unwrap_or("nothing");
            let rest = rest.strip_suffix('ö').unwrap_or(rest);
            let digits = rest.strip_suffix('/').unwrap_or_default();
            prop_assert!(digits.len() == 2 && digits.bytes().all(|byte| byte.is_ascii_digit()), "{}", text);
        }
    }

    #[test]
    fn what_is_drawn_fits_the_grammar(seed: u64) {
        let lark = "start: pair\npair: \"(\" pair? \")\"";
        for model in models() {
            let text = written(&model, &Rule::Lark(lark.into()), seed);
            let half = text.len() / 2;
            prop_assert!(half > 0 && text == "(".repeat(half) + &")".repeat(half), "{}", text);
        }
    }
}

#[test]
fn one_of_a_list_is_one_of_it() {
    for model in models() {
        let drawn: BTreeSet<String> = (0..400)
            .map(|seed| {
                written(&model, &Rule::JsonSchema(r#"{"enum": ["my parcel", 7, null]}"#.into()), seed)
            })
            .collect();
        let wanted = BTreeSet::from(["\"my parcel\"", "7", "null"].map(String::from));
        assert_eq!(drawn, wanted);
    }
}

#[test]
fn the_end_is_allowed_where_the_text_may_end() {
    let [model, _] = models();
    let end = model.vocabulary.id("</s>").unwrap() as usize;
    let mut constraint = model.grammars.begin(&Rule::Regex("my?".into())).unwrap();
    let token = |text: &str| model.vocabulary.id(text).unwrap();
    let first = constraint.mask().unwrap();
    assert!(first.contains(token("m") as usize) && first.contains(token("my") as usize));
    assert!(!first.contains(end) && !first.contains(token("i") as usize));
    constraint.accept(token("m")).unwrap();
    let second = constraint.mask().unwrap();
    assert!(second.contains(end) && second.contains(token("y") as usize) && !constraint.is_done());
    constraint.accept(token("y")).unwrap();
    assert!(constraint.is_done());
    let last = constraint.mask().unwrap();
    let all = (0..model.vocabulary.len()).filter(|token| last.contains(*token));
    let endings = ["</s>", "<|im_end|>"].map(|token| model.vocabulary.id(token).unwrap() as usize);
    assert_eq!(all.collect::<Vec<_>>(), endings);
}

#[test]
fn a_token_that_was_not_allowed_is_an_error() {
    let [model, _] = models();
    let mut constraint = model.grammars.begin(&Rule::Regex("my".into())).unwrap();
    let error = constraint.accept(model.vocabulary.id("i").unwrap()).unwrap_err().to_string();
    assert!(error.starts_with("grammar: behind 0 tokens: "), "{error}");
    assert!(!error.contains('\n') && constraint.mask().is_err() && !constraint.is_done());
}

#[test]
fn no_special_token_is_written() {
    let [model, _] = models();
    let start = model.vocabulary.id("<|im_start|>").unwrap();
    for named in ["<|im_start|>".to_owned(), format!("<[{start}]>")] {
        let only = Rule::Lark(format!("start: {named}"));
        let error = model.grammars.begin(&only).unwrap().mask().unwrap_err().to_string();
        assert_eq!(error, "grammar: behind 0 tokens: no token of the model fits");
        let or = Rule::Lark(format!("start: {named} | \"a\""));
        let allowed = model.grammars.begin(&or).unwrap().mask().unwrap();
        assert!(!allowed.contains(start as usize));
        assert!(allowed.contains(model.vocabulary.id("a").unwrap() as usize));
    }
    // As text it is written letter by letter.
    let text = written(&model, &Rule::Regex("<\\|im_start\\|>".into()), 3);
    assert_eq!(text, "<|im_start|>");
}

#[test]
fn a_schema_that_nothing_fits_is_refused() {
    for schema in [
        json!({"type": "string", "minLength": 5, "maxLength": 2}),
        json!({"type": "integer", "minimum": 5, "maximum": 2}),
        json!({"allOf": [{"type": "string"}, {"type": "integer"}]}),
        json!(false),
    ] {
        let error = refusal(&Rule::JsonSchema(schema.to_string()));
        assert!(error.starts_with("grammar: ") && error.to_lowercase().contains("unsatisfiable"), "{error}");
    }
}

#[test]
fn a_rule_that_cannot_be_read_is_refused() {
    for (rule, wanted) in [
        (Rule::JsonSchema("{".into()), "is no JSON"),
        (Rule::JsonSchema(r#"{"type": "colour"}"#.into()), "colour"),
        (Rule::JsonSchema(r##"{"$ref": "#/nowhere"}"##.into()), "nowhere"),
        (Rule::JsonSchema(r#"{"$ref": "http://127.0.0.1/x.json"}"#.into()), "127.0.0.1"),
        (Rule::Regex("a(".into()), "regex"),
        (Rule::Lark("start: b".into()), "b"),
        (Rule::Lark(String::new()), "0 bytes; 1 to 65536 are allowed"),
        (Rule::Regex("x".repeat(LARGEST + 1)), "65537 bytes"),
    ] {
        let error = refusal(&rule);
        assert!(error.starts_with("grammar: ") && error.contains(wanted), "{rule:?}: {error}");
        assert!(!error.contains('\n') && error.len() < 400, "{error}");
    }
}

#[test]
fn a_rule_that_explodes_is_refused_or_fails_alone() {
    let [model, _] = models();
    let deep = |open: &str, close: &str| format!("{}a{}", open.repeat(5000), close.repeat(5000));
    for rule in [
        Rule::Regex(deep("(", ")")),
        Rule::Lark(format!("start: {}", deep("(\"a\" ", ")"))),
        Rule::Regex("((a{1,1000}){1,1000}){1,1000}".into()),
        Rule::Regex("(a|b|ab)*c.{5000}(d|e){3000}&~(x{4000})".into()),
        Rule::JsonSchema(json!({"type": "string", "pattern": "^(([a-z]+){900}){900}$"}).to_string()),
    ] {
        // Where it is not refused, it must fail soon, or go on at a cost that is bounded.
        if let Ok(mut constraint) = model.grammars.begin(&rule) {
            for _ in 0..50 {
                let Ok(allowed) = constraint.mask() else { break };
                let Some(token) = (0..model.vocabulary.len()).find(|token| allowed.contains(*token)) else {
                    break;
                };
                if constraint.accept(token as u32).is_err() {
                    break;
                }
            }
        }
    }
    // Others are served as before.
    assert_eq!(written(&model, &Rule::Regex("my".into()), 1), "my");
}

#[test]
fn a_schema_may_refer_to_itself() {
    let schema = json!({
        "$defs": {"tree": {"type": "object", "properties": {
            "name": {"enum": ["a"]},
            "children": {"type": "array", "items": {"$ref": "#/$defs/tree"}, "maxItems": 1},
        }, "required": ["name"], "additionalProperties": false}},
        "$ref": "#/$defs/tree",
    });
    for model in models() {
        let text = written(&model, &Rule::JsonSchema(schema.to_string()), 5);
        let tree: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(tree["name"], "a");
    }
}

#[test]
fn a_model_without_endings_stops_where_the_text_does() {
    let vocabulary = fixtures::vocabulary(fixtures::BYTE_LEVEL);
    let grammars = Grammars::new(&vocabulary, &BTreeSet::new()).unwrap();
    let mut constraint = grammars.begin(&Rule::Regex("my".into())).unwrap();
    constraint.accept(vocabulary.id("my").unwrap()).unwrap();
    assert!(constraint.is_done());
}

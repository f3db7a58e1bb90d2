use super::{
    super::fixtures::{chat as tokenizer, vocabulary},
    *,
};

/// 2026-11-02T09:05:00Z, the time of the goldens.
const NOW: u64 = 1_793_610_300;

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(NOW)
}

fn templates(template: &str, tokens: BTreeMap<&'static str, String>) -> ChatTemplates {
    let sources = vec![Named { name: "default".into(), template: template.into() }];
    ChatTemplates::of("model/tokenizer_config.json".into(), sources, tokens).unwrap()
}

fn render(template: &str, chat: &Chat) -> Result<String, String> {
    let vocabulary = vocabulary(&tokenizer().to_string());
    let prompt = templates(template, BTreeMap::new()).render(chat, now(), &vocabulary);
    prompt.map(|prompt| prompt.text(&vocabulary)).map_err(|error| error.to_string())
}

#[derive(Deserialize)]
struct Goldens {
    now: String,
    bos_token: String,
    eos_token: String,
    tools: Vec<Value>,
    messages: BTreeMap<String, Vec<Value>>,
    templates: Vec<Golden>,
}

#[derive(Deserialize)]
struct Golden {
    name: String,
    template: String,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    messages: String,
    tools: bool,
    add_generation_prompt: bool,
    variables: Map<String, Value>,
    text: Option<String>,
    error: Option<String>,
}

/// What transformers makes of the same templates.
#[test]
fn texts_are_those_of_transformers() {
    let goldens = include_str!("../../../fixtures/goldens/chat-templates.json");
    let goldens: Goldens = serde_json::from_str(goldens).unwrap();
    assert_eq!(python::strftime(now(), "%Y-%m-%dT%H:%M:%S").unwrap(), goldens.now);
    let vocabulary = vocabulary(&tokenizer().to_string());
    let tokens = BTreeMap::from([("bos_token", goldens.bos_token), ("eos_token", goldens.eos_token)]);
    let mut wrong = Vec::new();
    for Golden { name, template, cases } in goldens.templates {
        let templates = templates(&template, tokens.clone());
        for case in cases {
            let chat = Chat {
                messages: goldens.messages[&case.messages].clone(),
                tools: case.tools.then(|| goldens.tools.clone()),
                documents: None,
                add_generation_prompt: case.add_generation_prompt,
                variables: case.variables,
            };
            let made = templates.render(&chat, now(), &vocabulary);
            let made = made.map(|prompt| prompt.text(&vocabulary)).map_err(|error| error.to_string());
            let same = match (&made, &case.text, &case.error) {
                (Ok(made), Some(wanted), _) => made == wanted,
                (Err(made), None, Some(wanted)) => made.ends_with(wanted.as_str()),
                _ => false,
            };
            if !same {
                wrong.push(format!(
                    "{name}, {}: {made:#?}\nwanted {:#?} {:?}",
                    case.messages, case.text, case.error
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn json_is_pythons() {
    let value: Value = serde_json::from_str(
        r#"{"b": [1, 2.5, 1e16, 123456789012345680.0, 1e-5, 0.0001, -0.0, 1e22, true, null], "a": {}, "c": [],
            "ü\"\\\n\u0007": "<&'>😀"}"#,
    )
    .unwrap();
    let chat = Chat { variables: Map::from_iter([("x".to_owned(), value)]), ..Chat::default() };
    let text = |template: &str| render(template, &chat).unwrap();
    // From json.dumps, with the same options.
    assert_eq!(
        text("{{ x | tojson }}"),
        r#"{"b": [1, 2.5, 1e+16, 1.2345678901234568e+17, 1e-05, 0.0001, -0.0, 1e+22, true, null], "a": {}, "c": [], "ü\"\\\n\u0007": "<&'>😀"}"#
    );
    assert_eq!(
        text("{{ x | tojson(ensure_ascii=true, sort_keys=true, separators=(',', ':')) }}"),
        r#"{"a":{},"b":[1,2.5,1e+16,1.2345678901234568e+17,1e-05,0.0001,-0.0,1e+22,true,null],"c":[],"\u00fc\"\\\n\u0007":"<&'>\ud83d\ude00"}"#
    );
    assert_eq!(
        text("{{ {'a': [1, {'b': 2}], 'c': []} | tojson(indent=2) }}"),
        "{\n  \"a\": [\n    1,\n    {\n      \"b\": 2\n    }\n  ],\n  \"c\": []\n}"
    );
    let wide = render("{{ x | tojson(indent=1000) }}", &chat).unwrap_err();
    assert!(wide.contains("tokenizer_config.json fails at line 1") && wide.contains("0 to 16"), "{wide}");
}

#[test]
fn the_clock_is_the_one_given() {
    let date = "{{ strftime_now('%d %b %Y') }}, {{ strftime_now(\"%A, %-d %B\") }}";
    assert_eq!(render(date, &Chat::default()).unwrap(), "02 Nov 2026, Monday, 2 November");
    let error = render("\n{{ strftime_now('%Q') }}", &Chat::default()).unwrap_err();
    assert!(error.contains("line 2") && error.contains("%Q"), "{error}");
}

#[test]
fn what_a_template_raises_is_the_requests_fault() {
    let template = "{% macro check(m) %}{{ raise_exception('Roles must alternate') }}{% endmacro %}\
                    {% for m in messages %}{{ check(m) }}{% endfor %}";
    let chat = Chat { messages: vec![Value::Null], ..Chat::default() };
    let error = render(template, &chat).unwrap_err();
    assert_eq!(error, "messages: the model's chat template refuses them: Roles must alternate");
}

#[test]
fn a_template_without_end_is_stopped() {
    let deep = "{% macro again(n) %}{{ again(n + 1) }}{% endmacro %}{{ again(0) }}";
    let long = "{% for a in range(9999) %}{% for b in range(9999) %}{{ a * b }}{% endfor %}{% endfor %}";
    let wide =
        "{% set ns = namespace(x='x') %}{% for a in range(99) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}";
    let nested =
        "{% set ns = namespace(x=[]) %}{% for a in range(90000) %}{% set ns.x = [ns.x] %}{% endfor %}";
    let json = "{% set ns = namespace(x=[]) %}{% for a in range(300) %}{% set ns.x = [ns.x] %}{% endfor %}\
                {{ ns.x | tojson }}";
    for template in [deep, long, wide, json] {
        let error = render(template, &Chat::default()).unwrap_err();
        assert!(error.starts_with("messages: the chat template in tokenizer_config.json fails at line 1"));
    }
    // It is put away again, which needs a stack as deep as it is.
    assert_eq!(render(nested, &Chat::default()).unwrap(), "");
}

#[test]
fn what_is_not_known_is_named_with_its_line() {
    for (template, wanted) in [
        ("a\n{{ messages.x.y }}", "fails at line 2: undefined value"),
        ("{{ messages | nonesuch }}", "line 1: unknown filter: filter nonesuch is unknown"),
    ] {
        let error = render(template, &Chat::default()).unwrap_err();
        assert!(error.contains(wanted), "{error}");
    }
}

#[test]
fn marks_for_training_are_passed_over() {
    let template = "a\n{% generation %}\nb\n{%- endgeneration -%}\n{% if true %}c{% endif %} {% raw";
    assert_eq!(
        without_generation(template),
        "a\n{% if true %}\nb\n{%- endif -%}\n{% if true %}c{% endif %} {% raw"
    );
}

fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (file, content) in files {
        std::fs::write(folder.path().join(file), content).unwrap();
    }
    folder
}

fn read(files: &[(&str, &str)], chat: &Chat) -> Option<String> {
    let vocabulary = vocabulary(&tokenizer().to_string());
    let templates = ChatTemplates::read(folder(files).path()).unwrap()?;
    Some(templates.render(chat, now(), &vocabulary).unwrap().text(&vocabulary))
}

#[test]
fn templates_are_found_where_models_have_them() {
    let chat = Chat::default();
    let config = r#"{"bos_token": {"content": "<s>"}, "chat_template": "{{ bos_token }} of config"}"#;
    let several = r#"{"chat_template": [{"name": "default", "template": "usual"},
        {"name": "tool_use", "template": "with tools"}]}"#;
    let wrapped = ("chat_template.json", r#"{"chat_template": "{{ eos_token }} of json"}"#);
    let map = ("special_tokens_map.json", r#"{"eos_token": "</s>"}"#);
    assert_eq!(read(&[], &chat), None);
    assert_eq!(read(&[("tokenizer_config.json", "{}")], &chat), None);
    assert_eq!(read(&[("tokenizer_config.json", config)], &chat).unwrap(), "<s> of config");
    assert_eq!(read(&[("tokenizer_config.json", config), wrapped, map], &chat).unwrap(), "</s> of json");
    let plain = ("chat_template.jinja", "{{ bos_token }}\n{%- if true %}\n  of jinja\n{%- endif %}\n");
    assert_eq!(read(&[("tokenizer_config.json", config), wrapped, plain], &chat).unwrap(), "<s>  of jinja");
    assert_eq!(read(&[("tokenizer_config.json", several)], &chat).unwrap(), "usual");
    let tools = Chat { tools: Some(Vec::new()), ..Chat::default() };
    assert_eq!(read(&[("tokenizer_config.json", several)], &tools).unwrap(), "with tools");
}

#[test]
fn a_template_that_cannot_be_read_is_named() {
    let large = format!(r#"{{"chat_template": "{}"}}"#, "x".repeat(LARGEST_TEMPLATE + 1));
    for (file, content, wanted) in [
        ("chat_template.jinja", "a\n{% if %}", "\"default\" that cannot be read: line 2"),
        ("tokenizer_config.json", r#"{"chat_template": 5}"#, "cannot be used"),
        ("tokenizer_config.json", r#"{"chat_template": [{"name": "rag", "template": ""}]}"#, "it has rag"),
        ("tokenizer_config.json", &large, "262145 bytes in the chat template"),
    ] {
        let error = ChatTemplates::read(folder(&[(file, content)]).path()).err().unwrap().to_string();
        assert!(error.contains(file) && error.contains(wanted), "{error}");
    }
}

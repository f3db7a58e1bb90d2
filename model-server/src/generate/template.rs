//! Chat templates: messages to the text that a model was trained on.
//!
//! A template is Jinja, from the model's own files, and is rendered as transformers renders it. It is given
//! no more than its messages and a clock, and a bound on its work: one that loops for ever or writes without
//! end fails for that one request.

mod python;

use std::{
    collections::BTreeMap,
    error::Error as StdError,
    path::{Path, PathBuf},
    thread,
    time::{Duration, SystemTime},
};

use minijinja::{AutoEscape, Environment, ErrorKind, Value as Jinja, syntax::SyntaxConfig};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{endings::Written, prompt::Prompt, text::Vocabulary};
use crate::{
    error::Error,
    repository::{json_if_there, problem, text},
};

/// Bytes of the largest template; the longest published ones have some 20,000.
const LARGEST_TEMPLATE: usize = 256 << 10;
/// What a rendering may do: a step costs 1, and so do 64 bytes of text. Allows some 60 MB, and takes well
/// under a second.
const FUEL: u64 = 1_000_000;
/// How deep macros and blocks may lie within each other.
const DEEPEST: usize = 100;
/// Bytes of the stack that a template is rendered on. A value that a template nests as deep as its fuel allows
/// is put away by as many calls within each other, which takes some 16 MB; what is not used is not taken.
const STACK: usize = 64 << 20;
/// Names of special tokens that templates may use.
const TOKENS: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// What a chat template is given.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Chat {
    /// The messages, oldest first: objects with `role`, `content` and what else the template reads. Roles
    /// have been checked to be of the known ones: templates make special tokens of them.
    pub(crate) messages: Vec<Value>,
    /// Descriptions of tools, where there are any.
    pub(crate) tools: Option<Vec<Value>>,
    /// Documents to answer from, where there are any.
    pub(crate) documents: Option<Vec<Value>>,
    /// Whether the text ends with the beginning of the model's answer.
    pub(crate) add_generation_prompt: bool,
    /// What the template reads beside these, such as `enable_thinking`.
    pub(crate) variables: Map<String, Value>,
}

/// The chat templates of a model.
pub(crate) struct ChatTemplates {
    /// Templates by name; the usual one is `default`.
    jinja: Environment<'static>,
    /// The file that they are in.
    path: PathBuf,
    /// Special tokens by their names in templates.
    tokens: BTreeMap<&'static str, String>,
}

/// One template, or several by name.
#[derive(Deserialize)]
#[serde(untagged)]
enum Sources {
    One(String),
    Several(Vec<Named>),
}

#[derive(Deserialize)]
struct Named {
    name: String,
    template: String,
}

#[derive(Default, Deserialize)]
struct TokenizerConfig {
    #[serde(default)]
    chat_template: Option<Sources>,
    #[serde(flatten)]
    rest: BTreeMap<String, Value>,
}

/// What a template says with `raise_exception`.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Raised(String);

impl ChatTemplates {
    /// Reads the templates of the model in `folder`: `chat_template.jinja`, else `chat_template.json`, else
    /// what `tokenizer_config.json` says; `None` where there is none.
    ///
    /// # Errors
    /// Names the file, and the line of the template that is wrong.
    pub(crate) fn read(folder: &Path) -> Result<Option<Self>, Error> {
        let config_path = folder.join("tokenizer_config.json");
        let config: TokenizerConfig = json_if_there(&config_path)?.unwrap_or_default();
        let map: BTreeMap<String, Value> =
            json_if_there(&folder.join("special_tokens_map.json"))?.unwrap_or_default();
        let token = |name: &'static str| {
            let found = config.rest.get(name).or_else(|| map.get(name)).cloned()?;
            let written: Written = serde_json::from_value(found).ok()?;
            Some((name, written.text().to_owned()))
        };
        let tokens = TOKENS.into_iter().filter_map(token).collect();
        let plain = folder.join("chat_template.jinja");
        let wrapped = folder.join("chat_template.json");
        let (path, sources) = if plain.exists() {
            let source = text(&plain)?;
            (plain, Some(Sources::One(source)))
        } else if let Some(found) = json_if_there::<TokenizerConfig>(&wrapped)? {
            (wrapped, found.chat_template)
        } else {
            (config_path, config.chat_template)
        };
        let sources = match sources {
            None => return Ok(None),
            Some(Sources::One(template)) => vec![Named { name: "default".into(), template }],
            Some(Sources::Several(several)) => several,
        };
        Self::of(path, sources, tokens).map(Some)
    }

    fn of(path: PathBuf, sources: Vec<Named>, tokens: BTreeMap<&'static str, String>) -> Result<Self, Error> {
        let mut jinja = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        jinja.set_syntax(syntax.map_err(|error| problem(&path, error.to_string()))?);
        jinja.set_auto_escape_callback(|_| AutoEscape::None);
        jinja.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        jinja.set_fuel(Some(FUEL));
        jinja.set_recursion_limit(DEEPEST);
        jinja.add_filter("tojson", python::tojson);
        jinja.add_function("raise_exception", |message: String| -> Result<Jinja, minijinja::Error> {
            let error = minijinja::Error::new(ErrorKind::InvalidOperation, message.clone());
            Err(error.with_source(Raised(message)))
        });
        for Named { name, template } in sources {
            if template.len() > LARGEST_TEMPLATE {
                let problem =
                    format!("bytes in the chat template {name:?}; at most {LARGEST_TEMPLATE} are read");
                return Err(self::problem(&path, format!("has {} {problem}", template.len())));
            }
            let unreadable = |error: minijinja::Error| {
                let line = error.line().unwrap_or(0);
                let what = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
                problem(
                    &path,
                    format!("has a chat template {name:?} that cannot be read: line {line}: {what}"),
                )
            };
            jinja.add_template_owned(name.clone(), without_generation(&template)).map_err(unreadable)?;
        }
        let named: Vec<&str> = jinja.templates().map(|(name, _)| name).collect();
        if !named.contains(&"default") {
            let problem = format!("has no chat template \"default\"; it has {}", named.join(", "));
            return Err(self::problem(&path, problem));
        }
        Ok(Self { jinja, path, tokens })
    }

    /// Renders a chat by the template `tool_use` where there are tools and there is one, else by `default`.
    /// `now` is what the template is told of the time, in UTC.
    ///
    /// # Errors
    /// What the template says against the messages, or where it failed: its file's name and line.
    pub(crate) fn render(
        &self,
        chat: &Chat,
        now: SystemTime,
        vocabulary: &Vocabulary,
    ) -> Result<Prompt, Error> {
        thread::scope(|scope| {
            let render = || self.prompt(chat, now, vocabulary);
            let rendered = thread::Builder::new().stack_size(STACK).spawn_scoped(scope, render);
            let rendered = rendered.map_err(|_| Error::Overloaded { retry_after: Duration::from_secs(1) })?;
            rendered.join().unwrap_or_else(|_| {
                Err(Error::invalid("messages", "the model's chat template cannot be rendered with them"))
            })
        })
    }

    fn prompt(&self, chat: &Chat, now: SystemTime, vocabulary: &Vocabulary) -> Result<Prompt, Error> {
        let guard = &vocabulary.guard;
        let mut texts = Vec::new();
        let lists = [Some(&chat.messages), chat.tools.as_ref(), chat.documents.as_ref()];
        lists.into_iter().flatten().flatten().for_each(|value| collect(value, &mut texts));
        chat.variables.values().for_each(|value| collect(value, &mut texts));
        let as_is = || self.text(chat, now, &str::to_owned);
        if !texts.iter().any(|text| guard.touches(text)) {
            return Ok(Prompt { marked: as_is()?, stand_in: None });
        }
        let first = guard.stand_in(texts.iter().copied()).ok_or_else(|| {
            Error::invalid("messages", "hold characters of every block of Unicode's private use")
        })?;
        let hidden = self.text(chat, now, &|text| guard.hide(text, first))?;
        let hidden = Prompt { marked: hidden, stand_in: Some(first) };
        let plain = as_is()?;
        // Some templates look for marks in what is written, as for the end of an answer's thoughts. Their text
        // is taken as it is where it has no special token beside those that the template writes anyway.
        let same = || vocabulary.special_in(&plain) == vocabulary.special_in(&hidden.marked);
        if hidden.text(vocabulary) != plain && !texts.iter().any(|text| guard.is_in(text)) && same() {
            return Ok(Prompt { marked: plain, stand_in: None });
        }
        Ok(hidden)
    }

    /// Renders a chat, whose texts `change` is let change.
    fn text(&self, chat: &Chat, now: SystemTime, change: &dyn Fn(&str) -> String) -> Result<String, Error> {
        let list = |values: &[Value]| values.iter().map(|value| jinja(value, change)).collect::<Jinja>();
        let optional = |values: &Option<Vec<Value>>| values.as_deref().map_or(Jinja::from(()), list);
        let tokens =
            self.tokens.iter().map(|(name, token)| ((*name).to_owned(), Jinja::from(token.as_str())));
        let variables = chat.variables.iter().map(|(name, value)| (name.clone(), jinja(value, change)));
        let own = [
            ("messages", list(&chat.messages)),
            ("tools", optional(&chat.tools)),
            ("documents", optional(&chat.documents)),
            ("add_generation_prompt", chat.add_generation_prompt.into()),
            ("strftime_now", Jinja::from_function(move |format: String| python::strftime(now, &format))),
        ];
        let own = own.into_iter().map(|(name, value)| (name.to_owned(), value));
        let context = Jinja::from_pairs(tokens.chain(variables).chain(own));
        let with_tools = chat.tools.is_some().then(|| self.jinja.get_template("tool_use").ok()).flatten();
        let template = with_tools.map_or_else(|| self.jinja.get_template("default"), Ok);
        template.and_then(|template| template.render(context)).map_err(|error| self.refusal(&error))
    }

    fn refusal(&self, error: &minijinja::Error) -> Error {
        let mut source: Option<&(dyn StdError + 'static)> = Some(error);
        while let Some(cause) = source {
            if let Some(Raised(message)) = cause.downcast_ref() {
                return Error::invalid(
                    "messages",
                    format!("the model's chat template refuses them: {message}"),
                );
            }
            source = cause.source();
        }
        let file = self.path.file_name().unwrap_or_default().to_string_lossy();
        let what =
            error.detail().map_or_else(|| error.kind().to_string(), |it| format!("{}: {it}", error.kind()));
        let line = error.line().unwrap_or(0);
        Error::invalid("messages", format!("the chat template in {file} fails at line {line}: {what}"))
    }
}

/// A template whose marks of an answer's part for training, which mean nothing here, are an `if` that always
/// holds.
fn without_generation(template: &str) -> String {
    let mut out = String::with_capacity(template.len());
    let mut rest = template;
    while let Some(start) = rest.find("{%") {
        let (before, tag) = rest.split_at(start);
        out.push_str(before);
        let end = tag.find("%}").unwrap_or(tag.len());
        let (tag, after) = tag.split_at(end);
        let word = tag[2..].trim_matches(|letter: char| letter.is_whitespace() || "+-".contains(letter));
        match word {
            "generation" => out.push_str(&tag.replace("generation", "if true")),
            "endgeneration" => out.push_str(&tag.replace("endgeneration", "endif")),
            _ => out.push_str(tag),
        }
        rest = after;
    }
    out.push_str(rest);
    out
}

/// All texts of a value, keys as well.
fn collect<'a>(value: &'a Value, texts: &mut Vec<&'a str>) {
    match value {
        Value::String(text) => texts.push(text),
        Value::Array(values) => values.iter().for_each(|value| collect(value, texts)),
        Value::Object(fields) => fields.iter().for_each(|(key, value)| {
            texts.push(key);
            collect(value, texts);
        }),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn jinja(value: &Value, change: &dyn Fn(&str) -> String) -> Jinja {
    match value {
        Value::Null => Jinja::from(()),
        Value::Bool(value) => Jinja::from(*value),
        Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => Jinja::from(number),
            (None, Some(number)) => Jinja::from(number),
            (None, None) => Jinja::from(number.as_f64().unwrap_or(f64::NAN)),
        },
        Value::String(text) => Jinja::from(change(text)),
        Value::Array(values) => values.iter().map(|value| jinja(value, change)).collect(),
        Value::Object(fields) => {
            Jinja::from_pairs(fields.iter().map(|(key, value)| (change(key), jinja(value, change))))
        }
    }
}

#[cfg(test)]
mod tests;

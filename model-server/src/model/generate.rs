//! Texts continued.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use serde_json::Value;
use switchboard_mesh::{Call, Deadline};
use tokio::time::Instant;

use super::{Model, Part};
use crate::{
    backend::BackendError,
    error::Error,
    generate::{
        Chat, ChatTemplates, Chunk, Chunks, Grammars, Queue, Rule, Sampling, Stops, Style, Vocabulary,
    },
    statistics::{Parts, Statistics},
};

/// Tokens that are written where a request does not say, as far as the context goes.
const USUAL_TOKENS: usize = 256;
/// Bytes of a prompt.
const MOST_PROMPT: usize = 1_000_000;
/// Messages of a prompt, and tools.
const MOST_MESSAGES: usize = 1024;
const MOST_TOOLS: usize = 128;
/// Who may speak in a prompt: templates make special tokens of it.
const ROLES: [&str; 4] = ["system", "user", "assistant", "tool"];

/// What models that write have.
pub(super) struct Language {
    pub(super) vocabulary: Arc<Vocabulary>,
    pub(super) templates: Option<ChatTemplates>,
    pub(super) endings: Arc<BTreeSet<u32>>,
    /// Made when the first request has a constraint: it takes a while, and memory.
    pub(super) grammars: Mutex<Option<Arc<Grammars>>>,
    pub(super) queue: Queue,
    pub(super) statistics: Arc<Statistics>,
}

/// What is to be continued.
#[derive(Clone, Debug)]
pub(crate) enum Prompt {
    /// Messages, with who says them, put together by the model's template.
    Messages { messages: Vec<(String, String)>, tools: Vec<String> },
    /// The text itself.
    Text(String),
}

/// How a text is to be continued.
#[derive(Clone, Debug)]
pub(crate) struct GenerateOptions {
    /// 0 takes what is usual.
    pub(crate) max_tokens: usize,
    pub(crate) sampling: Sampling,
    pub(crate) stop: Vec<String>,
    pub(crate) rule: Option<Rule>,
}

/// A text as it is written. Dropping it ends that.
pub(crate) struct Writing {
    language: Arc<Language>,
    chunks: Chunks,
    deadline: Deadline,
    pub(crate) prompt_tokens: usize,
    began: Instant,
    first: Option<Instant>,
    ended: bool,
}

impl Model {
    /// Begins to continue a prompt.
    ///
    /// # Errors
    /// `OtherTask`, `Invalid` with the field at fault, `TooLong` where prompt and tokens to write do not fit
    /// the context, `Overloaded`, `Deadline` or `Stopped`.
    pub(crate) async fn generate(
        &self,
        prompt: Prompt,
        options: GenerateOptions,
        call: &Call,
    ) -> Result<Writing, Error> {
        let (language, began) = (Arc::clone(self.language()?), Instant::now());
        // Taken first, and kept also while work goes on for a caller who has gone.
        let place = language.queue.admit(call)?;
        let preparing = Arc::clone(&language);
        // Templates, tokenizers and grammars may take a while each.
        let prepare = move || preparing.prepare(&prompt, options).map(|prepared| (place, prepared));
        let prepared = tokio::task::spawn_blocking(prepare).await;
        let prepared = prepared.unwrap_or_else(|error| Err(BackendError::Failed(error.to_string()).into()));
        let submitted = prepared.and_then(|(place, (ids, most, style))| {
            let (prompt_tokens, writer) = (ids.len(), style.writer(&language.vocabulary, &language.endings));
            Ok((prompt_tokens, language.queue.submit(place, ids, most, Box::new(writer), call)?))
        });
        match submitted {
            Ok((prompt_tokens, chunks)) => {
                let deadline = call.deadline;
                Ok(Writing { language, chunks, deadline, prompt_tokens, began, first: None, ended: false })
            }
            Err(error) => {
                language.statistics.failed(began.elapsed());
                Err(error)
            }
        }
    }

    fn language(&self) -> Result<&Arc<Language>, Error> {
        match &self.part {
            Part::Language(language) => Ok(language),
            _ => Err(self.other_task("generate")),
        }
    }
}

impl Language {
    /// The tokens of a prompt, how many may be written after them, and how.
    fn prepare(&self, prompt: &Prompt, options: GenerateOptions) -> Result<(Vec<u32>, usize, Style), Error> {
        let GenerateOptions { max_tokens, sampling, stop, rule } = options;
        sampling.check()?;
        let stops = Stops::try_new(stop)?;
        let (field, ids) = match prompt {
            Prompt::Messages { messages, tools } => ("messages", self.render(messages, tools)?),
            Prompt::Text(text) => {
                if !(1..=MOST_PROMPT).contains(&text.len()) {
                    let problem = format!("{} bytes; 1 to {MOST_PROMPT} are allowed", text.len());
                    return Err(Error::invalid("prompt", problem));
                }
                ("prompt", self.vocabulary.ids(text)?)
            }
        };
        if ids.is_empty() {
            return Err(Error::invalid(field, "comes to no tokens"));
        }
        let context = self.queue.shape().context;
        let left = context.saturating_sub(ids.len());
        let most = if max_tokens == 0 { USUAL_TOKENS.min(left) } else { max_tokens };
        if left == 0 {
            return Err(Error::TooLong { field: field.into(), tokens: ids.len(), most: context - 1 });
        }
        if most > left {
            let problem = format!(
                "{most}; behind the prompt's {} tokens, the context of {context} has room for {left}",
                ids.len()
            );
            return Err(Error::invalid("max_tokens", problem));
        }
        let constraint = match rule {
            Some(rule) => Some(self.grammars()?.begin(&rule)?),
            None => None,
        };
        Ok((ids, most, Style { sampling, stops, constraint }))
    }

    fn render(&self, messages: &[(String, String)], tools: &[String]) -> Result<Vec<u32>, Error> {
        let Some(templates) = &self.templates else {
            return Err(Error::invalid("messages", "the model has no chat template; send `prompt`"));
        };
        if !(1..=MOST_MESSAGES).contains(&messages.len()) {
            let problem = format!("{} messages; 1 to {MOST_MESSAGES} are allowed", messages.len());
            return Err(Error::invalid("messages", problem));
        }
        if tools.len() > MOST_TOOLS {
            return Err(Error::invalid(
                "tools",
                format!("{} tools; at most {MOST_TOOLS} are allowed", tools.len()),
            ));
        }
        let bytes: usize =
            messages.iter().map(|(_, content)| content.len()).chain(tools.iter().map(String::len)).sum();
        if bytes > MOST_PROMPT {
            return Err(Error::invalid(
                "messages",
                format!("{bytes} bytes; at most {MOST_PROMPT} are allowed"),
            ));
        }
        if let Some(at) = messages.iter().position(|(role, _)| !ROLES.contains(&role.as_str())) {
            let problem = format!("{:?}; {} are allowed", cut(&messages[at].0), ROLES.join(", "));
            return Err(Error::invalid(format!("messages[{at}].role"), problem));
        }
        let read = |(at, tool): (usize, &String)| match serde_json::from_str(tool) {
            Ok(Value::Object(tool)) => Ok(Value::Object(tool)),
            _ => Err(Error::invalid(format!("tools[{at}]"), "is no JSON object")),
        };
        let tools = tools.iter().enumerate().map(read).collect::<Result<Vec<_>, _>>()?;
        let message =
            |(role, content): &(String, String)| serde_json::json!({ "role": role, "content": content });
        let chat = Chat {
            messages: messages.iter().map(message).collect(),
            tools: (!tools.is_empty()).then_some(tools),
            add_generation_prompt: true,
            ..Chat::default()
        };
        templates.render(&chat, SystemTime::now(), &self.vocabulary)?.ids(&self.vocabulary)
    }

    fn grammars(&self) -> Result<Arc<Grammars>, Error> {
        let mut grammars = self.grammars.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(grammars) = &*grammars {
            return Ok(Arc::clone(grammars));
        }
        let made = Arc::new(Grammars::new(&self.vocabulary, &self.endings)?);
        *grammars = Some(Arc::clone(&made));
        Ok(made)
    }
}

fn cut(text: &str) -> String {
    text.chars().take(32).collect()
}

impl Writing {
    /// The next part; `None` after the last one.
    ///
    /// # Errors
    /// What ended it before it was done.
    pub(crate) async fn next(&mut self) -> Option<Result<Chunk, Error>> {
        if self.ended {
            return None;
        }
        let next = match self.deadline.limit(self.chunks.recv()).await {
            Some(Some(next)) => next,
            Some(None) => Err(Error::Stopped),
            None => Err(Error::Deadline),
        };
        let first = *self.first.get_or_insert_with(Instant::now);
        match &next {
            Ok(chunk) if chunk.ending.is_none() => {}
            Ok(_) => {
                self.ended = true;
                let (queue, infer) = (first.duration_since(self.began), first.elapsed());
                self.language.statistics.succeeded(1, Parts { queue, infer, ..Parts::default() });
            }
            Err(_) => {
                self.ended = true;
                self.language.statistics.failed(self.began.elapsed());
            }
        }
        Some(next)
    }

    /// What a token is written as by itself.
    pub(crate) fn token(&self, id: u32) -> String {
        String::from_utf8_lossy(self.language.vocabulary.bytes(id)).into_owned()
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        if !self.ended {
            self.language.statistics.cancelled(self.began.elapsed());
        }
    }
}

#[cfg(test)]
mod tests;

//! What stands in the registry: keys and values.
//!
//! `/switchboard/v1/<cluster>/nodes/<role>/<instance>` holds what the resolver of etcd's Go client
//! expects, so that gRPC clients in Go resolve `etcd:///switchboard/v1/<cluster>/nodes/<role>/` without
//! anything of ours: `{"Op":0,"Addr":"host:port","Metadata":{..}}`, where the metadata are an [`About`].
//!
//! Whoever may write there may write anything. What is not of this form, or would cost too much, is left
//! out, for a [`Skip`].

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{About, Member, config::split};

/// The largest value that is read, in bytes.
pub(super) const LARGEST_VALUE: usize = 64 << 10;

/// The longest name of a model.
const LONGEST_NAME: usize = 256;

/// Why an entry is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Skip {
    /// A key of another form.
    Key,
    /// A value that is no JSON of the form, or says what cannot be.
    Value,
    /// A value that is too large.
    Size,
    /// An address that cannot be called.
    Address,
    /// The node has left in good order.
    Left,
    /// An operation that is not known.
    Operation,
    /// One more node, role or byte than are kept.
    TooMany,
}

impl Skip {
    pub(super) const ALL: [Self; 7] =
        [Self::Key, Self::Value, Self::Size, Self::Address, Self::Left, Self::Operation, Self::TooMany];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Value => "value",
            Self::Size => "size",
            Self::Address => "address",
            Self::Left => "left",
            Self::Operation => "operation",
            Self::TooMany => "too_many",
        }
    }
}

/// The operations of etcd's Go client.
const ADD: i64 = 0;
const DELETE: i64 = 1;

/// The value of an entry, with the names of etcd's Go client.
#[derive(Deserialize, Serialize)]
struct Value<M> {
    #[serde(rename = "Op", default)]
    operation: i64,
    #[serde(rename = "Addr")]
    address: String,
    #[serde(rename = "Metadata")]
    metadata: Option<M>,
}

/// The keys of one cluster.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    prefix: String,
}

impl Layout {
    pub(super) fn new(cluster: &str) -> Self {
        Self { prefix: format!("/switchboard/v1/{cluster}/nodes/") }
    }

    /// The first key and the one after the last.
    pub(super) fn range(&self) -> (Vec<u8>, Vec<u8>) {
        (self.prefix.clone().into_bytes(), after(&self.prefix))
    }

    /// The key after the last one of `role`.
    pub(super) fn role_end(&self, role: &str) -> Vec<u8> {
        after(&format!("{}{role}/", self.prefix))
    }

    /// What a key of this cluster has after what all of them have.
    pub(super) fn inside<'a>(&self, key: &'a [u8]) -> &'a [u8] {
        key.strip_prefix(self.prefix.as_bytes()).unwrap_or(key)
    }

    pub(super) fn key(&self, role: &str, id: &str) -> Vec<u8> {
        format!("{}{role}/{id}", self.prefix).into_bytes()
    }

    /// The role and the id that a key names.
    pub(super) fn parse<'a>(&self, key: &'a [u8]) -> Result<(&'a str, &'a str), Skip> {
        let key = std::str::from_utf8(key).ok().and_then(|key| key.strip_prefix(self.prefix.as_str()));
        let (role, id) = key.and_then(|key| key.split_once('/')).ok_or(Skip::Key)?;
        if is_role(role) && is_id(id) { Ok((role, id)) } else { Err(Skip::Key) }
    }
}

/// The key after all that begin with `prefix`, which ends with `/`: `0` comes after `/`.
fn after(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    end
}

/// Whether all keys of `role` come before one that is `inside` its cluster.
pub(super) fn is_whole(role: &str, inside: &[u8]) -> bool {
    after(&format!("{role}/")).as_slice() <= inside
}

pub(super) fn is_role(role: &str) -> bool {
    let named = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_');
    (1..=64).contains(&role.len()) && role.chars().all(named)
}

pub(super) fn is_id(id: &str) -> bool {
    let named = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':' | '[' | ']');
    (1..=128).contains(&id.len()) && id.chars().all(named)
}

/// The value for a node. What would be too large is told in less detail: without profiles, then without
/// models.
pub(super) fn value(address: &str, about: &About) -> Vec<u8> {
    let mut about = about.clone();
    for model in about.models.values_mut() {
        // JSON has no other numbers.
        model.profile.retain(|(_, _, seconds)| is_time(*seconds));
        if !is_time(model.backlog) {
            model.backlog = 0.0;
        }
    }
    let write = |about: &About| {
        let value = Value { operation: ADD, address: address.to_owned(), metadata: Some(about) };
        serde_json::to_vec(&value).unwrap_or_default()
    };
    let fits = |value: &Vec<u8>| value.len() <= LARGEST_VALUE;
    let whole = write(&about);
    if fits(&whole) {
        return whole;
    }
    about.models.values_mut().for_each(|model| model.profile.clear());
    let plain = write(&about);
    if fits(&plain) {
        tracing::warn!(bytes = whole.len(), "the profiles of this node's models are too large to be told");
        return plain;
    }
    tracing::warn!(bytes = plain.len(), "this node has more models than can be told");
    about.models.clear();
    write(&about)
}

/// The value with which a node says that it leaves, before its entry goes: an entry that goes without it may
/// be one whose node cannot reach the registry.
pub(super) fn farewell(address: &str) -> Vec<u8> {
    let value = Value::<()> { operation: DELETE, address: address.to_owned(), metadata: None };
    serde_json::to_vec(&value).unwrap_or_default()
}

/// The member that a value tells of.
///
/// # Errors
/// [`Skip::Left`] where it says that the node leaves; else why it cannot be used.
pub(super) fn member(id: &str, value: &[u8]) -> Result<Member, Skip> {
    if value.len() > LARGEST_VALUE {
        return Err(Skip::Size);
    }
    let value: Value<About> = serde_json::from_slice(value).map_err(|_| Skip::Value)?;
    match value.operation {
        ADD => {}
        DELETE => return Err(Skip::Left),
        _ => return Err(Skip::Operation),
    }
    told(id, &value.address, value.metadata.unwrap_or_default())
}

/// A member of what was told of it.
pub(super) fn told(id: &str, address: &str, about: About) -> Result<Member, Skip> {
    let uri = match split(address) {
        Some((_, port)) if port != 0 => format!("http://{address}").parse().map_err(|_| Skip::Address)?,
        _ => return Err(Skip::Address),
    };
    if !is_sane(&about) {
        return Err(Skip::Value);
    }
    Ok(Member { id: id.to_owned(), uri, about })
}

fn is_sane(about: &About) -> bool {
    let short = |text: &str| text.len() <= 64 && text.chars().all(|c| c.is_ascii_graphic());
    let named = |name: &String| name.len() <= LONGEST_NAME && !name.chars().any(char::is_control);
    short(&about.zone)
        && short(&about.version)
        && about.models.keys().all(named)
        && about.models.values().all(|model| {
            is_time(model.backlog) && model.profile.iter().all(|(_, _, seconds)| is_time(*seconds))
        })
}

/// Whether a number can be a time: at most a day.
fn is_time(seconds: f64) -> bool {
    (0.0..=86_400.0).contains(&seconds)
}

impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::discovery::AboutModel;

    fn about(profile: usize) -> About {
        let model = AboutModel {
            task: "embed".into(),
            profile: vec![(1, 128, 0.25); profile],
            backlog: f64::NAN,
            ..AboutModel::default()
        };
        let models = BTreeMap::from([("minilm".to_owned(), model)]);
        About { zone: "a".into(), version: "0.1.0".into(), started_at: 7, models }
    }

    #[test]
    fn the_value_is_the_one_of_the_go_resolver() {
        let value = value("10.0.0.7:7070", &About::default());
        let text = String::from_utf8(value).unwrap();
        assert!(text.starts_with(r#"{"Op":0,"Addr":"10.0.0.7:7070","Metadata":{"#), "{text}");
        let foreign = member("x", br#"{"Op":0,"Addr":"10.0.0.7:7070","Metadata":null}"#).unwrap();
        assert_eq!(
            (foreign.uri.to_string(), foreign.about),
            ("http://10.0.0.7:7070/".into(), About::default())
        );
    }

    #[test]
    fn a_node_reads_as_it_was_written() {
        let member = member("x", &value("node:1", &about(3))).unwrap();
        let model = &member.about.models["minilm"];
        assert_eq!((model.profile.len(), model.backlog, &*member.about.zone), (3, 0.0, "a"));
    }

    #[test]
    fn what_is_too_large_is_told_in_less_detail() {
        let told = member("x", &value("node:1", &about(10_000))).unwrap();
        assert!(told.about.models["minilm"].profile.is_empty());
        let mut many = about(0);
        for number in 0..5_000 {
            many.models.insert(format!("model-{number}"), AboutModel::default());
        }
        assert!(member("x", &value("node:1", &many)).unwrap().about.models.is_empty());
    }

    #[test]
    fn keys_name_a_role_and_a_node_and_stay_inside_their_cluster() {
        let layout = Layout::new("default");
        let key = layout.key("inference", "a-1");
        assert_eq!(key, b"/switchboard/v1/default/nodes/inference/a-1");
        assert_eq!(layout.parse(&key), Ok(("inference", "a-1")));
        let (first, end) = layout.range();
        assert!(first < key && key < end && key < layout.role_end("inference"));
        let begins = layout.key("inference", "");
        for other in [layout.key("inference-2", "a"), layout.key("inference2", "a"), layout.key("i", "a")] {
            assert!(other < begins || other >= layout.role_end("inference"));
        }
        for other in ["default2", "default-2", "d"].map(|cluster| Layout::new(cluster).key("inference", "a"))
        {
            assert!(other < first || other >= end);
        }
        for lying in
            ["inference/a/b", "inference/", "/a", "Inference/a", "inference", "inference/a b", "../x/y"]
        {
            let key = format!("/switchboard/v1/default/nodes/{lying}");
            assert_eq!(layout.parse(key.as_bytes()), Err(Skip::Key), "{lying}");
        }
        assert_eq!(layout.parse(b"/switchboard/v1/other/nodes/inference/a"), Err(Skip::Key));
        assert_eq!(layout.parse(b"\xff\xfe"), Err(Skip::Key));
    }

    #[test]
    fn what_is_not_of_the_form_is_left_out_for_a_reason() {
        let huge =
            format!(r#"{{"Op":0,"Addr":"a:1","Metadata":{{"zone":"{}"}}}}"#, "z".repeat(LARGEST_VALUE));
        for (value, skip) in [
            ("", Skip::Value),
            ("[]", Skip::Value),
            (r#"{"Op":0}"#, Skip::Value),
            (r#"{"Op":0,"Addr":7}"#, Skip::Value),
            (r#"{"Op":0,"Addr":"a:1","Metadata":"text"}"#, Skip::Value),
            (r#"{"Op":0,"Addr":"a:1","Metadata":{"zone":"a b"}}"#, Skip::Value),
            (r#"{"Op":0,"Addr":"a:1","Metadata":{"models":{"m":{"backlog":-1}}}}"#, Skip::Value),
            (r#"{"Op":1,"Addr":"a:1"}"#, Skip::Left),
            (std::str::from_utf8(&farewell("a:1")).unwrap(), Skip::Left),
            (r#"{"Op":2,"Addr":"a:1"}"#, Skip::Operation),
            (r#"{"Op":0,"Addr":"a"}"#, Skip::Address),
            (r#"{"Op":0,"Addr":"a:0"}"#, Skip::Address),
            (r#"{"Op":0,"Addr":"a:70000"}"#, Skip::Address),
            (r#"{"Op":0,"Addr":":1"}"#, Skip::Address),
            (r#"{"Op":0,"Addr":"0.0.0.0:1"}"#, Skip::Address),
            (r#"{"Op":0,"Addr":"[::]:1"}"#, Skip::Address),
            (r#"{"Op":0,"Addr":"u@a:1"}"#, Skip::Address),
            (r#"{"Op":0,"Addr":"a/b:1"}"#, Skip::Address),
            (&huge, Skip::Size),
        ] {
            assert_eq!(member("x", value.as_bytes()), Err(skip), "{}", &value[..value.len().min(80)]);
        }
    }

    proptest! {
        #[test]
        fn no_value_and_no_key_harms(value in prop::collection::vec(any::<u8>(), 0..300), key: Vec<u8>) {
            let _ = member("x", &value);
            let _ = Layout::new("default").parse(&key);
        }

        #[test]
        fn no_address_harms(address in "\\PC{0,40}") {
            if let Ok(member) = told("x", &address, About::default()) {
                prop_assert!(member.uri.host().is_some_and(|host| !host.is_empty()));
                prop_assert!(member.uri.port_u16().is_some_and(|port| port > 0));
            }
        }
    }
}

//! Texts out of the tensors of a request.

use std::collections::HashMap;

use switchboard_proto::open_inference::{
    DataType, InferParameter, InferTensorContents, model_infer_request::InferInputTensor,
};

use crate::{bounds, doors::shown, error::Error};

/// Type of a tensor's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Datatype {
    Bytes,
    Fp32,
    Fp16,
}

impl Datatype {
    /// The name in requests and metadata.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Bytes => "BYTES",
            Self::Fp32 => "FP32",
            Self::Fp16 => "FP16",
        }
    }

    /// The name in a configuration.
    pub(super) fn in_config(self) -> DataType {
        match self {
            Self::Bytes => DataType::TypeString,
            Self::Fp32 => DataType::TypeFp32,
            Self::Fp16 => DataType::TypeFp16,
        }
    }
}

/// A tensor that a model takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Input {
    pub(super) name: &'static str,
    /// Most texts in it; 1 makes it a single text.
    pub(super) texts: usize,
    /// Most characters of a text.
    pub(super) characters: usize,
    pub(super) optional: bool,
}

impl Input {
    /// Its shape; -1 is any length.
    pub(super) fn shape(&self) -> Vec<i64> {
        vec![if self.texts == 1 { 1 } else { -1 }]
    }
}

/// Reads the `known` inputs of a request, each once, in their order; `None` is one that may be left out
/// and was.
///
/// # Errors
/// `Invalid`, naming the input or the element at fault.
pub(super) fn read(
    inputs: Vec<InferInputTensor>,
    raw: Vec<Vec<u8>>,
    known: &[Input],
) -> Result<Vec<Option<Vec<String>>>, Error> {
    let many = inputs.len();
    if !raw.is_empty() && raw.len() != many {
        let problem =
            format!("{} entries for {many} inputs; as many as inputs or none are allowed", raw.len());
        return Err(Error::invalid("raw_input_contents", problem));
    }
    let mut texts = vec![None; known.len()];
    let mut raw = raw.into_iter().enumerate();
    for tensor in inputs {
        let raw = raw.next();
        let field = format!("inputs[{}]", shown(&tensor.name));
        let Some(place) = known.iter().position(|input| input.name == tensor.name) else {
            let names: Vec<_> = known.iter().map(|input| input.name).collect();
            return Err(Error::invalid(
                field,
                format!("no such input; the model takes {}", names.join(", ")),
            ));
        };
        if texts[place].is_some() {
            return Err(Error::invalid(field, "given twice"));
        }
        check_parameters(&tensor, &field)?;
        texts[place] = Some(read_one(tensor, raw, &known[place], &field)?);
    }
    let missing = known.iter().zip(&texts).find(|(input, texts)| !input.optional && texts.is_none());
    if let Some((input, _)) = missing {
        return Err(Error::invalid(format!("inputs[{}]", input.name), "missing"));
    }
    Ok(texts)
}

fn check_parameters(tensor: &InferInputTensor, field: &str) -> Result<(), Error> {
    if !shares_memory(&tensor.parameters) {
        return Ok(());
    }
    let problem = "this node shares no memory with its callers; send the contents";
    Err(Error::invalid(format!("{field}.parameters[shared_memory_region]"), problem))
}

/// Whether a tensor is said to be in shared memory.
pub(super) fn shares_memory(parameters: &HashMap<String, InferParameter>) -> bool {
    parameters.keys().any(|key| key.starts_with("shared_memory_"))
}

fn read_one(
    tensor: InferInputTensor,
    raw: Option<(usize, Vec<u8>)>,
    input: &Input,
    field: &str,
) -> Result<Vec<String>, Error> {
    if tensor.datatype != Datatype::Bytes.name() {
        // What the caller wrote is not repeated: it may be of any length.
        return Err(Error::invalid(field, "the datatype must be BYTES"));
    }
    let count = count(&tensor.shape).map_err(|problem| Error::invalid(format!("{field}.shape"), problem))?;
    if !(1..=input.texts).contains(&count) {
        let allowed = if input.texts == 1 { "1 is".into() } else { format!("1 to {} are", input.texts) };
        return Err(Error::invalid(field, format!("{count} elements; {allowed} allowed")));
    }
    let contents = tensor.contents.unwrap_or_default();
    let elements = match raw {
        Some((index, raw)) => {
            if holds_anything(&contents) {
                let problem = "the elements are in raw_input_contents as well; one of both is allowed";
                return Err(Error::invalid(format!("{field}.contents"), problem));
            }
            split(&raw, count)
                .map_err(|problem| Error::invalid(format!("raw_input_contents[{index}]"), problem))?
        }
        None => {
            typed(contents, count).map_err(|problem| Error::invalid(format!("{field}.contents"), problem))?
        }
    };
    let mut texts = Vec::with_capacity(count);
    for (index, element) in elements.into_iter().enumerate() {
        let field = || format!("{field}[{index}]");
        let text = String::from_utf8(element).map_err(|error| {
            let valid = error.utf8_error().valid_up_to();
            Error::invalid(field(), format!("not UTF-8 after {valid} bytes"))
        })?;
        // The name is only made where it is needed.
        if text.is_empty() || text.len() > input.characters {
            bounds::one(&field(), &text, input.characters)?;
        }
        texts.push(text);
    }
    Ok(texts)
}

/// Elements of a column of texts: `[n]` or `[n, 1]`.
fn count(shape: &[i64]) -> Result<usize, String> {
    match *shape {
        [count] | [count, 1] => {
            usize::try_from(count).map_err(|_| format!("{count} elements; a length is not negative"))
        }
        [_, second] => Err(format!("the second dimension is {second}; [n] and [n, 1] are allowed")),
        _ => Err(format!("{} dimensions; [n] and [n, 1] are allowed", shape.len())),
    }
}

fn holds_anything(contents: &InferTensorContents) -> bool {
    !contents.bytes_contents.is_empty() || holds_numbers(contents)
}

fn holds_numbers(contents: &InferTensorContents) -> bool {
    let InferTensorContents {
        bool_contents,
        int_contents,
        int64_contents,
        uint_contents,
        uint64_contents,
        fp32_contents,
        fp64_contents,
        bytes_contents: _,
    } = contents;
    !(bool_contents.is_empty()
        && int_contents.is_empty()
        && int64_contents.is_empty()
        && uint_contents.is_empty()
        && uint64_contents.is_empty()
        && fp32_contents.is_empty()
        && fp64_contents.is_empty())
}

fn typed(contents: InferTensorContents, count: usize) -> Result<Vec<Vec<u8>>, String> {
    if holds_numbers(&contents) {
        return Err("elements of BYTES are in bytes_contents".into());
    }
    match contents.bytes_contents {
        elements if elements.len() == count => Ok(elements),
        elements => Err(format!("{} elements; the shape says {count}", elements.len())),
    }
}

/// Splits raw contents into their elements: a length in four little-endian bytes before each.
fn split(raw: &[u8], count: usize) -> Result<Vec<Vec<u8>>, String> {
    let mut elements = Vec::with_capacity(count);
    let mut rest = raw;
    for index in 0..count {
        let (length, after) = rest
            .split_first_chunk::<4>()
            .ok_or_else(|| format!("cut off in the length of element {index} of {count}"))?;
        // A length that does not fit into `usize` does not fit into what is left either.
        let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
        let (element, after) = after.split_at_checked(length).ok_or_else(|| {
            format!(
                "element {index} of {count} has {length} bytes by its length and {} are left",
                after.len()
            )
        })?;
        elements.push(element.to_vec());
        rest = after;
    }
    if rest.is_empty() {
        Ok(elements)
    } else {
        Err(format!("{} bytes are left after the {count} elements of the shape", rest.len()))
    }
}

/// Raw contents of texts: each after its length in four little-endian bytes.
pub(super) fn join<'a>(texts: impl Iterator<Item = &'a str>) -> Vec<u8> {
    let mut raw = Vec::new();
    for text in texts {
        // No text of ours is near 4 GiB.
        raw.extend(u32::try_from(text.len()).unwrap_or(u32::MAX).to_le_bytes());
        raw.extend(text.as_bytes());
    }
    raw
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use switchboard_proto::open_inference::InferParameter;

    use super::*;

    const TEXT: Input = Input { name: "text", texts: 1024, characters: 32_000, optional: false };
    const QUERY: Input = Input { name: "query", texts: 1, characters: 8, optional: false };
    const SECOND: Input = Input { name: "second_text", optional: true, ..TEXT };

    fn tensor(name: &str, shape: &[i64], contents: Option<&[&[u8]]>) -> InferInputTensor {
        InferInputTensor {
            name: name.into(),
            datatype: "BYTES".into(),
            shape: shape.to_vec(),
            contents: contents.map(|elements| InferTensorContents {
                bytes_contents: elements.iter().map(|element| element.to_vec()).collect(),
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    fn refusal(inputs: Vec<InferInputTensor>, raw: Vec<Vec<u8>>, known: &[Input]) -> String {
        read(inputs, raw, known).unwrap_err().to_string()
    }

    #[test]
    fn typed_and_raw_contents_read_alike() {
        let wanted = vec![Some(vec!["shoes".to_owned(), "ü".to_owned()])];
        let typed: &[&[u8]] = &[b"shoes", "ü".as_bytes()];
        for shape in [&[2][..], &[2, 1]] {
            let texts = read(vec![tensor("text", shape, Some(typed))], vec![], &[TEXT]);
            assert_eq!(texts.unwrap(), wanted);
            let raw = join(["shoes", "ü"].into_iter());
            assert_eq!(read(vec![tensor("text", shape, None)], vec![raw], &[TEXT]).unwrap(), wanted);
        }
    }

    #[test]
    fn inputs_come_in_any_order_and_some_may_be_left_out() {
        let known = [QUERY, TEXT, SECOND];
        let inputs = vec![tensor("text", &[1], None), tensor("query", &[1, 1], None)];
        let raw = vec![join(["a"].into_iter()), join(["b"].into_iter())];
        let texts = read(inputs, raw, &known).unwrap();
        assert_eq!(texts, [Some(vec!["b".to_owned()]), Some(vec!["a".to_owned()]), None]);
    }

    #[test]
    fn what_is_wrong_with_an_input_is_named() {
        let text = |shape: &[i64], elements: &[&[u8]]| vec![tensor("text", shape, Some(elements))];
        for (inputs, wanted) in [
            (vec![], "inputs[text]: missing"),
            (vec![tensor("txt", &[1], None)], "inputs[txt]: no such input; the model takes text"),
            ([text(&[1], &[b"a"]), text(&[1], &[b"a"])].concat(), "given twice"),
            (text(&[], &[]), "inputs[text].shape: 0 dimensions"),
            (text(&[1, 1, 1], &[b"a"]), "3 dimensions"),
            (text(&[1, 2], &[b"a", b"b"]), "the second dimension is 2"),
            (text(&[-1], &[b"a"]), "not negative"),
            (text(&[0], &[]), "0 elements; 1 to 1024"),
            (text(&[i64::MAX], &[b"a"]), "elements; 1 to 1024"),
            (text(&[i64::MAX, i64::MAX], &[b"a"]), "the second dimension"),
            (text(&[2], &[b"a"]), "inputs[text].contents: 1 elements; the shape says 2"),
            (text(&[1], &[b"a", b"b"]), "2 elements; the shape says 1"),
            (text(&[2], &[b"a", b"b\xff"]), "inputs[text][1]: not UTF-8 after 1 bytes"),
            (text(&[1], &[b""]), "inputs[text][0]: 0 characters; 1 to 32000"),
        ] {
            let problem = refusal(inputs, vec![], &[TEXT]);
            assert!(problem.contains(wanted), "{problem:?} lacks {wanted:?}");
        }
        let queries = vec![tensor("query", &[2], Some(&[b"a", b"b"]))];
        assert!(refusal(queries, vec![], &[QUERY]).contains("2 elements; 1 is allowed"));
        let long = vec![tensor("query", &[1], Some(&["ü".repeat(9).as_bytes()]))];
        assert!(refusal(long, vec![], &[QUERY]).contains("9 characters; 1 to 8"));
    }

    #[test]
    fn other_types_and_shared_memory_are_refused() {
        let mut floats = tensor("text", &[1], None);
        floats.datatype = "FP32".into();
        assert!(refusal(vec![floats], vec![], &[TEXT]).contains("must be BYTES"));
        let mut numbers = tensor("text", &[1], Some(&[b"a"]));
        numbers.contents.as_mut().unwrap().int64_contents.push(1);
        assert!(refusal(vec![numbers], vec![], &[TEXT]).contains("bytes_contents"));
        let mut shared = tensor("text", &[1], None);
        shared.parameters.insert("shared_memory_region".into(), InferParameter::default());
        assert!(refusal(vec![shared], vec![], &[TEXT]).contains("shared_memory_region"));
    }

    #[test]
    fn raw_contents_of_the_wrong_size_are_refused() {
        let raw = join(["a", "bc"].into_iter());
        for (raw, wanted) in [
            (raw[..raw.len() - 1].to_vec(), "element 1 of 2 has 2 bytes by its length and 1 are left"),
            (raw[..7].to_vec(), "cut off in the length of element 1"),
            (vec![], "cut off in the length of element 0"),
            ([&raw[..], b"!"].concat(), "1 bytes are left after the 2 elements"),
            (u32::MAX.to_le_bytes().to_vec(), "4294967295 bytes by its length"),
        ] {
            let problem = refusal(vec![tensor("text", &[2], None)], vec![raw], &[TEXT]);
            assert!(problem.contains(wanted), "{problem:?} lacks {wanted:?}");
            assert!(problem.contains("raw_input_contents[0]"), "{problem}");
        }
    }

    #[test]
    fn typed_and_raw_contents_do_not_mix() {
        let raw = join(["a"].into_iter());
        let typed = tensor("text", &[1], Some(&[b"a"]));
        assert!(refusal(vec![typed], vec![raw.clone()], &[TEXT]).contains("one of both"));
        let two = vec![tensor("text", &[1], None), tensor("second_text", &[1], Some(&[b"a"]))];
        let problem = refusal(two, vec![raw], &[TEXT, SECOND]);
        assert!(problem.contains("1 entries for 2 inputs"), "{problem}");
    }

    proptest! {
        #[test]
        fn joined_texts_split_into_the_same(texts in prop::collection::vec("\\PC{0,40}", 0..20)) {
            let raw = join(texts.iter().map(String::as_str));
            let parts = split(&raw, texts.len()).unwrap();
            prop_assert_eq!(parts, texts.into_iter().map(String::into_bytes).collect::<Vec<_>>());
        }

        #[test]
        fn any_bytes_split_whole_or_not_at_all(raw in prop::collection::vec(any::<u8>(), 0..64), count in 0usize..8) {
            if let Ok(parts) = split(&raw, count) {
                prop_assert_eq!(parts.len(), count);
                prop_assert_eq!(parts.iter().map(|part| part.len() + 4).sum::<usize>(), raw.len());
            }
        }

        #[test]
        fn any_shape_is_counted_or_refused(shape in prop::collection::vec(any::<i64>(), 0..4)) {
            if let Ok(count) = count(&shape) {
                prop_assert_eq!(i64::try_from(count).unwrap(), shape[0]);
            }
        }
    }
}

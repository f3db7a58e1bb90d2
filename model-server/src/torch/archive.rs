//! What a TorchScript file holds, found out without loading it.
//!
//! It is a zip archive with a folder in it: `data.pkl` makes the module and names its class, `data/` has the
//! tensors one by one, `code/` the classes as text that resembles Python. The text says what `forward` takes,
//! so that inputs are found by name.

use std::{
    fs::File,
    io::{BufReader, Read as _},
    path::Path,
};

use switchboard_onnx::{
    ElementType,
    inspect::{Inspection, Value},
};
use zip::{CompressionMethod, ZipArchive, read::ZipFile};

use crate::{error::Error, repository::problem};

/// Bytes of a file.
const LARGEST: u64 = 64 << 30;
/// Members of an archive: a tensor each, and some.
const MOST_MEMBERS: usize = 100_000;
/// Bytes of all that is compressed, which is code: what is unpacked must not be larger than a file without end.
const LARGEST_CODE: u64 = 64 << 20;
/// Bytes of `data.pkl`, of which a tensor takes some 100.
const LARGEST_PICKLE: u64 = 64 << 20;
/// Parameters of `forward`.
const MOST_PARAMETERS: usize = 64;
/// Bytes of a type's or parameter's name.
const LONGEST_NAME: usize = 256;

/// A parameter of a module's `forward`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Parameter {
    pub(super) name: String,
    /// As in `Optional[Tensor]`.
    pub(super) kind: String,
    /// Whether it may be left out.
    pub(super) optional: bool,
}

/// What a file holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Contents {
    /// What `forward` takes, in order.
    pub(super) parameters: Vec<Parameter>,
    /// Bytes of the tensors.
    bytes: u64,
    /// What the floats among them are, where they are all the same.
    floats: Option<ElementType>,
}

/// Says what a file takes and holds.
///
/// # Errors
/// Names the file and what is wrong with it.
pub(crate) fn inspect(path: &Path) -> Result<Inspection, Error> {
    let contents = read(path)?;
    // Nothing is said of shapes, and what it gives has no names. What is given to it is always this.
    let value = |name: String| Value { name, element: Some(ElementType::Int64), dims: None };
    let mut inspection = Inspection::default();
    inspection.inputs = contents.parameters.into_iter().map(|parameter| value(parameter.name)).collect();
    inspection.weight_bytes = contents.bytes;
    inspection.weights = contents.floats.map(|element| (element, contents.bytes)).into_iter().collect();
    Ok(inspection)
}

/// Reads a file's table of contents, and the parts that say what it is.
///
/// # Errors
/// Names the file and what is wrong with it.
pub(super) fn read(path: &Path) -> Result<Contents, Error> {
    contents(path).map_err(|what| problem(path, format!("cannot be used as TorchScript: {what}")))
}

fn contents(path: &Path) -> Result<Contents, String> {
    let unreadable = |error: &dyn std::fmt::Display| format!("it cannot be read: {error}");
    let file = File::open(path).map_err(|error| unreadable(&error))?;
    let size = file.metadata().map_err(|error| unreadable(&error))?.len();
    if size > LARGEST {
        return Err(format!("it has {size} bytes; at most {LARGEST} are read"));
    }
    let mut archive = ZipArchive::new(BufReader::new(file))
        .map_err(|error| format!("it is cut, or not what `torch.jit.save` writes: {error}"))?;
    if archive.len() > MOST_MEMBERS {
        return Err(format!("it has {} members; at most {MOST_MEMBERS} are read", archive.len()));
    }
    let (mut stored, mut unpacked, mut bytes, mut root) = (0_u64, 0_u64, 0_u64, String::new());
    for index in 0..archive.len() {
        let member = archive.by_index_raw(index).map_err(|error| unreadable(&error))?;
        let (folder, name) = member.name().split_once('/').unwrap_or(("", member.name()));
        if index == 0 {
            root = folder.to_owned();
        }
        if name.starts_with("data/") || name.starts_with("constants/") {
            bytes = bytes.saturating_add(member.size());
        }
        if member.compression() == CompressionMethod::Stored {
            stored = stored.saturating_add(member.size());
        } else {
            unpacked = unpacked.saturating_add(member.size());
        }
    }
    // Members that lie on each other would make of a small file as much as they like.
    if stored > size {
        return Err(format!("its members have {stored} bytes, and it has {size}"));
    }
    if unpacked > LARGEST_CODE {
        return Err(format!("its code has {unpacked} bytes; at most {LARGEST_CODE} are unpacked"));
    }
    let pickle = member(&mut archive, &format!("{root}/data.pkl"), LARGEST_PICKLE)?;
    let (module, class) = class(&pickle).ok_or("its data.pkl makes no module")?;
    let code = format!("{root}/code/{}.py", module.replace('.', "/"));
    let code = member(&mut archive, &code, LARGEST_CODE)?;
    let code = String::from_utf8(code).map_err(|_| "its code is not UTF-8")?;
    let parameters =
        forward(&code, class).ok_or_else(|| format!("its class {class} has no method forward"))?;
    Ok(Contents { parameters, bytes, floats: floats(&pickle) })
}

fn member(archive: &mut ZipArchive<BufReader<File>>, name: &str, most: u64) -> Result<Vec<u8>, String> {
    let file: ZipFile<'_> = archive.by_name(name).map_err(|_| format!("it has no {}", printable(name)))?;
    let mut bytes = Vec::new();
    let read = file.take(most + 1).read_to_end(&mut bytes);
    read.map_err(|error| format!("its {} cannot be read: {error}", printable(name)))?;
    match bytes.len() as u64 > most {
        true => Err(format!("its {} has more than {most} bytes", printable(name))),
        false => Ok(bytes),
    }
}

fn printable(name: &str) -> String {
    name.chars().take(LONGEST_NAME).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// The module and the name of the class that a pickle makes first: the whole model's.
fn class(pickle: &[u8]) -> Option<(&str, &str)> {
    // Protocol 2, then the operation GLOBAL, whose two operands are lines.
    let text = pickle.strip_prefix(b"\x80\x02c")?;
    let mut lines = text.split(|&byte| byte == b'\n').map(str::from_utf8);
    let (module, class) = (lines.next()?.ok()?, lines.next()?.ok()?);
    let plain = |name: &str| {
        name.len() <= LONGEST_NAME && name.chars().all(|c| c.is_ascii_alphanumeric() || "._".contains(c))
    };
    (module.starts_with("__torch__") && plain(module) && plain(class)).then_some((module, class))
}

/// What the floats are that a pickle makes tensors of, where they are all the same.
fn floats(pickle: &[u8]) -> Option<ElementType> {
    let kinds = [
        ("FloatStorage", ElementType::Float),
        ("HalfStorage", ElementType::Float16),
        ("BFloat16Storage", ElementType::Bfloat16),
        ("DoubleStorage", ElementType::Double),
    ];
    let has = |name: &str| {
        let wanted = format!("ctorch\n{name}\n");
        pickle.windows(wanted.len()).any(|part| part == wanted.as_bytes())
    };
    let mut found = kinds.into_iter().filter(|(name, _)| has(name)).map(|(_, element)| element);
    found.next().filter(|_| found.next().is_none())
}

/// What the method `forward` of a class takes besides the module itself.
fn forward(code: &str, class: &str) -> Option<Vec<Parameter>> {
    let (_, body) = code.split_once(&format!("class {class}(Module):\n"))?;
    // The next class begins at the left margin.
    let body = body.split("\nclass ").next()?;
    let (_, signature) = body.split_once("\n  def forward(self")?;
    let (taken, _) = signature.split_once(") -> ")?;
    let taken = apart(taken);
    // The first is what is left of the module's own.
    let parameters = taken.get(1..).filter(|parameters| parameters.len() <= MOST_PARAMETERS)?;
    parameters.iter().map(|text| parameter(text)).collect()
}

/// Cuts at the commas that no bracket is around.
fn apart(text: &str) -> Vec<&str> {
    let mut depth = 0_usize;
    let outside = move |c: char| {
        match c {
            '[' | '(' => depth += 1,
            ']' | ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == ',' && depth == 0
    };
    text.split(outside).collect()
}

fn parameter(text: &str) -> Option<Parameter> {
    let (name, kind) = text.trim().split_once(": ")?;
    let (kind, default) = kind.split_once('=').map_or((kind, None), |(kind, value)| (kind, Some(value)));
    let short = name.len() <= LONGEST_NAME && kind.len() <= LONGEST_NAME;
    let parameter =
        Parameter { name: name.to_owned(), kind: kind.trim().to_owned(), optional: default.is_some() };
    short.then_some(parameter)
}

#[cfg(test)]
pub(super) mod tests {
    use std::io::{Cursor, Write as _};

    use zip::{ZipWriter, write::FileOptions};

    use super::*;

    /// A file whose module has no tensors, and this method `forward`.
    pub(in crate::torch) fn script(forward: &str) -> Vec<u8> {
        let code = format!(
            "class M(Module):\n  __parameters__ = []\n  __buffers__ = []\n  training : bool\n{forward}\n"
        );
        let pickle = b"\x80\x02c__torch__\nM\nq\x00)\x81}X\x08\x00\x00\x00trainingq\x01\x89sb.";
        archive(&[
            ("data.pkl", pickle),
            ("code/__torch__.py", code.as_bytes()),
            ("constants.pkl", b"\x80\x02)."),
            ("version", b"3\n"),
        ])
    }

    fn archive(members: &[(&str, &[u8])]) -> Vec<u8> {
        let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
        for (name, bytes) in members {
            let method = match name.starts_with("code/") {
                true => CompressionMethod::Deflated,
                false => CompressionMethod::Stored,
            };
            let options = FileOptions::default().compression_method(method);
            writer.start_file(format!("m/{name}"), options).unwrap();
            writer.write_all(bytes).unwrap();
        }
        writer.finish().unwrap().into_inner()
    }

    fn look(bytes: &[u8]) -> Result<Contents, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.pt");
        std::fs::write(&path, bytes).unwrap();
        contents(&path)
    }

    const FORWARD: &str = "  def forward(self: __torch__.M,
    input_ids: Tensor,
    attention_mask: Tensor,
    pairs: Optional[Tuple[Tensor, int]]=None) -> Dict[str, Tensor]:
    return {\"logits\": input_ids}";

    #[test]
    fn what_forward_takes_is_read_from_the_code() {
        let contents = look(&script(FORWARD)).unwrap();
        let parameter =
            |name: &str, kind: &str, optional| Parameter { name: name.into(), kind: kind.into(), optional };
        let wanted = [
            parameter("input_ids", "Tensor", false),
            parameter("attention_mask", "Tensor", false),
            parameter("pairs", "Optional[Tuple[Tensor, int]]", true),
        ];
        assert_eq!(contents.parameters, wanted);
        assert_eq!((contents.bytes, contents.floats), (0, None));
    }

    #[test]
    fn a_file_cut_anywhere_is_refused() {
        let whole = script(FORWARD);
        for end in 0..whole.len() {
            assert!(look(&whole[..end]).is_err(), "cut at {end}");
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        for (members, what) in [
            (&[("version", &b"3"[..])][..], "m/data.pkl"),
            (&[("data.pkl", b"\x80\x02c__torch__\nM\nq")], "m/code/__torch__.py"),
            (&[("data.pkl", b"\x80\x02cos\nsystem\nq")], "makes no module"),
            (&[("data.pkl", b"\x80\x02c__torch__.../..\nM\nq")], "makes no module"),
            (
                &[("data.pkl", b"\x80\x02c__torch__\nM\nq"), ("code/__torch__.py", b"class N(Module):\n")],
                "no method forward",
            ),
        ] {
            let error = look(&archive(members)).unwrap_err();
            assert!(error.contains(what), "{error}");
        }
        assert!(look(b"PK\x05\x06 not an archive").unwrap_err().contains("torch.jit.save"));
    }

    #[test]
    fn code_without_end_is_not_unpacked() {
        let nothing = vec![b' '; LARGEST_CODE as usize + 1];
        let error = look(&archive(&[("data.pkl", b""), ("code/__torch__.py", &nothing)])).unwrap_err();
        assert!(error.contains("at most"), "{error}");
    }
}

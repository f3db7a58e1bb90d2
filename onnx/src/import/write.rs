//! A graph as a file: whole or not at all, tensor by tensor, and with a second file where one is too
//! small for it.

use std::{
    ffi::OsString,
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

use prost::Message as _;

use super::graph::FUSED;
use crate::proto::{
    EXTERNAL, GraphProto, ModelProto, OperatorSetIdProto, StringStringEntryProto, TensorProto,
};

/// The operator set, and the file format that came with it; every ONNX Runtime since 1.12 reads them.
const OPSET: i64 = 17;
const IR_VERSION: i64 = 8;
/// Tensors below this stay in the graph's file: runtimes look into small ones before they load others.
const SMALL: usize = 1024;
/// Where tensors begin in the second file, so that a runtime can use it as it is mapped.
const ALIGNMENT: u64 = 64;
/// Keys, in protobuf's encoding, of `ModelProto.graph` and `GraphProto.initializer`.
const GRAPH_KEY: u8 = 7 << 3 | 2;
const INITIALIZER_KEY: u8 = 5 << 3 | 2;

/// Writes `graph` to `file`, and its larger tensors beside it if it would have more than `largest`
/// bytes. Returns the bytes of both.
pub(super) fn write(mut graph: GraphProto, file: &Path, largest: u64) -> io::Result<u64> {
    let mut written = 0;
    let model = envelope();
    let mut data = None;
    if (model.encoded_len() + graph.encoded_len() + 16) as u64 > largest.min(i32::MAX as u64) {
        let mut name = file.file_name().map(OsString::from).unwrap_or_default();
        name.push("_data");
        let place = file.with_file_name(&name);
        let location = name.into_string().map_err(|_| io::Error::other("its name is not UTF-8"))?;
        let part = Part::create(&place)?;
        written += externalise(&mut graph, &part, &location)?;
        data = Some(part);
    }
    let part = Part::create(file)?;
    written += stream(&model, graph, &part.file)?;
    // The graph comes last: where it is, its tensors are.
    if let Some(data) = data {
        data.keep()?;
    }
    part.keep()?;
    Ok(written)
}

/// A model without its graph.
fn envelope() -> ModelProto {
    let opset = |domain: &str, version| OperatorSetIdProto { domain: domain.into(), version };
    ModelProto {
        ir_version: IR_VERSION,
        producer_name: "switchboard".into(),
        opset_import: vec![opset("", OPSET), opset(FUSED, 1)],
        ..ModelProto::default()
    }
}

/// Moves the larger tensors into `part`, which the graph will find as `location`.
fn externalise(graph: &mut GraphProto, part: &Part, location: &str) -> io::Result<u64> {
    let mut out = BufWriter::new(&part.file);
    let mut offset = 0_u64;
    for tensor in &mut graph.initializer {
        let Some(raw) = tensor.raw_data.take_if(|raw| raw.len() >= SMALL) else {
            continue;
        };
        let gap = offset.next_multiple_of(ALIGNMENT) - offset;
        out.write_all(&[0; ALIGNMENT as usize][..gap as usize])?;
        out.write_all(&raw)?;
        offset += gap;
        tensor.data_location = EXTERNAL;
        tensor.external_data = vec![
            StringStringEntryProto::new("location", location),
            StringStringEntryProto::new("offset", offset.to_string()),
            StringStringEntryProto::new("length", raw.len().to_string()),
        ];
        offset += raw.len() as u64;
    }
    out.flush()?;
    Ok(offset)
}

/// Encodes `model` with `graph` in it, one tensor at a time, and drops each when it is written. The
/// fields come in the order that encoding the whole gives.
fn stream(model: &ModelProto, mut graph: GraphProto, file: &File) -> io::Result<u64> {
    let mut out = BufWriter::new(file);
    let mut written = 0;
    let mut put = |bytes: &[u8]| {
        written += bytes.len() as u64;
        out.write_all(bytes)
    };
    let length = graph.encoded_len();
    let tensors = std::mem::take(&mut graph.initializer);
    let after = GraphProto {
        input: std::mem::take(&mut graph.input),
        output: std::mem::take(&mut graph.output),
        ..GraphProto::default()
    };
    let opsets = ModelProto { opset_import: model.opset_import.clone(), ..ModelProto::default() };
    let before = ModelProto { opset_import: Vec::new(), ..model.clone() };
    put(&before.encode_to_vec())?;
    put(&[GRAPH_KEY])?;
    put(&delimiter(length)?)?;
    put(&graph.encode_to_vec())?;
    for tensor in tensors {
        put(&[INITIALIZER_KEY])?;
        put(&TensorProto::encode_length_delimited_to_vec(&tensor))?;
    }
    put(&after.encode_to_vec())?;
    put(&opsets.encode_to_vec())?;
    out.flush()?;
    Ok(written)
}

fn delimiter(length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    prost::encode_length_delimiter(length, &mut bytes)?;
    Ok(bytes)
}

/// A name beside `path` that no other import uses.
pub(super) fn beside(path: &Path) -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".part-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)));
    path.with_file_name(name)
}

/// A file that is written beside its place; dropped before it is kept, it is gone.
struct Part {
    file: File,
    path: PathBuf,
    place: PathBuf,
    kept: bool,
}

impl Part {
    fn create(place: &Path) -> io::Result<Self> {
        let path = beside(place);
        Ok(Self { file: File::create_new(&path)?, path, place: place.to_owned(), kept: false })
    }

    fn keep(mut self) -> io::Result<()> {
        self.file.sync_all()?;
        fs::rename(&self.path, &self.place)?;
        self.kept = true;
        Ok(())
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if !self.kept {
            // Whoever sees the error sees the file's name; there is nothing else to do.
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import::graph::{Builder, ONNX, value};
    use crate::{ElementType, proto::DimensionProto};

    fn graph() -> GraphProto {
        let mut builder = Builder::default();
        let weight = builder.floats("weight".into(), &[300], &vec![1.5; 300]);
        let bias = builder.floats("bias".into(), &[1], &[0.5]);
        let other = builder.floats("other".into(), &[257], &vec![2.5; 257]);
        builder.node((ONNX, "Add"), &[&weight, &bias], &["sum"], []);
        builder.node((ONNX, "Concat"), &["sum", &other], &["y"], []);
        builder.graph.name = "test".into();
        builder.graph.input = vec![value("x", ElementType::Int64, vec![DimensionProto::named("batch")])];
        builder.graph.output = vec![value("y", ElementType::Float, vec![DimensionProto::fixed(557)])];
        builder.graph
    }

    #[test]
    fn streaming_gives_the_bytes_of_encoding_the_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.onnx");
        let bytes = write(graph(), &path, 1 << 20).unwrap();
        let whole = ModelProto { graph: Some(graph()), ..envelope() }.encode_to_vec();
        assert_eq!(fs::read(&path).unwrap(), whole);
        assert_eq!(bytes, whole.len() as u64);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn the_tensors_of_a_large_graph_go_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.onnx");
        write(graph(), &path, 2000).unwrap();
        let model = ModelProto::decode(&*fs::read(&path).unwrap()).unwrap();
        let data = fs::read(folder.path().join("model.onnx_data")).unwrap();
        let tensors = model.graph.unwrap().initializer;
        assert!(tensors[1].raw_data.is_some(), "the small one stays");
        for (tensor, value) in [(&tensors[0], 1.5_f32), (&tensors[2], 2.5)] {
            assert_eq!((tensor.data_location, tensor.raw_data.as_ref()), (EXTERNAL, None));
            let entry = |at: usize| tensor.external_data[at].value.as_str();
            assert_eq!(entry(0), "model.onnx_data");
            let (offset, length): (usize, usize) = (entry(1).parse().unwrap(), entry(2).parse().unwrap());
            assert_eq!((offset % 64, length), (0, 4 * tensor.dims[0] as usize));
            assert!(data[offset..offset + length].chunks(4).all(|bytes| bytes == value.to_le_bytes()));
        }
    }

    #[test]
    fn nothing_is_left_when_it_cannot_be_put_in_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.onnx");
        fs::create_dir_all(path.join("in-the-way")).unwrap();
        write(graph(), &path, 1 << 20).unwrap_err();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}

//! What stands in the place of the Torch backend where the program is built without the feature `torch`: the
//! same functions, which say so.

use std::path::Path;

use switchboard_onnx::inspect::Inspection;

use crate::{
    backend::Backend,
    error::Error,
    generate::Decoder,
    placement::{DecoderOptions, Placement},
    repository::{Description, problem},
};

pub(crate) fn inspect(file: &Path) -> Result<Inspection, Error> {
    Err(absent(file))
}

pub(crate) fn load(
    description: &Description,
    _placement: Placement,
    _threads: usize,
) -> Result<Box<dyn Backend>, Error> {
    Err(absent(&description.graph))
}

pub(crate) fn decoder(
    folder: &Path,
    script: Option<&Path>,
    _options: &DecoderOptions,
) -> Result<Box<dyn Decoder>, Error> {
    Err(absent(script.unwrap_or(&folder.join("model.safetensors"))))
}

fn absent(file: &Path) -> Error {
    let wanted = "is run by Torch, which this program was built without; `cargo xtask setup` fetches libtorch, and \
                  `cargo build --features torch` builds the program with it";
    problem(file, wanted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Config, check};

    #[test]
    fn a_model_for_torch_is_refused_with_how_to_build_what_runs_it() {
        let folder = tempfile::tempdir().unwrap();
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/models/tiny-embedder");
        for file in ["config.json", "tokenizer.json"] {
            std::fs::copy(source.join(file), folder.path().join(file)).unwrap();
        }
        std::fs::write(folder.path().join("model.pt"), "anything").unwrap();
        let problem = check::read(&Config::default(), folder.path()).problem().unwrap();
        assert!(problem.contains("model.pt is run by Torch"), "{problem}");
        assert!(problem.contains("cargo build --features torch"), "{problem}");
    }
}

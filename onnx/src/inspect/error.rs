//! Why a file was refused.

use std::{error::Error, fmt, io, path::PathBuf};

use super::LARGEST;

/// Why a file was refused. Fetch it again from whom you trust.
#[derive(Debug)]
#[non_exhaustive]
pub enum InspectError {
    /// It cannot be read.
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is larger than such a file can be.
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
    },
    /// It is no ONNX file, or a cut or damaged one, or it holds what no runtime should be given.
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// One of its constants is not what the file says it is.
    Tensor {
        /// The file.
        path: PathBuf,
        /// The tensor, or the beginning of its name.
        tensor: String,
        /// What is wrong with it.
        problem: String,
    },
}

impl fmt::Display for InspectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { path, .. } => write!(f, "{} cannot be read", path.display()),
            Self::TooLarge { path, bytes } => {
                write!(f, "{} has {bytes} bytes; at most {LARGEST} are allowed", path.display())
            }
            Self::Unusable { path, problem } => {
                write!(f, "{} is not a usable ONNX file: {problem}", path.display())
            }
            Self::Tensor { path, tensor, problem } => {
                write!(f, "{}: the tensor {tensor} {problem}", path.display())
            }
        }
    }
}

impl Error for InspectError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Unreadable { source, .. } => Some(source),
            Self::TooLarge { .. } | Self::Unusable { .. } | Self::Tensor { .. } => None,
        }
    }
}

//! Why nothing was imported.

use std::{
    error::Error,
    fmt, io,
    path::{Path, PathBuf},
};

/// Why nothing was imported.
#[derive(Debug)]
#[non_exhaustive]
pub enum ImportError {
    /// A file of the source is missing or cannot be read. Put it there, or mend its permissions.
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The destination cannot be written. Make room, or choose another.
    Unwritable {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The destination is there already. Remove it, or choose another.
    Exists {
        /// The destination.
        path: PathBuf,
    },
    /// The settings are broken, or ask for something that cannot be made. Export the model anew, or use
    /// its publisher's own ONNX file.
    Settings {
        /// The file.
        path: PathBuf,
        /// Which key, and what is allowed.
        problem: String,
    },
    /// The weights are broken, or not those of the model that the settings describe. Fetch them again.
    Weights {
        /// The file.
        path: PathBuf,
        /// Which tensor, and what is wrong with it.
        problem: String,
    },
}

impl ImportError {
    /// The file or folder at fault.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Self::Unreadable { path, .. }
            | Self::Unwritable { path, .. }
            | Self::Exists { path }
            | Self::Settings { path, .. }
            | Self::Weights { path, .. } => path,
        }
    }
}

impl fmt::Display for ImportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { path, .. } => write!(f, "{} cannot be read", path.display()),
            Self::Unwritable { path, .. } => write!(f, "{} cannot be written", path.display()),
            Self::Exists { path } => write!(f, "{} is there already", path.display()),
            Self::Settings { path, problem } => write!(f, "{} cannot be used: {problem}", path.display()),
            Self::Weights { path, problem } => {
                write!(f, "{} does not hold usable weights: {problem}", path.display())
            }
        }
    }
}

impl Error for ImportError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Unreadable { source, .. } | Self::Unwritable { source, .. } => Some(source),
            Self::Exists { .. } | Self::Settings { .. } | Self::Weights { .. } => None,
        }
    }
}

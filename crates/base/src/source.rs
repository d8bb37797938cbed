//! Where an original comes from, in canonical form.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{SourceKey, TenantId};

/// A source that has been parsed and canonicalised; equal sources are equal values.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum Source {
    /// A file of a named folder; `folder` is empty for the unnamed one. `path` is relative, decoded once, components
    /// joined by `/`, without empty, `.` or `..` components and without NUL.
    Local {
        /// The folder's name.
        folder: String,
        /// The path beneath it.
        path: String,
    },
    /// An http(s) URL: scheme and host in lower case, default port dropped, no fragment, no user information.
    Http {
        /// The whole URL.
        url: String,
    },
}

impl Source {
    /// Names this source for `tenant`.
    pub fn key(&self, tenant: &TenantId) -> SourceKey {
        SourceKey::of(&[tenant.as_str().as_bytes(), self.to_string().as_bytes()])
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Local { folder, path } => write!(f, "local://{folder}/{path}"),
            Source::Http { url } => f.write_str(url),
        }
    }
}

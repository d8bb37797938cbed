//! The head of a request as a service sees it.

use tutti_base::http::Method;

/// Looks up header fields by name. Names are compared without regard to case; only the first value is given.
pub trait Fields {
    /// The first value of the field `name`, without surrounding blanks.
    fn get(&self, name: &str) -> Option<&[u8]>;
}

/// No fields at all.
impl Fields for () {
    fn get(&self, _name: &str) -> Option<&[u8]> {
        None
    }
}

/// A list of fields, for tests and for requests that are made inside.
impl Fields for &[(&str, &str)] {
    fn get(&self, name: &str) -> Option<&[u8]> {
        self.iter().find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_bytes())
    }
}

/// The head of one request.
pub struct Head<'a> {
    /// GET or HEAD here (planned alike), or what the service's mount allows beyond them.
    pub method: Method,
    /// The authority in lower case, as the client named it.
    pub host: &'a str,
    /// The raw path below the mount, still percent-encoded; begins with `/`.
    pub path: &'a str,
    /// The raw query, without `?`.
    pub query: Option<&'a str>,
    /// The header fields.
    pub fields: &'a dyn Fields,
}

//! Makes image URLs, signed or not: what `tutti url` prints. The counterpart of `dialect`.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tutti_service::KeyPair;

use crate::dialect::signature::sign_truncated;
use crate::percent;

/// What goes into a URL.
#[derive(Clone, PartialEq, Debug)]
pub struct ImageUrl<'a> {
    /// The service's mount, such as `/image/`, with a host before it where wanted.
    pub mount: &'a str,
    /// Options such as `rs:fit:300:200`, in the order in which they shall stand.
    pub options: &'a [String],
    /// The source's URL, as it is, such as `local:///a cat.jpg`.
    pub source: &'a str,
    /// The format to ask for, such as `webp`.
    pub extension: Option<&'a str>,
    /// How the source is written.
    pub encoding: SourceEncoding,
}

/// How a source is written in a URL.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum SourceEncoding {
    /// Behind `plain/`, percent-encoded where it must be.
    #[default]
    Plain,
    /// In base64url.
    Base64,
}

impl ImageUrl<'_> {
    /// The path without a signature: for servers without keys.
    pub fn unsigned(&self) -> String {
        self.under("unsafe")
    }

    /// The path signed by `pair`, with a signature of `signature_len` bytes.
    pub fn signed(&self, pair: &KeyPair, signature_len: usize) -> String {
        self.under(&sign_truncated(&pair.key, &pair.salt, &self.rest(), signature_len))
    }

    fn under(&self, signature: &str) -> String {
        format!("{}/{signature}/{}", self.mount.trim_end_matches('/'), self.rest())
    }

    /// What is signed, but for the slash before it.
    fn rest(&self) -> String {
        let mut rest = String::new();
        for option in self.options {
            rest.push_str(option.trim_matches('/'));
            rest.push('/');
        }
        match self.encoding {
            SourceEncoding::Plain => {
                rest.push_str("plain/");
                percent::encode(
                    self.source,
                    |byte| byte.is_ascii_alphanumeric() || b"-._~:/".contains(&byte),
                    &mut rest,
                );
            }
            SourceEncoding::Base64 => rest.push_str(&URL_SAFE_NO_PAD.encode(self.source)),
        }
        if let Some(extension) = self.extension {
            rest.push(if self.encoding == SourceEncoding::Plain { '@' } else { '.' });
            rest.push_str(extension);
        }
        rest
    }
}

#[cfg(test)]
mod tests {
    use tutti_base::Source;
    use tutti_service::Tenant;

    use super::*;
    use crate::{Config, dialect};

    const OPTIONS: [&str; 2] = ["rs:fit:300:200", "q:50"];

    /// Every way of writing a URL leads back to the same source and options.
    #[track_caller]
    fn check(source: &str, canonical: &str) {
        let pair = KeyPair { key: b"key".to_vec(), salt: b"salt".to_vec() };
        let tenant = Tenant { keys: vec![pair.clone()], signature_len: 10, ..Tenant::main() };
        let options = OPTIONS.map(String::from);
        for encoding in [SourceEncoding::Plain, SourceEncoding::Base64] {
            let url =
                ImageUrl { mount: "/image/", options: &options, source, extension: Some("webp"), encoding };
            let signed = url.signed(&pair, 10);
            let below = signed.strip_prefix("/image").unwrap();
            let asked = dialect::read(below, &tenant, &Config::default()).unwrap();
            assert_eq!(asked.source.to_string(), canonical, "{signed}");
            assert_eq!((asked.options.width, asked.options.height, asked.options.quality), (300, 200, 50));
            assert_eq!(asked.options.format.unwrap().name, "webp");
            assert!(dialect::read(&url.unsigned()["/image".len()..], &tenant, &Config::default()).is_err());
            if let Source::Local { .. } = asked.source {
                assert!(
                    dialect::read(&url.unsigned()["/image".len()..], &Tenant::main(), &Config::default())
                        .is_ok()
                );
            }
        }
    }

    #[test]
    fn what_is_written_is_what_is_read() {
        check("local:///cat.jpg", "local:///cat.jpg");
        check("local://shop/a cat@home, 100%.jpg", "local://shop/a cat@home, 100%.jpg");
        check("https://img.example/ü.jpg?a=b&c=%20#d", "https://img.example/%C3%BC.jpg?a=b&c=%20");
    }

    #[test]
    fn a_service_at_the_root_has_no_double_slash() {
        let url = ImageUrl {
            mount: "/",
            options: &[],
            source: "local:///a.jpg",
            extension: None,
            encoding: SourceEncoding::Plain,
        };
        assert_eq!(url.unsigned(), "/unsafe/plain/local:///a.jpg");
    }
}

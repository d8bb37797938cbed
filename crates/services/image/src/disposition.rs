//! `Content-Disposition` (RFC 6266) from the options `filename` and `return_attachment`. Lets no text out of its quotes.

use tutti_base::http::Field;

use crate::dialect::formats::ending;
use crate::dialect::options::Options;
use crate::percent;

/// The field, where one of the two options was given. The ending is that of the wanted format, and left away where the
/// format is not known before the work is done.
pub(crate) fn field(options: &Options) -> Option<Field> {
    if options.filename.is_none() && !options.attachment {
        return None;
    }
    let kind = if options.attachment { "attachment" } else { "inline" };
    let ending = options.format.filter(|_| !options.raw).and_then(|format| format.written()).map(ending);
    let stem = options.filename.as_deref().unwrap_or("image");
    let name = ending.map_or_else(|| stem.to_owned(), |ending| format!("{stem}.{ending}"));
    let mut value = format!("{kind}; filename=\"");
    percent::encode(
        &name,
        |byte| (byte.is_ascii_graphic() || byte == b' ') && !b"\"\\".contains(&byte),
        &mut value,
    );
    value.push('"');
    if !name.is_ascii() {
        value.push_str("; filename*=UTF-8''");
        percent::encode(&name, |byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte), &mut value);
    }
    Some(("Content-Disposition".into(), value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::formats::FormatName;

    #[track_caller]
    fn check(filename: Option<&str>, attachment: bool, format: Option<&str>, wanted: Option<&str>) {
        let options = Options {
            filename: filename.map(Into::into),
            attachment,
            format: format.and_then(FormatName::find),
            ..Options::default()
        };
        assert_eq!(field(&options).map(|(_, value)| value).as_deref(), wanted);
    }

    #[test]
    fn names_stay_within_their_quotes() {
        check(None, false, Some("png"), None);
        check(None, true, Some("png"), Some("attachment; filename=\"image.png\""));
        check(Some("cat"), false, Some("jpeg"), Some("inline; filename=\"cat.jpg\""));
        check(Some("cat"), true, None, Some("attachment; filename=\"cat\""));
        check(Some("a\"\\\r\nX: y"), false, None, Some("inline; filename=\"a%22%5C%0D%0AX: y\""));
        check(Some("ü"), false, None, Some("inline; filename=\"%C3%BC\"; filename*=UTF-8''%C3%BC"));
    }
}

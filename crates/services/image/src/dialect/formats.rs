//! The format names of the dialect: those that can be written here, and those that imgproxy knows beyond.

use tutti_imaging::spec::Format;

/// A format that the dialect knows.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct FormatName {
    /// Its name in URLs.
    pub name: &'static str,
    /// Its media type.
    pub media: &'static str,
}

const fn known(name: &'static str, media: &'static str) -> FormatName {
    FormatName { name, media }
}

/// All of them. `jpg` is read as `jpeg`; `tif` and others are as unknown to imgproxy as they are here.
const FORMATS: &[FormatName] = &[
    known("jpeg", "image/jpeg"),
    known("png", "image/png"),
    known("webp", "image/webp"),
    known("jxl", "image/jxl"),
    known("gif", "image/gif"),
    known("ico", "image/x-icon"),
    known("svg", "image/svg+xml"),
    known("heic", "image/heic"),
    known("avif", "image/avif"),
    known("bmp", "image/bmp"),
    known("tiff", "image/tiff"),
];

impl FormatName {
    /// The format called `name`, in lower case as the dialect has it.
    pub(crate) fn find(name: &str) -> Option<Self> {
        let name = if name == "jpg" { "jpeg" } else { name };
        FORMATS.iter().copied().find(|format| format.name == name)
    }

    /// The format, if it can be written here.
    pub(crate) fn written(self) -> Option<Format> {
        [Format::Jpeg, Format::Png, Format::WebP].into_iter().find(|format| format.media() == self.media)
    }
}

/// The usual ending of a file of `format`.
pub(crate) fn ending(format: Format) -> &'static str {
    match format {
        Format::Jpeg => "jpg",
        Format::Png => "png",
        Format::WebP => "webp",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_and_those_that_can_be_written_are_known() {
        for (name, written) in [
            ("jpg", Some(Format::Jpeg)),
            ("jpeg", Some(Format::Jpeg)),
            ("png", Some(Format::Png)),
            ("webp", Some(Format::WebP)),
            ("avif", None),
        ] {
            assert_eq!(FormatName::find(name).unwrap().written(), written, "{name}");
        }
        for name in ["", "JPG", "tif", "pdf", "best", "jpe"] {
            assert_eq!(FormatName::find(name), None, "{name}");
        }
    }
}

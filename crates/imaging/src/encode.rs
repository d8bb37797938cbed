//! From pixels to a file's bytes. Each format has its own file; no operations here.

pub(crate) mod jpeg;
pub(crate) mod png;
pub(crate) mod webp;

use crate::error::ImagingError;
use crate::metadata::Metadata;
use crate::raster::Raster;
use crate::spec::{Effort, Format};

/// How to write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Manner {
    pub(crate) format: Format,
    /// 1 to 100; PNG knows none.
    pub(crate) quality: u8,
    pub(crate) effort: Effort,
}

/// The encoders, with what they keep between jobs.
#[derive(Default)]
pub(crate) struct Encoders {
    jpeg: jpeg::Encoder,
    png: png::Encoder,
    webp: webp::Encoder,
}

impl Encoders {
    /// Writes `pixels` with their metadata into `out`, which is emptied first.
    pub(crate) fn run(
        &mut self,
        pixels: &Raster,
        manner: Manner,
        metadata: &Metadata,
        out: &mut Vec<u8>,
    ) -> Result<(), ImagingError> {
        out.clear();
        match manner.format {
            Format::Jpeg => self.jpeg.run(pixels, manner, metadata, out),
            Format::Png => self.png.run(pixels, metadata, out),
            Format::WebP => self.webp.run(pixels, manner, metadata, out),
        }
    }
}

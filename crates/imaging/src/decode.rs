//! From a file's bytes to pixels. Each format has its own file; no operations here.

pub(crate) mod jpeg;
pub(crate) mod png;
pub(crate) mod webp;

use crate::error::ImagingError;
use crate::probe::{ImageFacts, SourceFormat};
use crate::raster::Raster;

/// How much smaller than stored an image may be decoded, where its format can do that for less work.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Reduction {
    /// The smallest width that is enough.
    pub(crate) width: f64,
    /// The smallest height that is enough.
    pub(crate) height: f64,
    /// Whether the result is so much smaller that smoothing of block edges would be lost in it.
    pub(crate) coarse: bool,
}

/// The decoders, with what they keep between jobs.
#[derive(Default)]
pub(crate) struct Decoders {
    jpeg: jpeg::Decoder,
    png: png::Decoder,
}

impl Decoders {
    /// Decodes the first frame into `into`. What comes is as large as `facts` say, or for JPEG down to what `reduction`
    /// allows.
    pub(crate) fn run(
        &mut self,
        input: &[u8],
        facts: &ImageFacts,
        reduction: Reduction,
        into: &mut Raster,
    ) -> Result<(), ImagingError> {
        match facts.format {
            Some(SourceFormat::Jpeg) => self.jpeg.run(input, facts, reduction, into),
            Some(SourceFormat::Png) => self.png.run(input, facts, into),
            Some(SourceFormat::WebP) => webp::run(input, facts, reduction, into),
            Some(format) => Err(ImagingError::Unsupported { format }),
            None => Err(ImagingError::NotAnImage),
        }
    }

    /// Frees buffers that are larger than `most` bytes.
    pub(crate) fn give_back(&mut self, most: usize) {
        self.png.give_back(most);
    }
}

//! Pixels in memory: rows of interleaved 8-bit samples. Knows no colour science.

/// What the samples of a pixel mean.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Samples {
    Gray,
    GrayAlpha,
    #[default]
    Rgb,
    Rgba,
    /// Ink, 255 is full.
    Cmyk,
    /// Ink as Adobe stores it, 0 is full.
    InvertedCmyk,
}

impl Samples {
    pub(crate) const fn channels(self) -> usize {
        match self {
            Samples::Gray => 1,
            Samples::GrayAlpha => 2,
            Samples::Rgb => 3,
            Samples::Rgba | Samples::Cmyk | Samples::InvertedCmyk => 4,
        }
    }
    pub(crate) const fn has_alpha(self) -> bool {
        matches!(self, Samples::GrayAlpha | Samples::Rgba)
    }
    pub(crate) const fn is_ink(self) -> bool {
        matches!(self, Samples::Cmyk | Samples::InvertedCmyk)
    }
}

/// An image whose buffer is kept between jobs.
#[derive(Default)]
pub(crate) struct Raster {
    pub(crate) width: usize,
    pub(crate) height: usize,
    pub(crate) samples: Samples,
    /// Where the first row begins in `bytes`.
    pub(crate) offset: usize,
    /// From row to row, in bytes.
    pub(crate) stride: usize,
    pub(crate) bytes: Vec<u8>,
}

impl Raster {
    /// Takes a new size with rows that touch; what the pixels were is left in place, to be overwritten.
    pub(crate) fn reshape(&mut self, width: usize, height: usize, samples: Samples) {
        self.lay(width, height, samples, 0, width * samples.channels());
    }

    /// Takes a new size and layout; the buffer grows and never shrinks its capacity.
    pub(crate) fn lay(
        &mut self,
        width: usize,
        height: usize,
        samples: Samples,
        offset: usize,
        stride: usize,
    ) {
        (self.width, self.height, self.samples) = (width, height, samples);
        (self.offset, self.stride) = (offset, stride);
        self.bytes.resize(offset + stride * height, 0);
    }

    pub(crate) fn row_len(&self) -> usize {
        self.width * self.samples.channels()
    }

    pub(crate) fn row(&self, y: usize) -> &[u8] {
        let from = self.offset + y * self.stride;
        &self.bytes[from..from + self.row_len()]
    }

    pub(crate) fn row_mut(&mut self, y: usize) -> &mut [u8] {
        let from = self.offset + y * self.stride;
        let len = self.row_len();
        &mut self.bytes[from..from + len]
    }

    /// The pixels without gaps, where the rows touch.
    pub(crate) fn packed(&self) -> &[u8] {
        debug_assert!(self.stride == self.row_len() && self.offset == 0);
        &self.bytes[..self.row_len() * self.height]
    }
}

//! What holds of rendering any bytes. Shared by the replay of the corpora and the fuzz target `render`.

use tutti_imaging::spec::{Format, Limits, Spec};
use tutti_imaging::{Rendered, Renderer, probe};

/// Panics when rendering `bytes` small breaks a promise; says what came out, where something did.
pub(crate) fn holds(bytes: &[u8]) -> Option<Rendered> {
    let mut spec = Spec::default();
    (spec.resize.width, spec.resize.height) = (16, 16);
    spec.limits = Limits { source_pixels: 1 << 20, source_bytes: 1 << 20, result_side: 64 };
    spec.output.format = Some(Format::Png);
    let mut out = Vec::new();
    let rendered = Renderer::new().render(&spec, bytes, &mut out).ok()?;
    assert!(rendered.width <= 16 && rendered.height <= 16, "{rendered:?}");
    let facts = probe(&mut &out[..]);
    assert_eq!(
        (facts.width, facts.height),
        (rendered.width, rendered.height),
        "the result says another size"
    );
    Some(rendered)
}

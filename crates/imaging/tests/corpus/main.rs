//! Replays what the fuzz targets `probe_jpeg`, `probe_png`, `probe_webp` and `render` were given and have found.
#![expect(clippy::unwrap_used, reason = "what fails to unwrap fails the test")]

mod probing;
mod rendering;

use tutti_imaging::SourceFormat;

fn files(target: &str) -> Vec<Vec<u8>> {
    let folder = format!("{}/../../fuzz/corpus/{target}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_dir(folder).unwrap().map(|file| std::fs::read(file.unwrap().path()).unwrap()).collect()
}

#[test]
fn the_corpora_of_the_probes_replay() {
    use SourceFormat::{Jpeg, Png, WebP};
    for (target, format) in [("probe_jpeg", Jpeg), ("probe_png", Png), ("probe_webp", WebP)] {
        let files = files(target);
        let known = files.iter().filter(|file| !probing::holds(format, file).unknown).count();
        assert!(known >= 3 && known < files.len(), "{target}: {known} of {} are whole", files.len());
    }
}

#[test]
fn every_corpus_renders_or_fails_in_order() {
    let all = ["probe_jpeg", "probe_png", "probe_webp", "render"].map(files).concat();
    let rendered = all.iter().filter(|file| rendering::holds(file).is_some()).count();
    assert!(rendered >= 6 && rendered < all.len(), "{rendered} of {} came out", all.len());
}

//! Replays what the fuzz target `engine_frames` was given and has found.

mod check;

#[test]
fn the_fuzz_corpus_replays() {
    let (mut files, mut frames) = (0, 0);
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/corpus/engine_frames");
    for file in std::fs::read_dir(folder).unwrap() {
        files += 1;
        frames += check::holds(&std::fs::read(file.unwrap().path()).unwrap());
    }
    assert!(files >= 10 && frames >= 6, "the corpus has {files} files, {frames} of them frames");
}

//! Replays what the fuzz target `url_grammar` was given and has found.

mod check;

#[test]
fn the_corpora_replay() {
    let mut plans = 0;
    for folder in ["/corpus", "/../../../fuzz/corpus/url_grammar"] {
        let folder = format!("{}{folder}", env!("CARGO_MANIFEST_DIR"));
        for file in std::fs::read_dir(folder).unwrap() {
            plans += check::holds(&std::fs::read(file.unwrap().path()).unwrap());
        }
    }
    assert!(plans > 100, "the corpora made {plans} plans only");
}

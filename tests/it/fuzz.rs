//! The fuzz targets over what was found so far, and over bytes of our own.

use proptest::prelude::*;

#[path = "../../fuzz/targets.rs"]
mod targets;

type Target = (&'static str, fn(&[u8]));

const TARGETS: [Target; 4] = [
    ("signature_header", targets::signature_header),
    ("from_header", targets::from_header),
    ("subject", targets::subject),
    ("event", targets::event),
];

fn corpus(name: &str) -> Vec<Vec<u8>> {
    let folder = format!("{}/fuzz/corpus/{name}", env!("CARGO_MANIFEST_DIR"));
    let files = std::fs::read_dir(folder).unwrap();
    files
        .map(|file| std::fs::read(file.unwrap().path()).unwrap())
        .collect()
}

#[test]
fn the_targets_hold_over_their_corpora() {
    for (name, target) in TARGETS {
        let corpus = corpus(name);
        assert!(!corpus.is_empty(), "{name}");
        corpus.iter().for_each(|bytes| target(bytes));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn the_targets_hold_over_what_is_near_their_corpora(
        seed in any::<prop::sample::Index>(),
        cut in any::<prop::sample::Index>(),
        put in prop::collection::vec(any::<u8>(), 0..12),
    ) {
        for (name, target) in TARGETS {
            let corpus = corpus(name);
            let mut bytes = seed.get(&corpus).clone();
            let at = cut.index(bytes.len() + 1);
            let end = (at + put.len() / 2).min(bytes.len());
            bytes.splice(at..end, put.iter().copied());
            target(&bytes);
        }
    }
}

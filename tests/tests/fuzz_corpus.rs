//! The fuzz targets on the stable compiler: the committed corpus, and random changes of it. `tests/run fuzz` runs the same
//! targets under libFuzzer where a nightly compiler is to be had.

use std::fs;
use std::time::{Duration, Instant};

use fanfare_tests::{Rng, repository};

#[path = "../../engine/fuzz/src/lib.rs"]
mod targets;

/// How long each target is driven with random changes.
const TIME: Duration = Duration::from_secs(3);

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = repository().join("engine/fuzz/corpus").join(target);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("readable").path()).collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).expect("readable")).collect()
}

/// One of the usual damages.
fn change(rng: &mut Rng, input: &mut Vec<u8>, corpus: &[Vec<u8>]) {
    let at = rng.below(input.len() + 1);
    match rng.below(6) {
        0 if at < input.len() => input[at] = rng.bits() as u8,
        1 if at < input.len() => input[at] ^= 1 << rng.below(8),
        2 => input.truncate(at),
        3 => {
            let len = rng.below(20);
            let bytes = rng.bytes(len);
            input.splice(at..at, bytes);
        }
        4 => {
            let other = &corpus[rng.below(corpus.len())];
            let from = rng.below(other.len() + 1);
            input.truncate(at);
            input.extend_from_slice(&other[from..]);
        }
        _ => {
            let end = (at + rng.below(10)).min(input.len());
            input.drain(at..end);
        }
    }
}

fn drive(name: &str, target: fn(&[u8])) {
    let corpus = corpus(name);
    assert!(!corpus.is_empty(), "there is a corpus of {name}");
    corpus.iter().for_each(|input| target(input));
    let mut rng = Rng::from_env();
    let (start, mut runs) = (Instant::now(), 0_u64);
    while start.elapsed() < TIME {
        let mut input = corpus[rng.below(corpus.len())].clone();
        for _ in 0..=rng.below(5) {
            change(&mut rng, &mut input, &corpus);
        }
        target(&input);
        runs += 1;
    }
    println!("{name}: {runs} random inputs");
}

#[test]
fn any_frame_decodes_to_what_it_was_made_of() {
    drive("frame_decoder", targets::frame_decoder);
}

#[test]
fn any_stream_gives_the_same_events_however_it_is_cut() {
    drive("session", targets::session);
}

#[test]
fn any_compressed_message_is_inflated_under_the_limit_however_it_is_cut() {
    drive("compressed", targets::compressed);
}

#[test]
fn any_head_is_answered_or_refused() {
    drive("http_head", targets::http_head);
}

#[test]
fn any_text_is_a_request_or_a_fault() {
    drive("native_protocol", targets::native_protocol);
}

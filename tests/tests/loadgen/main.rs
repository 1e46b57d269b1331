//! `loadgen` as its users see it: the binary, against servers that are right and servers that are wrong on purpose.
//!
//! | Module | What it shows |
//! |---|---|
//! | `faults` | a server that delays, drops, doubles, swaps and corrupts is reported as exactly that |
//! | `comparing` | `ab`, `search`, `compare`, `report`: the whole way, with exit codes |
//! | `bad_input` | wrong arguments, files and servers end in one clear sentence |
//! | `peers` | other people's servers by their presets: node ws, Bun, nchan |
//! | `runs` | against the engine: every load, role and way of speaking arrives whole |
//! | `encrypted` | over TLS, and with permessage-deflate |
//! | `agreement` | latency and rate are those that an independent client sees |

mod agreement;
mod bad_input;
mod comparing;
mod encrypted;
mod faults;
mod peers;
mod runs;

use base64::Engine as _;
use hdrhistogram::Histogram;
use serde_json::Value;

/// A histogram of a report, read by the library and not by loadgen.
fn histogram(base64: &Value) -> Histogram<u64> {
    let text = base64.as_str().expect("a histogram is text");
    let bytes = base64::engine::general_purpose::STANDARD.decode(text).expect("in base64");
    hdrhistogram::serialization::Deserializer::new().deserialize(&mut bytes.as_slice()).expect("in the HDR V2 format")
}

#[track_caller]
fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("a count, not {value}"))
}

//! Tests of the protocol as a whole: rule by rule, and against `tungstenite` as the oracle.

mod compressed;
mod deflate;
mod differential;
mod handshake;
mod offer;
mod session;
mod utf8;

use proptest::test_runner::Config;

/// Cases and seed come from outside (`PROPTEST_CASES`, `PROPTEST_RNG_SEED`); nothing is written next to the sources.
pub(super) fn config() -> Config {
    Config { failure_persistence: None, ..Config::default() }
}

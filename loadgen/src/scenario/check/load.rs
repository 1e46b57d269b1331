//! The load: each kind has keys of its own, and those of the other kinds would be ignored, so they are refused.

use std::time::Duration;

use super::{DAY, HOUR, span_within, within, wrong};
use crate::failure::Failure;
use crate::scenario::{Load, LoadKind, Scenario};
use crate::units::Span;

/// What a marker needs of a payload.
const MARKER_BYTES: u64 = 52;
const RATE_MIN: f64 = 0.001;
const RATE_MAX: f64 = 10_000_000.0;

/// Load and payload; nothing if nobody publishes.
pub(super) fn check(scenario: &Scenario) -> Result<(), Failure> {
    if scenario.connections.publishers == 0 {
        return Ok(());
    }
    check_payload(scenario)?;
    check_strangers(&scenario.load)?;
    check_kind(&scenario.load, scenario.duration)
}

fn check_payload(scenario: &Scenario) -> Result<(), Failure> {
    let (bytes, max) = (scenario.payload.bytes.0, scenario.client.message_bytes_max.0);
    if bytes < MARKER_BYTES {
        return wrong("payload.bytes", bytes, format_args!("{MARKER_BYTES} (what the marker needs) or more"));
    }
    if bytes > max {
        return wrong("payload.bytes", bytes, format_args!("client.message_bytes_max, {max}, or less"));
    }
    Ok(())
}

/// Keys that belong to another kind than this one.
fn check_strangers(load: &Load) -> Result<(), Failure> {
    let only_with = |kind: &str| format!("that only with load.kind = '{kind}'");
    if load.kind != LoadKind::Steps && !load.steps.is_empty() {
        return wrong("load.steps", format_args!("{} steps", load.steps.len()), only_with("steps"));
    }
    if load.kind != LoadKind::Ramp && load.to_rate_per_s != 0.0 {
        return wrong("load.to_rate_per_s", load.to_rate_per_s, only_with("ramp"));
    }
    if load.kind != LoadKind::Burst && load.burst_size != 0 {
        return wrong("load.burst_size", load.burst_size, only_with("burst"));
    }
    if load.kind != LoadKind::Burst && load.burst_every != Span::default() {
        return wrong("load.burst_every", load.burst_every, only_with("burst"));
    }
    Ok(())
}

fn check_kind(load: &Load, duration: Span) -> Result<(), Failure> {
    match load.kind {
        LoadKind::Constant | LoadKind::Poisson => rate("load.rate_per_s", load.rate_per_s),
        LoadKind::Ramp => {
            rate("load.rate_per_s", load.rate_per_s)?;
            rate("load.to_rate_per_s", load.to_rate_per_s)
        }
        LoadKind::Steps => check_steps(load),
        LoadKind::Burst => check_burst(load, duration),
        LoadKind::Closed => within("load.in_flight", load.in_flight, 1..=1_000_000),
    }
}

fn rate(key: &str, rate: f64) -> Result<(), Failure> {
    if (RATE_MIN..=RATE_MAX).contains(&rate) {
        return Ok(());
    }
    wrong(key, rate, format_args!("{RATE_MIN} to {RATE_MAX} publications a second"))
}

fn check_steps(load: &Load) -> Result<(), Failure> {
    if load.steps.is_empty() || load.steps.len() > 1000 {
        return wrong("load.steps", format_args!("{} steps", load.steps.len()), "1 to 1000 steps");
    }
    for step in &load.steps {
        rate("load.steps", step.rate_per_s)?;
        span_within("load.steps", step.duration, Duration::from_millis(100)..=DAY)?;
    }
    let sum = load.steps.iter().map(|step| step.duration.0).fold(Duration::ZERO, Duration::saturating_add);
    if sum > DAY {
        return wrong("load.steps", format_args!("{} in all", Span(sum)), "24h in all");
    }
    Ok(())
}

fn check_burst(load: &Load, duration: Span) -> Result<(), Failure> {
    within("load.burst_size", load.burst_size, 1..=1_000_000)?;
    span_within("load.burst_every", load.burst_every, Duration::from_millis(1)..=HOUR)?;
    if load.burst_every > duration {
        return wrong("load.burst_every", load.burst_every, format_args!("the duration, {duration}, or less"));
    }
    let rate_per_s = f64::from(load.burst_size) / load.burst_every.0.as_secs_f64();
    if rate_per_s > RATE_MAX {
        return wrong("load.burst_size", load.burst_size, format_args!("{RATE_MAX} publications a second or less"));
    }
    Ok(())
}

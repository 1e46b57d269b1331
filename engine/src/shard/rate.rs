//! How fast a connection may send. Each rate is a bucket of tokens, kept as the moment at which it will be full again; a
//! message is let in and paid for, and what happens while the bucket does not hold enough is the policy's choice.

use std::num::NonZero;

use super::Shard;
use super::core::Core;
use super::timer::{Due, TICK_MS, Timer};
use crate::close::CloseCause;
use crate::config::{ConnectionLimits, RatePolicy, Settings};
use crate::handler::Handler;

const SECOND: u64 = 1_000_000_000;
/// A connection is read from again with a tick of the wheel, up to two after it could be: what comes in in that time must fit
/// the bucket, or the rate would not be reached.
const SLACK_NANOS: u64 = 2 * TICK_MS * 1_000_000;

/// Tokens a second, and how many there can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Rate {
    per_s: NonZero<u64>,
    burst: u64,
}

impl Rate {
    /// `None` is without limit.
    fn new(per_s: u64, burst: u64) -> Option<Self> {
        Some(Self { per_s: NonZero::new(per_s)?, burst: burst.max(1) })
    }

    /// How long so many tokens take to come.
    fn nanos(self, tokens: u64) -> u64 {
        let nanos = u128::from(tokens) * u128::from(SECOND) / u128::from(self.per_s.get());
        u64::try_from(nanos).unwrap_or(u64::MAX)
    }
}

/// A bucket: the moment at which it will be full, in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Bucket {
    full_at: u64,
}

impl Bucket {
    /// From when on there are so many tokens, or as many as there can be; a little more than a burst is counted as one.
    fn has_at(self, rate: Rate, tokens: u64, slack: u64) -> u64 {
        let most = rate.nanos(rate.burst).max(slack);
        self.full_at.saturating_sub(most.saturating_sub(rate.nanos(tokens.min(rate.burst))))
    }

    /// Takes tokens, also those that are not there.
    fn take(&mut self, rate: Rate, tokens: u64, now: u64) {
        self.full_at = self.full_at.max(now).saturating_add(rate.nanos(tokens));
    }
}

/// How much a connection has sent of late.
#[derive(Debug, Clone, Copy, Default)]
pub struct Rates {
    messages: Bucket,
    bytes: Bucket,
    /// The tick at which it is read from again; timers set for others are void.
    refill_tick: u64,
}

/// What a connection may send.
#[derive(Debug, Clone, Copy)]
struct Allowed {
    messages: Option<Rate>,
    bytes: Option<Rate>,
    policy: RatePolicy,
}

impl Allowed {
    /// By the settings and the connection's own limits; `None` is everything.
    fn of(settings: &Settings, own: Option<&ConnectionLimits>) -> Option<Self> {
        if own.is_none() && settings.messages_per_s == 0 && settings.received_bytes_per_s == 0 {
            return None;
        }
        let own = own.cloned().unwrap_or_default();
        let or_one_second = |burst: u64, per_s: u64| if burst == 0 { per_s } else { burst };
        let per_s = u64::from(own.messages_per_s.unwrap_or(settings.messages_per_s));
        let burst = u64::from(own.messages_burst.unwrap_or(settings.messages_burst));
        let messages = Rate::new(per_s, or_one_second(burst, per_s));
        let per_s = own.received_bytes_per_s.unwrap_or(settings.received_bytes_per_s);
        let burst = own.received_bytes_burst.unwrap_or(settings.received_bytes_burst);
        let whole_message = message_bytes(settings, Some(&own)) as u64;
        let bytes = Rate::new(per_s, if burst == 0 { per_s.max(whole_message) } else { burst });
        let policy = own.rate_policy.unwrap_or(settings.rate_policy);
        (messages.is_some() || bytes.is_some()).then_some(Self { messages, bytes, policy })
    }

    /// Whether a message may be let in now.
    fn admits(&self, rates: &Rates, bytes: u64, now: u64) -> bool {
        let enough =
            |bucket: Bucket, rate: Option<Rate>, tokens| rate.is_none_or(|rate| bucket.has_at(rate, tokens, 0) <= now);
        enough(rates.messages, self.messages, 1) && enough(rates.bytes, self.bytes, bytes)
    }

    /// Pays for a message.
    fn take(&self, rates: &mut Rates, bytes: u64, now: u64) {
        if let Some(rate) = self.messages {
            rates.messages.take(rate, 1, now);
        }
        if let Some(rate) = self.bytes {
            rates.bytes.take(rate, bytes, now);
        }
    }

    /// From when on another message may be read: there is a token for it, and no bytes are owed.
    fn refilled_at(&self, rates: &Rates) -> u64 {
        let messages = self.messages.map_or(0, |rate| rates.messages.has_at(rate, 1, SLACK_NANOS));
        let bytes = self.bytes.map_or(0, |rate| rates.bytes.has_at(rate, 0, SLACK_NANOS));
        messages.max(bytes)
    }
}

/// The largest message a connection may send; 0 is without limit.
pub fn message_bytes(settings: &Settings, own: Option<&ConnectionLimits>) -> usize {
    match (settings.message_bytes, own.and_then(|own| own.message_bytes).unwrap_or(0)) {
        (all, 0) => all,
        (0, own) => own,
        (all, own) => all.min(own),
    }
}

impl Core {
    /// Something has come that is to be handled: a message, or a ping, which is answered. False if it is not to be handled,
    /// because there was too much before it.
    pub fn admit(&mut self, slot: u32, bytes: usize) -> bool {
        let now = self.now.nanos;
        let connection = &mut self.connections[slot as usize];
        let Some(allowed) = Allowed::of(&self.settings, connection.limits()) else { return true };
        let mut rates = connection.rates.take().unwrap_or_default();
        let admitted = allowed.policy == RatePolicy::SlowDown || allowed.admits(&rates, bytes as u64, now);
        if admitted {
            allowed.take(&mut rates, bytes as u64, now);
        }
        connection.rates = Some(rates);
        match allowed.policy {
            RatePolicy::SlowDown => self.throttle(slot),
            RatePolicy::Drop if !admitted => self.metrics().rate_dropped.add(1),
            RatePolicy::Close if !admitted => {
                let cause = CloseCause::RateLimit;
                self.close(slot, cause, cause.code(), cause.text());
            }
            RatePolicy::Drop | RatePolicy::Close => {}
        }
        admitted
    }

    /// When a connection may be read from again, if it has to wait.
    fn refill_tick(&self, slot: u32) -> Option<u64> {
        let connection = &self.connections[slot as usize];
        let allowed = Allowed::of(&self.settings, connection.limits())?;
        let at = allowed.refilled_at(connection.rates.as_deref()?);
        let waits = allowed.policy == RatePolicy::SlowDown && at > self.now.nanos;
        // The tick that is going on has begun: the next one at the earliest.
        waits.then(|| at.div_ceil(TICK_MS * 1_000_000).max(self.tick() + 1))
    }

    /// Does not read from a connection until it may send again.
    fn throttle(&mut self, slot: u32) {
        let Some(tick) = self.refill_tick(slot) else { return };
        let connection = self.at(slot);
        let generation = connection.generation;
        let Some(rates) = &mut connection.rates else { return };
        rates.refill_tick = tick;
        if !std::mem::replace(&mut connection.throttled, true) {
            self.metrics().rate_paused.add(1);
        }
        self.wheel.set(Timer { tick, slot, generation, due: Due::Refill });
    }

    /// A throttled connection's limits have changed: it may have to wait less.
    pub fn throttle_anew(&mut self, slot: u32) {
        let connection = &self.connections[slot as usize];
        if !connection.throttled {
            return;
        }
        let set = connection.rates.as_ref().map_or(0, |rates| rates.refill_tick);
        match self.refill_tick(slot) {
            // One that has to wait longer finds that out when it is its time.
            Some(tick) if tick >= set => {}
            Some(_) => self.throttle(slot),
            None => self.call(slot, super::core::Call::Refill),
        }
    }

    /// The time has come for which a throttled connection waited, unless it was changed meanwhile.
    pub fn refill(&mut self, timer: Timer) {
        let connection = &self.connections[timer.slot as usize];
        if connection.throttled && connection.rates.as_ref().is_some_and(|rates| rates.refill_tick == timer.tick) {
            self.call(timer.slot, super::core::Call::Refill);
        }
    }

    /// Forgets what a connection has sent if that no longer matters.
    pub fn forget_rates(&mut self, slot: u32) {
        let now = self.now.nanos;
        let connection = self.at(slot);
        if !connection.throttled {
            connection.rates.take_if(|rates| rates.messages.full_at.max(rates.bytes.full_at) <= now);
        }
    }
}

impl<H: Handler> Shard<H> {
    /// A throttled connection goes on, unless it has been given less to send meanwhile.
    pub(super) fn refilled(&mut self, slot: u32) {
        if !std::mem::take(&mut self.core.at(slot).throttled) {
            return;
        }
        self.core.throttle(slot);
        self.handle_stash(slot);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn allowed(change: impl FnOnce(&mut Settings)) -> Option<Allowed> {
        let mut settings = Settings::default();
        change(&mut settings);
        Allowed::of(&settings, None)
    }

    #[test]
    fn without_a_rate_nothing_is_limited_and_bursts_have_their_defaults() {
        assert!(allowed(|_| {}).is_none());
        let found = allowed(|s| s.messages_per_s = 7).unwrap();
        assert_eq!((found.messages, found.bytes), (Rate::new(7, 7), None));
        let found = allowed(|s| (s.messages_per_s, s.messages_burst) = (7, 2)).unwrap();
        assert_eq!(found.messages, Rate::new(7, 2));
        let found = allowed(|s| s.received_bytes_per_s = 1000).unwrap();
        assert_eq!(found.bytes, Rate::new(1000, 16 << 20), "a whole message must pass");
        let found = allowed(|s| (s.received_bytes_per_s, s.message_bytes) = (1000, 10)).unwrap();
        assert_eq!(found.bytes, Rate::new(1000, 1000));
        let found = allowed(|s| (s.received_bytes_per_s, s.received_bytes_burst) = (1000, 20)).unwrap();
        assert_eq!(found.bytes, Rate::new(1000, 20));
    }

    #[test]
    fn limits_of_its_own_go_before_the_settings() {
        let settings = Settings { messages_per_s: 5, ..Settings::default() };
        let own = ConnectionLimits { messages_per_s: Some(0), ..ConnectionLimits::default() };
        assert!(Allowed::of(&settings, Some(&own)).is_none(), "without limit");
        let own = ConnectionLimits { rate_policy: Some(RatePolicy::Close), ..ConnectionLimits::default() };
        let found = Allowed::of(&settings, Some(&own)).unwrap();
        assert_eq!((found.messages, found.policy), (Rate::new(5, 5), RatePolicy::Close));
        let own = |bytes| ConnectionLimits { message_bytes: bytes, ..ConnectionLimits::default() };
        let of = |all, bytes| message_bytes(&Settings { message_bytes: all, ..Settings::default() }, Some(&own(bytes)));
        assert_eq!((of(9, None), of(9, Some(5)), of(9, Some(50))), (9, 5, 9));
        assert_eq!((of(0, None), of(0, Some(5)), of(9, Some(0))), (0, 5, 9));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn in_any_span_no_more_passes_than_the_rate_and_one_burst(
            per_s in 1_u32..5000,
            burst in 1_u32..50,
            gaps in prop::collection::vec(0_u64..2_000_000_000, 1..200),
        ) {
            let allowed = allowed(|s| (s.messages_per_s, s.messages_burst) = (per_s, burst)).unwrap();
            let (mut rates, mut now, mut passed) = (Rates::default(), SECOND, Vec::new());
            for gap in gaps {
                // Many come at once.
                for _ in 0..3 {
                    if allowed.admits(&rates, 0, now) {
                        allowed.take(&mut rates, 0, now);
                        passed.push(now);
                    }
                }
                now += gap;
            }
            for (first, from) in passed.iter().enumerate() {
                for (last, to) in passed.iter().enumerate().skip(first) {
                    let most = f64::from(burst) + f64::from(per_s) * (to - from) as f64 / 1e9 + 1e-3;
                    prop_assert!(((last - first + 1) as f64) <= most);
                }
            }
            prop_assert!(!passed.is_empty());
        }

        #[test]
        fn who_is_slowed_down_gets_the_whole_rate(per_s in 1_u32..20_000, burst in 1_u32..100, bytes in 0_u64..2000) {
            let byte_rate = 1 + u64::from(per_s) * 100;
            let allowed = allowed(|s| {
                (s.messages_per_s, s.messages_burst) = (per_s, burst);
                (s.received_bytes_per_s, s.received_bytes_burst) = (byte_rate, 4000);
            }).unwrap();
            let (mut rates, start) = (Rates::default(), SECOND);
            let (mut now, mut passed) = (start, 0_u64);
            // Always as much as is let in, woken with a tick that is late by almost one.
            while now < start + 30 * SECOND {
                while allowed.refilled_at(&rates) <= now {
                    allowed.take(&mut rates, bytes, now);
                    passed += 1;
                }
                let tick = TICK_MS * 1_000_000;
                now = allowed.refilled_at(&rates).div_ceil(tick) * tick + tick - 1;
            }
            let by_bytes = if bytes == 0 { f64::INFINITY } else { byte_rate as f64 / bytes as f64 };
            let expected = f64::from(per_s).min(by_bytes) * 30.0;
            let slack = f64::from(burst) + 4000.0 / bytes.max(1) as f64 + f64::from(per_s) * 0.02 + 2.0;
            prop_assert!((passed as f64) <= expected * 1.001 + slack, "{passed} of {expected}");
            // A full bucket cannot hold the fraction of a token that comes next: with few tokens a wake-up that is some percent.
            prop_assert!((passed as f64) >= expected * 0.96 - slack, "{passed} of {expected}");
        }
    }

    #[test]
    fn a_message_larger_than_the_burst_needs_a_full_bucket_and_is_paid_for() {
        let allowed = allowed(|s| (s.received_bytes_per_s, s.received_bytes_burst) = (1000, 100)).unwrap();
        let mut rates = Rates::default();
        let mut now = SECOND;
        assert!(allowed.admits(&rates, 5000, now));
        allowed.take(&mut rates, 5000, now);
        now += 4_800_000_000;
        assert!(!allowed.admits(&rates, 1, now), "100 bytes are owed");
        now += 150_000_000;
        assert!(allowed.admits(&rates, 1, now) && !allowed.admits(&rates, 5000, now));
        now += 60_000_000;
        assert!(allowed.admits(&rates, 5000, now));
    }

    #[test]
    fn a_rate_of_any_size_overflows_nothing() {
        for per_s in [1, u64::MAX] {
            for burst in [1, u64::MAX] {
                let rate = Rate::new(per_s, burst).unwrap();
                let mut bucket = Bucket::default();
                for _ in 0..3 {
                    bucket.take(rate, u64::MAX, u64::MAX / 2);
                    bucket.has_at(rate, u64::MAX, SLACK_NANOS);
                }
            }
        }
    }
}

//! What an engine may use, and when it gives up waiting. Every bound has a default. Where 0 turns something off the field
//! says so; a count or size of 0 that nothing could work with is refused at the start ([`Settings::check`]), and a time
//! limit of 0 is over at once.

use std::fmt;
use std::time::Duration;

use ipnet::IpNet;

use crate::pubsub::NAME_BYTES_MAX;
pub use crate::pubsub::name::TopicCharacters;
use crate::ws::handshake::{HEADERS_MAX, Origins};

/// Slots, and what is counted by them, are 32 bits.
const COUNT_MAX: usize = u32::MAX as usize;

/// What happens to a connection that sends more than it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RatePolicy {
    /// It is not read from until it may send again: its own sending blocks.
    #[default]
    SlowDown,
    /// Messages beyond the rate are dropped, and counted.
    Drop,
    /// It is closed (1008).
    Close,
}

impl RatePolicy {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::SlowDown, Self::Drop, Self::Close];

    /// The name in settings.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::SlowDown => "slow-down",
            Self::Drop => "drop",
            Self::Close => "close",
        }
    }
}

impl fmt::Display for RatePolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

/// Where the address of a client is found if the peer is a trusted proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ClientAddress {
    /// The peer of the TCP connection, whatever headers say.
    #[default]
    Peer,
    /// The last address of `X-Forwarded-For` that is no trusted proxy.
    XForwardedFor,
    /// The same of `Forwarded` (RFC 7239).
    Forwarded,
    /// The PROXY protocol, version 1 or 2, in front of the first request; a trusted proxy that does not send it is refused.
    ProxyProtocol,
}

impl ClientAddress {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Peer, Self::XForwardedFor, Self::Forwarded, Self::ProxyProtocol];

    /// The name in settings.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Peer => "peer",
            Self::XForwardedFor => "x-forwarded-for",
            Self::Forwarded => "forwarded",
            Self::ProxyProtocol => "proxy-protocol",
        }
    }
}

impl fmt::Display for ClientAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

/// Limits of one connection where they differ from the settings: `None` is as in [`Settings`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// See [`Settings::message_bytes`]. Applies if it is less than that.
    pub message_bytes: Option<usize>,
    /// See [`Settings::messages_per_s`].
    pub messages_per_s: Option<u32>,
    /// See [`Settings::messages_burst`].
    pub messages_burst: Option<u32>,
    /// See [`Settings::received_bytes_per_s`].
    pub received_bytes_per_s: Option<u64>,
    /// See [`Settings::received_bytes_burst`].
    pub received_bytes_burst: Option<u64>,
    /// See [`Settings::rate_policy`].
    pub rate_policy: Option<RatePolicy>,
    /// See [`Settings::subscriptions_max`].
    pub subscriptions_max: Option<usize>,
    /// See [`Settings::pending_bytes`].
    pub pending_bytes: Option<usize>,
    /// See [`Settings::lifetime`].
    pub lifetime: Option<Duration>,
}

/// The settings of an engine. Topics have their own, see `TopicRules`.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Connections at once, over all shards. Default 1,000,000. One more is answered 503.
    pub connections_max: usize,
    /// Connections at once from one address. Default 0: without limit, as many clients may share one. One more is answered
    /// 429.
    pub connections_per_ip_max: usize,
    /// How many leading bits of an IPv6 address count as one address: a customer is given a whole prefix. Default 64, 1 to
    /// 128. Only a restart changes it.
    pub ipv6_prefix_bits: u8,
    /// New connections a second, over all shards; as many may come at once. Default 0: without limit. Those beyond it wait,
    /// see `accept_queue_max`.
    pub accepts_per_s: u32,
    /// New connections that may wait to be admitted, because of `accepts_per_s` or `handshakes_max`, over all shards. Default
    /// 4,096. One more is answered 503.
    pub accept_queue_max: usize,
    /// How long one may wait so. Default 10 s. Then it is answered 503; at once if it is clear from the beginning that it
    /// would have to wait for longer.
    pub accept_queue_timeout: Duration,
    /// Connections at once whose first request is not complete, over all shards. Default 10,000. More wait, see
    /// `accept_queue_max`.
    pub handshakes_max: usize,
    /// Peers whose word on the address of a client is believed, see `client_address`. Default: none.
    pub trusted_proxies: Vec<IpNet>,
    /// Where the address of a client is found if the peer is among `trusted_proxies`.
    pub client_address: ClientAddress,
    /// The most headers of an HTTP request. Default 64, which is also the most. More are answered 431.
    pub headers_max: usize,
    /// The longest head of an HTTP request, in bytes. Default 8,192. A longer one is answered 431.
    pub head_bytes: usize,
    /// How long a new connection may take to send the head of its first request. Default 10 s. Then it is answered 408.
    pub handshake_timeout: Duration,
    /// The largest message, counted over its fragments, in bytes. Default 16 MiB; 0 is without limit. A larger one is
    /// answered with close code 1009; a larger publication is refused.
    pub message_bytes: usize,
    /// Messages a second from one connection, on average; a ping counts as one, since it is answered. Default 0: without
    /// limit.
    pub messages_per_s: u32,
    /// Messages that may come at once before that. Default 0: as many as in one second.
    pub messages_burst: u32,
    /// Bytes of messages (payloads, paid for when a message is complete) a second from one connection, on average. Default 0:
    /// without limit.
    pub received_bytes_per_s: u64,
    /// Bytes that may come at once before that. Default 0: as many as in one second, and at least one message of
    /// `message_bytes`.
    pub received_bytes_burst: u64,
    /// What happens to a connection that sends more. Default [`RatePolicy::SlowDown`].
    pub rate_policy: RatePolicy,
    /// Bytes of messages half received or not yet handled, of all connections together. Default 1 GiB; 0 is without limit.
    /// Beyond it the connection that asks for more is closed (1013).
    pub inbound_total_bytes: usize,
    /// Bytes that may wait for all connections together whose sockets do not take them. Default 1 GiB; 0 is without limit.
    /// Beyond it each of their queues is treated as if it were at its own bound, and nothing is replayed.
    pub pending_total_bytes: usize,
    /// Bytes kept by the histories of all topics together. Default 1 GiB; 0 is without limit. Beyond it a topic gives up
    /// its oldest publications for its newest.
    pub history_total_bytes: usize,
    /// The longest name of a topic, or pattern, in bytes. Default 255, which is also the most.
    pub topic_name_bytes: usize,
    /// Which characters it may have. Default [`TopicCharacters::Any`].
    pub topic_characters: TopicCharacters,
    /// Bytes that may wait for one connection, over all topics. Default 4 MiB.
    pub pending_bytes: usize,
    /// Messages that may wait for one connection, over all topics. Default 65,536.
    pub pending_messages: usize,
    /// Subscriptions of one connection: topics, those its patterns reach included, and patterns, when another is asked for.
    /// Default 1,024.
    pub subscriptions_max: usize,
    /// Topics that one connection may reach through patterns. Default 10,000: joining or leaving them takes a shard some
    /// microseconds each. A pattern that reaches more is refused; a
    /// connection that comes to reach more because topics are made is closed (1008).
    pub pattern_topics_max: usize,
    /// Topics at once. Default 1,000,000.
    pub topics_max: usize,
    /// How long a topic without subscribers and history is kept. Default 60 s.
    pub topic_idle: Duration,
    /// Publications that may wait in one shard, in its inbox and for subscribers not yet visited. Default 65,536. At the
    /// bound publishers get `Overloaded`.
    pub inbox_messages: usize,
    /// Bytes of publications that may wait so. Default 64 MiB; a single larger one always may.
    pub inbox_bytes: usize,
    /// Commands (sends, closes, subscriptions from other threads) that may wait in one shard's inbox. Default 8,192.
    pub inbox_commands: usize,
    /// Silence of the peer after which it is pinged. Default 30 s; 0 turns pings off.
    pub ping_interval: Duration,
    /// Silence of the peer (no bytes at all, pongs included) after which the connection is closed. Default 120 s; 0 turns it
    /// off.
    pub idle_timeout: Duration,
    /// How long a peer may leave a ping unanswered, before it is closed (1001). Anything that comes is an answer; while the
    /// ping waits behind what the peer has not taken, its time has not begun. Default 0: only `idle_timeout` counts.
    pub pong_timeout: Duration,
    /// How long a client may go without sending a message. Default 0: for ever. Then it is closed (1001).
    pub message_idle_timeout: Duration,
    /// How long a connection may last. Default 0: for ever. Then it is closed (1012): the client comes back, perhaps to
    /// another server.
    pub lifetime: Duration,
    /// By how much lifetimes differ, in percent: each connection's is shorter by up to so much, so that those that came
    /// together do not come back together. Default 10, 0 to 100.
    pub lifetime_jitter_percent: u8,
    /// How long the peer may take to answer a Close frame. Default 5 s.
    pub close_timeout: Duration,
    /// How long a shutdown goes on serving as before, only not "ready" any more, so that load balancers look elsewhere.
    /// Default 0.
    pub shutdown_grace: Duration,
    /// Over how long a shutdown spreads the closing of connections. Default 0: all at once.
    pub shutdown_spread: Duration,
    /// Clients are told at a shutdown to come back after a time of their own, at random up to this: the close code is then
    /// 1012 and the reason `{"retry_after_ms":…}`. Default 0: the code is 1001, without advice.
    pub shutdown_retry: Duration,
    /// How long a shutdown waits for connections to end, once all have been told. Default 10 s.
    pub shutdown_timeout: Duration,
    /// Replace the process of the same user that listens on the same addresses, if there is one: its listeners and its topics,
    /// with histories and positions, go over to this one, and it ends by itself, without `shutdown_grace`. Default false.
    pub takeover: bool,
    /// Whether permessage-deflate (RFC 7692) is agreed on with clients that offer it. Default false. Connections that have agreed
    /// keep it when this changes. Not without a limit in `message_bytes`.
    pub deflate: bool,
    /// Messages with a shorter payload are not compressed, in bytes; of publications, the payload as it was published. Default
    /// 1,024; 0 is without a threshold. A publication keeps to what held when it was published.
    pub deflate_min_bytes: usize,
    /// How hard it is tried: 1 is fastest, 9 smallest. Default 3.
    pub deflate_level: u8,
    /// How often `Handler::tick` is called. Default 0: never.
    pub tick_interval: Duration,
    /// Which web pages may open a WebSocket, by their `Origin`. Default: pages of the same host and port.
    pub origins: Origins,
    /// HTTP connections at once on the control thread. Default 1,024. One more is answered 503.
    pub http_connections_max: usize,
    /// Bytes that may lie unsent in the kernel for one connection (`TCP_NOTSENT_LOWAT`). Default 16 KiB; 0 leaves it to the
    /// kernel, which hides about 4 MB behind a stalled reader.
    pub unsent_bytes: u32,
    /// How long sent data may stay unacknowledged, or a peer's window closed, before the kernel gives up
    /// (`TCP_USER_TIMEOUT`): a reader may not stall for longer, whatever the delivery policy. Default 120 s, as
    /// `idle_timeout`; 0 leaves it to the kernel, which takes about 15 minutes.
    pub user_timeout: Duration,
    /// Sends of one turn before sockets are looked at again. Default 512.
    pub turn_sends: usize,
}

impl Settings {
    /// Checks what nothing could work with.
    ///
    /// # Errors
    /// A sentence that names the setting, its value and the allowed range.
    pub fn check(&self) -> Result<(), String> {
        let bounds = [
            ("connections_max", self.connections_max, COUNT_MAX),
            ("accept_queue_max", self.accept_queue_max, COUNT_MAX),
            ("handshakes_max", self.handshakes_max, COUNT_MAX),
            ("ipv6_prefix_bits", usize::from(self.ipv6_prefix_bits), 128),
            ("deflate_level", usize::from(self.deflate_level), 9),
            ("head_bytes", self.head_bytes, 1 << 20),
            ("headers_max", self.headers_max, HEADERS_MAX),
            ("topic_name_bytes", self.topic_name_bytes, NAME_BYTES_MAX),
            ("pending_bytes", self.pending_bytes, usize::MAX),
            ("pending_messages", self.pending_messages, COUNT_MAX),
            ("subscriptions_max", self.subscriptions_max, COUNT_MAX),
            ("pattern_topics_max", self.pattern_topics_max, COUNT_MAX),
            ("topics_max", self.topics_max, COUNT_MAX),
            ("inbox_messages", self.inbox_messages, 1 << 24),
            ("inbox_bytes", self.inbox_bytes, usize::MAX),
            ("inbox_commands", self.inbox_commands, 1 << 24),
            ("http_connections_max", self.http_connections_max, 1 << 20),
            ("turn_sends", self.turn_sends, COUNT_MAX),
        ];
        if self.lifetime_jitter_percent > 100 {
            return Err(format!("lifetime_jitter_percent is {}: it must be 0 to 100", self.lifetime_jitter_percent));
        }
        if self.deflate && self.message_bytes == 0 {
            return Err(
                "message_bytes is 0, and deflate is on: some bytes that come would become as many as their sender \
                        likes; give message_bytes a limit"
                    .into(),
            );
        }
        match bounds.into_iter().find(|(_, value, most)| !(1..=*most).contains(value)) {
            Some((name, value, most)) => Err(format!("{name} is {value}: it must be 1 to {most}")),
            None => Ok(()),
        }
    }
}

/// Settings that shape what is made at the start, and how to read them.
macro_rules! fixed {
    ($($name:ident),* $(,)?) => {
        impl Settings {
            /// The settings that only a restart changes.
            pub const FIXED: &'static [&'static str] = &[$(stringify!($name)),*];

            /// These settings, but the fixed ones as in `present`; and the names of those that differ.
            pub(crate) fn keeping_fixed(mut self, present: &Self) -> (Self, Vec<&'static str>) {
                let mut differ = Vec::new();
                $(if self.$name != present.$name {
                    differ.push(stringify!($name));
                    self.$name = present.$name.clone();
                })*
                (self, differ)
            }
        }
    };
}

fixed!(
    ipv6_prefix_bits,
    inbox_messages,
    inbox_bytes,
    inbox_commands,
    http_connections_max,
    tick_interval,
    topic_idle,
    topics_max,
    unsent_bytes,
    user_timeout,
    takeover,
);

impl Default for Settings {
    fn default() -> Self {
        Self {
            connections_max: 1_000_000,
            connections_per_ip_max: 0,
            ipv6_prefix_bits: 64,
            accepts_per_s: 0,
            accept_queue_max: 4096,
            accept_queue_timeout: Duration::from_secs(10),
            handshakes_max: 10_000,
            trusted_proxies: Vec::new(),
            client_address: ClientAddress::Peer,
            headers_max: HEADERS_MAX,
            head_bytes: 8192,
            handshake_timeout: Duration::from_secs(10),
            message_bytes: 16 << 20,
            messages_per_s: 0,
            messages_burst: 0,
            received_bytes_per_s: 0,
            received_bytes_burst: 0,
            rate_policy: RatePolicy::SlowDown,
            inbound_total_bytes: 1 << 30,
            pending_total_bytes: 1 << 30,
            history_total_bytes: 1 << 30,
            topic_name_bytes: NAME_BYTES_MAX,
            topic_characters: TopicCharacters::Any,
            pending_bytes: 4 << 20,
            pending_messages: 65_536,
            subscriptions_max: 1024,
            pattern_topics_max: 10_000,
            topics_max: 1_000_000,
            topic_idle: Duration::from_secs(60),
            inbox_messages: 65_536,
            inbox_bytes: 64 << 20,
            inbox_commands: 8192,
            ping_interval: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(120),
            pong_timeout: Duration::ZERO,
            message_idle_timeout: Duration::ZERO,
            lifetime: Duration::ZERO,
            lifetime_jitter_percent: 10,
            close_timeout: Duration::from_secs(5),
            shutdown_grace: Duration::ZERO,
            shutdown_spread: Duration::ZERO,
            shutdown_retry: Duration::ZERO,
            shutdown_timeout: Duration::from_secs(10),
            takeover: false,
            deflate: false,
            deflate_min_bytes: 1024,
            deflate_level: 3,
            tick_interval: Duration::ZERO,
            origins: Origins::SameHost,
            http_connections_max: 1024,
            unsent_bytes: 16 << 10,
            user_timeout: Duration::from_secs(120),
            turn_sends: 512,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_sound_and_a_setting_nothing_could_work_with_is_named() {
        assert_eq!(Settings::default().check(), Ok(()));
        let settings = Settings { inbox_messages: 0, ..Settings::default() };
        assert_eq!(settings.check(), Err("inbox_messages is 0: it must be 1 to 16777216".into()));
        let settings = Settings { http_connections_max: usize::MAX, ..Settings::default() };
        assert!(settings.check().unwrap_err().contains("1048576"));
        for (level, sound) in [(0, false), (1, true), (9, true), (10, false)] {
            assert_eq!(Settings { deflate_level: level, ..Settings::default() }.check().is_ok(), sound, "{level}");
        }
        for (deflate, message_bytes, sound) in [(true, 0, false), (true, 1, true), (false, 0, true)] {
            let settings = Settings { deflate, message_bytes, ..Settings::default() };
            assert_eq!(settings.check().is_ok(), sound, "{deflate} {message_bytes}");
        }
        let settings = Settings { lifetime_jitter_percent: 101, ..Settings::default() };
        assert_eq!(settings.check(), Err("lifetime_jitter_percent is 101: it must be 0 to 100".into()));
    }
}

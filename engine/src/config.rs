//! What an engine may use, and when it gives up waiting. Every bound has a default. Where 0 turns something off the field
//! says so; a count or size of 0 that nothing could work with is refused at the start ([`Settings::check`]), and a time
//! limit of 0 is over at once.

use std::time::Duration;

use crate::ws::handshake::Origins;

/// Slots, and what is counted by them, are 32 bits.
const COUNT_MAX: usize = u32::MAX as usize;

/// The settings of an engine. Topics have their own, see `TopicRules`.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Connections at once, over all shards. Default 1,000,000. One more is answered 503.
    pub connections_max: usize,
    /// The longest head of an HTTP request, in bytes. Default 8,192. A longer one is answered 431.
    pub head_bytes: usize,
    /// How long a new connection may take to send the head of its first request. Default 10 s. Then it is answered 408.
    pub handshake_timeout: Duration,
    /// The largest message, counted over its fragments, in bytes. Default 16 MiB; 0 is without limit. A larger one is
    /// answered with close code 1009; a larger publication is refused.
    pub message_bytes: usize,
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
    /// How long the peer may take to answer a Close frame. Default 5 s.
    pub close_timeout: Duration,
    /// How long a shutdown waits for connections to end. Default 10 s.
    pub shutdown_timeout: Duration,
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
            ("head_bytes", self.head_bytes, 1 << 20),
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
        match bounds.into_iter().find(|(_, value, most)| !(1..=*most).contains(value)) {
            Some((name, value, most)) => Err(format!("{name} is {value}: it must be 1 to {most}")),
            None => Ok(()),
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            connections_max: 1_000_000,
            head_bytes: 8192,
            handshake_timeout: Duration::from_secs(10),
            message_bytes: 16 << 20,
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
            close_timeout: Duration::from_secs(5),
            shutdown_timeout: Duration::from_secs(10),
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
    }
}

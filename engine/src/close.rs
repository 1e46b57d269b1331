//! Every reason a connection ends, in one place: close code, text, metric label, and whether the client may come back.

/// Why a WebSocket connection ended, as the engine saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CloseCause {
    /// The peer sent a Close frame first (RFC 6455 section 5.5.1).
    PeerClose,
    /// The peer ended the TCP connection without a Close frame.
    PeerGone,
    /// The TCP connection was reset, or writing to it failed.
    PeerReset,
    /// The peer broke the framing rules.
    ProtocolError,
    /// Text or a close reason was not UTF-8, or a compressed message could not be inflated.
    InvalidPayload,
    /// A message was larger than `message_bytes`.
    MessageTooBig,
    /// A queue of this connection reached its bound under the policy `disconnect`, or the connection's total bound.
    SlowConsumer,
    /// Its patterns reach more than `pattern_topics_max` topics.
    Overreach,
    /// Nothing was received for `idle_timeout`.
    IdleTimeout,
    /// A ping was not answered within `pong_timeout`.
    PongTimeout,
    /// No message came for `message_idle_timeout`.
    MessageIdle,
    /// Its `lifetime` is over.
    Lifetime,
    /// It sent more than its rates allow, under the policy `close`.
    RateLimit,
    /// All half-received messages together reached `inbound_total_bytes`.
    InboundMemory,
    /// The handler closed it.
    Application,
    /// It was closed from outside: `EngineHandle::close` or the HTTP API.
    Administrative,
    /// The handler panicked while serving it.
    HandlerPanic,
    /// The engine is shutting down.
    Shutdown,
    /// TLS has failed: a record was broken, the peer has sent an alert, or a key is used up (TLS 1.2, after 2^24 records).
    Tls,
}

impl CloseCause {
    /// All causes, in the order of their metric slots.
    pub const ALL: [Self; 19] = [
        Self::PeerClose,
        Self::PeerGone,
        Self::PeerReset,
        Self::ProtocolError,
        Self::InvalidPayload,
        Self::MessageTooBig,
        Self::SlowConsumer,
        Self::Overreach,
        Self::IdleTimeout,
        Self::PongTimeout,
        Self::MessageIdle,
        Self::Lifetime,
        Self::RateLimit,
        Self::InboundMemory,
        Self::Application,
        Self::Administrative,
        Self::HandlerPanic,
        Self::Shutdown,
        Self::Tls,
    ];

    /// The label in metrics and logs.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::PeerClose => "peer_close",
            Self::PeerGone => "peer_gone",
            Self::PeerReset => "peer_reset",
            Self::ProtocolError => "protocol_error",
            Self::InvalidPayload => "invalid_payload",
            Self::MessageTooBig => "message_too_big",
            Self::SlowConsumer => "slow_consumer",
            Self::Overreach => "overreach",
            Self::IdleTimeout => "idle_timeout",
            Self::PongTimeout => "pong_timeout",
            Self::MessageIdle => "message_idle",
            Self::Lifetime => "lifetime",
            Self::RateLimit => "rate_limit",
            Self::InboundMemory => "inbound_memory",
            Self::Application => "application",
            Self::Administrative => "administrative",
            Self::HandlerPanic => "handler_panic",
            Self::Shutdown => "shutdown",
            Self::Tls => "tls",
        }
    }

    /// The close code sent (RFC 6455 section 7.4.1), where the engine chooses it; 1006 where no frame was exchanged.
    /// [`Application`](Self::Application) and [`Administrative`](Self::Administrative) closes carry the code they were given.
    #[must_use]
    pub fn code(self) -> u16 {
        match self {
            Self::PeerClose | Self::Application | Self::Administrative => 1000,
            Self::PeerGone | Self::PeerReset => 1006,
            // That of a TLS failure is never sent: there is nothing left to send it through.
            Self::ProtocolError | Self::Tls => 1002,
            Self::InvalidPayload => 1007,
            Self::MessageTooBig => 1009,
            // "Try again later": a slow consumer may come back and recover from its position.
            Self::SlowConsumer | Self::InboundMemory => 1013,
            Self::Overreach | Self::RateLimit => 1008,
            Self::IdleTimeout | Self::PongTimeout | Self::MessageIdle | Self::Shutdown => 1001,
            // "Service restart": to this client it is one.
            Self::Lifetime => 1012,
            Self::HandlerPanic => 1011,
        }
    }

    /// The text of the Close frame.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::PeerClose | Self::Application | Self::Administrative => "",
            Self::PeerGone => "the peer ended the connection",
            Self::PeerReset => "the connection was reset",
            Self::ProtocolError => "protocol error",
            Self::InvalidPayload => "invalid UTF-8",
            Self::MessageTooBig => "message too big",
            Self::SlowConsumer => "slow consumer",
            Self::Overreach => "patterns reach too many topics",
            Self::IdleTimeout => "idle timeout",
            Self::PongTimeout => "ping not answered",
            Self::MessageIdle => "no message for too long",
            Self::Lifetime => "lifetime over, please reconnect",
            Self::RateLimit => "too many messages",
            Self::InboundMemory => "server out of memory for messages",
            Self::HandlerPanic => "internal error",
            Self::Shutdown => "server shutting down",
            Self::Tls => "TLS failure",
        }
    }

    /// Whether a client should reconnect: it did nothing that would go wrong in the same way again.
    #[must_use]
    pub fn may_reconnect(self) -> bool {
        match self {
            Self::PeerGone
            | Self::PeerReset
            | Self::SlowConsumer
            | Self::IdleTimeout
            | Self::PongTimeout
            | Self::Lifetime
            | Self::InboundMemory
            | Self::HandlerPanic
            | Self::Shutdown
            | Self::Tls => true,
            Self::PeerClose
            | Self::ProtocolError
            | Self::InvalidPayload
            | Self::MessageTooBig
            | Self::Overreach
            | Self::MessageIdle
            | Self::RateLimit
            | Self::Application
            | Self::Administrative => false,
        }
    }
}

/// Why a connection was answered before it became a WebSocket, or dropped without an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RefusalCause {
    /// The HTTP head could not be parsed (400).
    MalformedHead,
    /// The head was longer than `head_bytes` or had too many headers (431).
    HeadTooLarge,
    /// The head was not complete within `handshake_timeout` (408).
    HandshakeTimeout,
    /// An upgrade that breaks RFC 6455 section 4.2.1 (400, 405, 426, 505).
    BadUpgrade,
    /// The `Origin` is not allowed (403).
    Origin,
    /// The handler refused it, with a status of its own.
    Application,
    /// `connections_max` is reached (503).
    Capacity,
    /// `connections_per_ip_max` is reached (429).
    PerIp,
    /// The queue of those who wait to be admitted is full, or it took too long (503).
    AcceptQueue,
    /// A trusted proxy sent no valid PROXY header, which was asked for; dropped without an answer.
    ProxyHeader,
    /// The process has no file descriptor left (503).
    FileDescriptors,
    /// The control plane takes no more HTTP connections (503).
    HttpBusy,
    /// The handler panicked while deciding (500).
    HandlerPanic,
    /// The peer went away before its head was complete.
    Gone,
    /// The engine is ending: an upgrade that came too late (503).
    ShuttingDown,
    /// The TLS handshake failed, and so did whatever came before the upgrade; the peer gets an alert.
    TlsHandshake,
    /// Something else than TLS was spoken to a listener that speaks TLS (400, in the clear).
    PlainOnTls,
    /// TLS was spoken to a listener that does not; the peer gets a fatal alert.
    TlsOnPlain,
}

impl RefusalCause {
    /// All causes, in the order of their metric slots.
    pub const ALL: [Self; 18] = [
        Self::MalformedHead,
        Self::HeadTooLarge,
        Self::HandshakeTimeout,
        Self::BadUpgrade,
        Self::Origin,
        Self::Application,
        Self::Capacity,
        Self::PerIp,
        Self::AcceptQueue,
        Self::ProxyHeader,
        Self::FileDescriptors,
        Self::HttpBusy,
        Self::HandlerPanic,
        Self::Gone,
        Self::ShuttingDown,
        Self::TlsHandshake,
        Self::PlainOnTls,
        Self::TlsOnPlain,
    ];

    /// The label in metrics and logs; also the `code` of the JSON error body.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::MalformedHead => "malformed_head",
            Self::HeadTooLarge => "head_too_large",
            Self::HandshakeTimeout => "handshake_timeout",
            Self::BadUpgrade => "bad_upgrade",
            Self::Origin => "origin_not_allowed",
            Self::Application => "refused",
            Self::Capacity => "capacity",
            Self::PerIp => "too_many_from_address",
            Self::AcceptQueue => "accept_queue",
            Self::ProxyHeader => "proxy_header",
            Self::FileDescriptors => "file_descriptors",
            Self::HttpBusy => "http_busy",
            Self::HandlerPanic => "handler_panic",
            Self::Gone => "gone",
            Self::ShuttingDown => "shutting_down",
            Self::TlsHandshake => "tls_handshake",
            Self::PlainOnTls => "plain_on_tls",
            Self::TlsOnPlain => "tls_on_plain",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_cause_has_a_label_of_its_own_and_stands_at_its_slot() {
        for (slot, cause) in CloseCause::ALL.iter().enumerate() {
            assert_eq!(*cause as usize, slot);
        }
        for (slot, cause) in RefusalCause::ALL.iter().enumerate() {
            assert_eq!(*cause as usize, slot);
        }
        let labels: HashSet<_> = CloseCause::ALL.iter().map(|cause| cause.label()).collect();
        assert_eq!(labels.len(), CloseCause::ALL.len());
        let labels: HashSet<_> = RefusalCause::ALL.iter().map(|cause| cause.label()).collect();
        assert_eq!(labels.len(), RefusalCause::ALL.len());
    }

    #[test]
    fn the_texts_fit_a_control_frame() {
        for cause in CloseCause::ALL {
            assert!(cause.text().len() <= 123);
        }
    }
}

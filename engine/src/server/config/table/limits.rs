//! The rows of the sections `limits`, `compression` and `topics`.

use super::{BYTES_MAX, COUNT_MAX, Row, TEN_YEARS_S, choice, millis, row, seconds, span, switch, whole};
use crate::{DeliveryPolicy, RatePolicy, TopicCharacters};

pub const LIMITS: &[Row] = &[
    row(
        "connections_max",
        whole!("N", 1, COUNT_MAX, settings.connections_max),
        "Connections at once; one more is answered 503.",
    ),
    row(
        "connections_per_ip_max",
        whole!("N", 0, COUNT_MAX, settings.connections_per_ip_max),
        "Connections at once from one address; one more is answered 429. Many clients may share an address.",
    )
    .zero("without limit"),
    row(
        "ipv6_prefix_bits",
        whole!("BITS", 1, 128, settings.ipv6_prefix_bits),
        "How many leading bits of an IPv6 address count as one address.",
    )
    .restart(),
    row(
        "accepts_per_s",
        whole!("N", 0, COUNT_MAX, settings.accepts_per_s),
        "New connections a second; those beyond wait, see 'accept_queue_max'.",
    )
    .zero("without limit"),
    row(
        "accept_queue_max",
        whole!("N", 1, COUNT_MAX, settings.accept_queue_max),
        "New connections that may wait, because of 'accepts_per_s' or 'handshakes_max'; one more is answered 503.",
    ),
    row(
        "accept_queue_timeout_s",
        seconds!(1, 3600, settings.accept_queue_timeout),
        "How long one may wait so; then it is answered 503.",
    ),
    row(
        "handshakes_max",
        whole!("N", 1, COUNT_MAX, settings.handshakes_max),
        "Connections at once whose first request is not complete; more wait.",
    ),
    row(
        "head_bytes",
        whole!("BYTES", 128, 1 << 20, settings.head_bytes),
        "Longest head of an HTTP request; a longer one is answered 431.",
    ),
    row(
        "headers_max",
        whole!("N", 1, 64, settings.headers_max),
        "Most headers of an HTTP request; more are answered 431.",
    ),
    row(
        "handshake_timeout_s",
        seconds!(1, 3600, settings.handshake_timeout),
        "In how long the head of a connection's first request must be complete; else the answer is 408.",
    ),
    row(
        "message_bytes",
        whole!("BYTES", 1, 1 << 30, settings.message_bytes),
        "Longest message and longest HTTP body; the close code for a longer one is 1009.",
    ),
    row(
        "messages_per_s",
        whole!("N", 0, COUNT_MAX, settings.messages_per_s),
        "Messages a second from one connection, on average; 'rate_policy' says what happens to more.",
    )
    .zero("without limit"),
    row(
        "messages_burst",
        whole!("N", 0, COUNT_MAX, settings.messages_burst),
        "Messages that may come at once before that.",
    )
    .zero("as many as in one second"),
    row(
        "received_bytes_per_s",
        whole!("BYTES", 0, BYTES_MAX, settings.received_bytes_per_s),
        "Bytes of messages a second from one connection, on average; 'rate_policy' says what happens to more.",
    )
    .zero("without limit"),
    row(
        "received_bytes_burst",
        whole!("BYTES", 0, BYTES_MAX, settings.received_bytes_burst),
        "Bytes that may come at once before that.",
    )
    .zero("as many as in one second, and at least one message of 'message_bytes'"),
    row(
        "rate_policy",
        choice!(RatePolicy::ALL, &["slow-down", "drop", "close"], settings.rate_policy),
        "What happens to a connection that sends more: it is not read from until it may send again, what is too much is \
         dropped, or it is closed (1008).",
    ),
    row(
        "inbound_total_bytes",
        whole!("BYTES", 0, BYTES_MAX, settings.inbound_total_bytes),
        "Bytes of messages half received or not yet handled, of all connections together; the connection that asks for \
         more is closed (1013).",
    )
    .zero("without limit"),
    row(
        "pending_bytes",
        whole!("BYTES", 1024, BYTES_MAX, settings.pending_bytes),
        "Bytes that may wait for one connection, over all its topics; beyond, the policy of the topic decides.",
    ),
    row(
        "pending_messages",
        whole!("N", 1, COUNT_MAX, settings.pending_messages),
        "Messages that may wait for one connection, over all its topics.",
    ),
    row(
        "pending_total_bytes",
        whole!("BYTES", 0, BYTES_MAX, settings.pending_total_bytes),
        "Bytes that may wait for all connections together; beyond, each queue is treated as if it were at its own bound.",
    )
    .zero("without limit"),
    row(
        "history_total_bytes",
        whole!("BYTES", 0, BYTES_MAX, settings.history_total_bytes),
        "Bytes kept by the histories of all topics together; beyond, a topic gives up its oldest publications for its \
         newest. Compressed copies come on top.",
    )
    .zero("without limit"),
    row(
        "subscriptions_max",
        whole!("N", 1, COUNT_MAX, settings.subscriptions_max),
        "Subscriptions of one connection, the topics that its patterns reach included, when another is asked for.",
    ),
    row(
        "pattern_topics_max",
        whole!("N", 1, COUNT_MAX, settings.pattern_topics_max),
        "Topics that one connection may reach through patterns.",
    ),
    row("topics_max", whole!("N", 1, COUNT_MAX, settings.topics_max), "Topics at once; one more is refused.").restart(),
    row(
        "topic_name_bytes",
        whole!("BYTES", 1, 255, settings.topic_name_bytes),
        "Longest name of a topic, or pattern.",
    ),
    row(
        "topic_characters",
        choice!(TopicCharacters::ALL, &["any", "ascii", "word"], settings.topic_characters),
        "Characters that names of topics may have: any but control characters; printable ASCII without the blank; or \
         letters, digits and '. _ - : / @ $'.",
    ),
    row(
        "topic_idle_s",
        seconds!(1, TEN_YEARS_S, settings.topic_idle),
        "How long a topic is kept that has neither subscribers nor history.",
    )
    .restart(),
    row(
        "ping_interval_s",
        seconds!(0, TEN_YEARS_S, settings.ping_interval),
        "Silence after which a connection is pinged.",
    )
    .zero("never"),
    row(
        "pong_timeout_s",
        seconds!(0, TEN_YEARS_S, settings.pong_timeout),
        "How long a ping may stay unanswered; then the connection is closed.",
    )
    .zero("only 'idle_timeout_s' counts"),
    row(
        "idle_timeout_s",
        seconds!(0, TEN_YEARS_S, settings.idle_timeout),
        "Silence (no bytes at all) after which a connection is closed.",
    )
    .zero("never"),
    row(
        "message_idle_timeout_s",
        seconds!(0, TEN_YEARS_S, settings.message_idle_timeout),
        "How long a client may go without sending a message; then it is closed (1001).",
    )
    .zero("for ever"),
    row(
        "lifetime_s",
        seconds!(0, TEN_YEARS_S, settings.lifetime),
        "How long a connection may last; then it is closed (1012), and the client comes back.",
    )
    .zero("for ever"),
    row(
        "lifetime_jitter_percent",
        whole!("PERCENT", 0, 100, settings.lifetime_jitter_percent),
        "By up to how much the lifetime of each connection is shorter, at random.",
    ),
    row(
        "close_timeout_s",
        seconds!(1, 3600, settings.close_timeout),
        "How long a client may take to answer a Close frame.",
    ),
    row(
        "turn_sends",
        whole!("N", 1, COUNT_MAX, settings.turn_sends),
        "Sends that a thread makes before it looks at its sockets again.",
    ),
    row(
        "inbox_messages",
        whole!("N", 1, 1 << 24, settings.inbox_messages),
        "Publications that may wait in one thread; at the bound publishers have to wait (HTTP: 503).",
    )
    .restart(),
    row(
        "inbox_bytes",
        whole!("BYTES", 1024, BYTES_MAX, settings.inbox_bytes),
        "Bytes of publications that may wait so; a single larger one always may.",
    )
    .restart(),
    row(
        "inbox_commands",
        whole!("N", 1, 1 << 24, settings.inbox_commands),
        "Commands (sends, closes, subscriptions made from outside) that may wait in one thread.",
    )
    .restart(),
];

pub const COMPRESSION: &[Row] = &[
    row(
        "deflate",
        switch!(settings.deflate),
        "Compress messages for clients that offer it (permessage-deflate, RFC 7692), as all browsers do. Read SECURITY.md \
         on secrets first. Connections that have agreed on it keep it when this changes.",
    ),
    row(
        "deflate_min_bytes",
        whole!("BYTES", 0, 1 << 30, settings.deflate_min_bytes),
        "Messages with a shorter payload are not compressed; of publications, the payload as it was published.",
    )
    .zero("all are tried"),
    row(
        "deflate_level",
        whole!("LEVEL", 1, 9, settings.deflate_level),
        "How hard it is tried: 1 is fastest, 9 smallest.",
    ),
];

pub const TOPICS: &[Row] = &[
    row(
        "history_messages",
        whole!("N", 0, COUNT_MAX, topic_default.history_messages),
        "Publications kept for each topic, for clients that come back.",
    )
    .zero("none"),
    row(
        "history_bytes",
        whole!("BYTES", 0, BYTES_MAX, topic_default.history_bytes),
        "Bytes of publications kept for each topic.",
    )
    .zero("none"),
    row("history_age_s", seconds!(0, TEN_YEARS_S, topic_default.history_age), "How long a publication is kept.")
        .zero("without limit"),
    row(
        "policy",
        choice!(
            [
                DeliveryPolicy::Disconnect,
                DeliveryPolicy::DropOldest,
                DeliveryPolicy::DropNewest,
                DeliveryPolicy::Conflate
            ],
            &["disconnect", "drop-oldest", "drop-newest", "conflate"],
            topic_default.policy
        ),
        "What happens to a subscriber that is too slow when a bound is reached: it is disconnected, its oldest or newest \
         publications are dropped, or only the newest of each key waits.",
    ),
    row(
        "topic_pending_messages",
        whole!("N", 1, COUNT_MAX, topic_default.pending_messages),
        "Publications of one topic that may wait for one subscriber.",
    ),
    row(
        "topic_pending_bytes",
        whole!("BYTES", 1, BYTES_MAX, topic_default.pending_bytes),
        "Bytes of one topic that may wait for one subscriber; one publication always may.",
    ),
    row(
        "topic_pending_age_ms",
        millis!(0, TEN_YEARS_S * 1000, topic_default.pending_age),
        "How long a publication may wait for one subscriber; then it is dropped.",
    )
    .zero("without limit"),
];

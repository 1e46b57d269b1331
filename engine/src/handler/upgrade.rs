//! What a handler is asked before anything is answered, and what it may answer.

use std::fmt;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use crate::config::ConnectionLimits;
use crate::id::ConnectionId;
use crate::net::tls::ClientCertificate;
use crate::ws::deflate::Window;
use crate::ws::handshake;

/// A request to become a WebSocket, before it is answered.
#[derive(Debug)]
pub struct Upgrade<'a> {
    pub(crate) request: handshake::Request<'a>,
    pub(crate) peer: SocketAddr,
    pub(crate) local: SocketAddr,
    pub(crate) id: Option<ConnectionId>,
    pub(crate) is_tls: bool,
    pub(crate) certificate: Option<&'a ClientCertificate>,
}

impl<'a> Upgrade<'a> {
    /// The path of the target, as sent (not percent-decoded), without the query.
    #[must_use]
    pub fn path(&self) -> &str {
        self.request.path()
    }

    /// The path, percent-decoded; `None` if that is not UTF-8.
    #[must_use]
    pub fn path_decoded(&self) -> Option<String> {
        percent_encoding::percent_decode_str(self.path()).decode_utf8().ok().map(Into::into)
    }

    /// The query, as sent, without the `?`.
    #[must_use]
    pub fn query(&self) -> Option<&str> {
        self.request.query()
    }

    /// The first value of a query parameter, decoded (`+` and percent).
    #[must_use]
    pub fn query_value(&self, name: &str) -> Option<String> {
        query_value(self.query().unwrap_or(""), name)
    }

    /// The first header of this name (case does not matter), if it is text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.request.header(name)
    }

    /// All headers as sent, in order.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.request.headers.iter().map(|header| (header.name, header.value))
    }

    /// The value of a cookie.
    #[must_use]
    pub fn cookie(&self, name: &str) -> Option<&str> {
        self.request.cookie(name)
    }

    /// The subprotocols offered, in order.
    pub fn protocols(&self) -> impl Iterator<Item = &str> {
        self.request.protocols()
    }

    /// The first offered subprotocol that is among `supported`.
    #[must_use]
    pub fn choose_protocol<'p>(&self, supported: &[&'p str]) -> Option<&'p str> {
        handshake::choose_protocol(self.protocols(), supported)
    }

    /// The address of the client: of the peer, or what a trusted proxy says it is (port 0 if it does not say).
    #[must_use]
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// The address it connected to.
    #[must_use]
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// Whether it came through TLS (`wss://`).
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.is_tls
    }

    /// The certificate the client has shown in the TLS handshake. It has been verified against the authorities that were
    /// configured; without any, nobody is asked for one.
    #[must_use]
    pub fn client_certificate(&self) -> Option<&ClientCertificate> {
        self.certificate
    }

    /// The connection's name, if it is accepted; `None` for an upgrade on a connection that has carried HTTP before.
    #[must_use]
    pub fn id(&self) -> Option<ConnectionId> {
        self.id
    }
}

/// The first value of a query parameter, decoded.
#[must_use]
pub(crate) fn query_value(query: &str, name: &str) -> Option<String> {
    let decode = |text: &str| {
        let spaced = text.replace('+', " ");
        percent_encoding::percent_decode_str(&spaced).decode_utf8_lossy().into_owned()
    };
    query.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode(key) == name).then(|| decode(value))
    })
}

/// What becomes of an upgrade.
#[must_use]
pub enum Decision<D> {
    /// It becomes a connection.
    Accept(Accept<D>),
    /// It is answered and closed.
    Refuse(Refusal),
    /// It takes asking somebody else. The request goes to the control thread, the handler is asked again there, and what it
    /// then gives back is awaited, for 30 s at most. A shard does not wait.
    Later(Later<D>),
}

/// The decision on an upgrade, still to come. Must not decide on another `Later`: that is answered 500.
pub type Later<D> = Pin<Box<dyn Future<Output = Decision<D>> + Send>>;

impl<D: fmt::Debug> fmt::Debug for Decision<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accept(accept) => f.debug_tuple("Accept").field(accept).finish(),
            Self::Refuse(refusal) => f.debug_tuple("Refuse").field(refusal).finish(),
            Self::Later(_) => f.write_str("Later"),
        }
    }
}

impl<D> Decision<D> {
    /// Accepts, with this data for the connection.
    pub fn accept(data: D) -> Self {
        Accept::new(data).into()
    }

    /// Refuses, with an HTTP status and a text.
    pub fn refuse(status: u16, text: &str) -> Self {
        Refusal::new(status).text(text).into()
    }
}

/// An accepted upgrade: per-connection data, subprotocol, extra headers of the answer.
#[derive(Debug)]
pub struct Accept<D> {
    pub(crate) data: D,
    pub(crate) protocol: Option<String>,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) terms: Terms,
    pub(crate) uncompressed: bool,
}

/// What an accepted connection has beside its data.
#[derive(Debug, Default)]
pub(crate) struct Terms {
    pub(crate) subject: Option<Arc<str>>,
    pub(crate) limits: Option<Box<ConnectionLimits>>,
    /// What may be sent to it compressed, if permessage-deflate was agreed on.
    pub(crate) window: Option<Window>,
}

impl<D> Accept<D> {
    /// Accepts, with this data for the connection.
    pub fn new(data: D) -> Self {
        Self { data, protocol: None, headers: Vec::new(), terms: Terms::default(), uncompressed: false }
    }

    /// Says whose connection it is, see [`Context::set_subject`].
    ///
    /// [`Context::set_subject`]: super::Context::set_subject
    #[must_use]
    pub fn subject(mut self, subject: &str) -> Self {
        self.terms.subject = Some(subject.into());
        self
    }

    /// Gives the connection limits of its own, see [`Context::set_limits`].
    ///
    /// [`Context::set_limits`]: super::Context::set_limits
    #[must_use]
    pub fn limits(mut self, limits: ConnectionLimits) -> Self {
        self.terms.limits = Some(Box::new(limits));
        self
    }

    /// Names the subprotocol, if any was chosen. One that was not offered is left out of the answer, as RFC 6455 section
    /// 4.2.2 demands.
    #[must_use]
    pub fn protocol(mut self, protocol: Option<&str>) -> Self {
        self.protocol = protocol.map(Into::into);
        self
    }

    /// Does without compression (permessage-deflate, RFC 7692) for this connection, though the settings have it and the client
    /// offers it: for what is compressed already, or when secrets and what somebody else says come together in one message.
    #[must_use]
    pub fn uncompressed(mut self) -> Self {
        self.uncompressed = true;
        self
    }

    /// Adds a header to the answer. One that is no valid header makes the upgrade fail with 500, counted as a refusal. With
    /// `Sec-WebSocket-Extensions` the program answers the offers itself: the engine agrees on no compression then.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }
}

impl<D> From<Accept<D>> for Decision<D> {
    fn from(accept: Accept<D>) -> Self {
        Self::Accept(accept)
    }
}

/// A refused upgrade: the HTTP answer.
#[derive(Debug, Clone)]
pub struct Refusal {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) content_type: &'static str,
    pub(crate) body: Vec<u8>,
}

impl Refusal {
    /// Refuses with this HTTP status (300 to 599; anything else becomes 500) and no body.
    #[must_use]
    pub fn new(status: u16) -> Self {
        let status = if (300..600).contains(&status) { status } else { 500 };
        Self { status, headers: Vec::new(), content_type: "text/plain; charset=utf-8", body: Vec::new() }
    }

    /// A plain text as body.
    #[must_use]
    pub fn text(mut self, text: &str) -> Self {
        self.body = text.into();
        self
    }

    /// The JSON error body of the HTTP API: `{"code","message"}`.
    #[must_use]
    pub fn error(mut self, code: &str, message: &str) -> Self {
        self.content_type = "application/json";
        self.body = serde_json::json!({ "code": code, "message": message }).to_string().into();
        self
    }

    /// Adds a header to the answer; ignored if it is no valid header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        if handshake::is_header_name(name) && handshake::is_header_value(value) {
            self.headers.push((name.into(), value.into()));
        }
        self
    }
}

impl<D> From<Refusal> for Decision<D> {
    fn from(refusal: Refusal) -> Self {
        Self::Refuse(refusal)
    }
}

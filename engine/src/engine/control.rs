//! The control plane: one thread with a single-threaded runtime. It serves HTTP on the sockets that shards hand over, gives
//! upgraded ones back, and forgets topics that nobody needs.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::response::IntoResponse;
use http::header::CONNECTION;
use http::{HeaderValue, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tower::ServiceExt;

use super::{EngineHandle, MakeRouter, private};
use crate::close::RefusalCause;
use crate::config::Settings;
use crate::handler::{Accept, Decision, Handler, Terms, Upgrade};
use crate::id::ConnectionId;
use crate::net::client_address::{self, FORWARDING};
use crate::net::handover::Handover;
use crate::net::http_socket::HttpSocket;
use crate::net::takeover::Holding;
use crate::net::tls::{ClientCertificate, Security};
use crate::shard::inbox::{Adoption, Command};
use crate::shard::{agree_deflate, bad_header, log::Meter, shared::Shared, stop, take_deflate};
use crate::ws::deflate::Agreed;
use crate::ws::handshake::{self, check_upgrade, wants_upgrade};

/// How long a route may take to answer, its request's body included.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// How long requests under way may take when the engine ends.
const FAREWELL: Duration = Duration::from_secs(2);
/// How long a connection that has not asked anything yet may take to then.
pub const FIRST_REQUEST: Duration = Duration::from_secs(1);
/// The smallest buffer hyper works with, in bytes; `head_bytes` below that are checked once a head is whole.
const HTTP_BUFFER_MIN: usize = 8192;

/// The data of an accepted upgrade and its answer, or the answer to a refused one.
type Decided<D> = Result<(D, Terms, Response<Body>), Box<Response<Body>>>;

/// What the handler says, and what is needed to act on it.
type Asked<D> = Result<(Decision<D>, Wanted), Box<Response<Body>>>;

/// Where an HTTP request comes from: an extension of every request that the routes see.
#[derive(Debug, Clone)]
pub struct Arrival {
    /// The address of the client: of the peer, or what a trusted proxy says it is.
    pub client: SocketAddr,
    /// The peer of the TCP connection.
    pub peer: SocketAddr,
    /// The address it connected to.
    pub local: SocketAddr,
    /// Whether somebody says that the request was forwarded, trusted or not: it has a header `Forwarded`,
    /// `X-Forwarded-…`, `X-Real-IP`, `Via`, or one of their kind, or there was a PROXY header in front of the connection; or
    /// it is of HTTP/1.0, which hardly anybody speaks but a proxy that was told nothing else.
    pub forwarded: bool,
    /// Whether it came over a listener that is for HTTP only.
    pub private: bool,
    /// Whether it came through TLS (`https://`). A request that a proxy has taken out of TLS did not.
    pub tls: bool,
    /// The certificate the client has shown in the TLS handshake, verified.
    pub client_certificate: Option<Arc<ClientCertificate>>,
}

/// The control plane before it runs.
pub struct Control<H: Handler> {
    plane: Arc<Plane<H>>,
    make_router: Option<MakeRouter>,
    handovers: mpsc::Receiver<Handover>,
    private: Vec<(TcpListener, Arc<Holding>, Security)>,
    sweep: Duration,
}

pub struct Plane<H: Handler> {
    pub engine: EngineHandle,
    handler: Arc<H>,
    /// What of refused upgrades has been logged lately.
    pub(super) told: Mutex<Meter>,
}

impl<H: Handler> Control<H> {
    pub fn new(
        engine: EngineHandle,
        handler: Arc<H>,
        make_router: Option<MakeRouter>,
        handovers: mpsc::Receiver<Handover>,
        private: Vec<(TcpListener, Arc<Holding>, Security)>,
        sweep: Duration,
    ) -> Self {
        Self {
            plane: Arc::new(Plane { engine, handler, told: Mutex::default() }),
            make_router,
            handovers,
            private,
            sweep,
        }
    }

    /// Runs until it is told to stop.
    pub fn run(self, runtime: &tokio::runtime::Runtime, stopped: oneshot::Receiver<()>) {
        runtime.block_on(self.serve(stopped));
    }

    async fn serve(mut self, mut stopped: oneshot::Receiver<()>) {
        let engine = self.plane.engine.clone();
        let router = match self.make_router.take() {
            Some(make_router) => make_router(engine.clone()),
            None => Router::new().fallback(upgrade_required),
        };
        let (farewell, farewells) = watch::channel(());
        for (listener, holding, security) in self.private {
            let (plane, router) = (self.plane.clone(), router.clone());
            tokio::spawn(private::serve(plane, router, listener, security, holding, farewells.clone()));
        }
        let mut sweep = tokio::time::interval(self.sweep);
        loop {
            tokio::select! {
                _ = &mut stopped => break,
                _ = sweep.tick() => {
                    let shared = engine.shared();
                    shared.topics.sweep(shared.clock.now(), &shared.inboxes);
                }
                handover = self.handovers.recv() => match handover {
                    Some(handover) => {
                        let (plane, router) = (self.plane.clone(), router.clone());
                        tokio::spawn(serve_connection(plane, router, handover, false, farewells.clone()));
                    }
                    None => break,
                }
            }
        }
        // The shards have ended: this is all that they have still handed over.
        while let Ok(handover) = self.handovers.try_recv() {
            let (plane, router) = (self.plane.clone(), router.clone());
            tokio::spawn(serve_connection(plane, router, handover, false, farewells.clone()));
        }
        drop(farewells);
        let _ = farewell.send(());
        let _ = tokio::time::timeout(FIRST_REQUEST + FAREWELL, farewell.closed()).await;
    }
}

async fn upgrade_required() -> impl IntoResponse {
    let body = serde_json::json!({ "code": "upgrade_required", "message": "this is a WebSocket server" }).to_string();
    let headers = [("Upgrade", "websocket"), ("Content-Type", "application/json")];
    (StatusCode::UPGRADE_REQUIRED, headers, body)
}

/// A connection as it is counted; counts it out when it is done with, however that comes.
struct Counted {
    shared: Arc<Shared>,
    /// The address of the client among whose connections it is, if that is known.
    client: Option<IpAddr>,
    /// A shard has taken it over, and counts it out.
    adopted: bool,
}

impl Counted {
    /// It is this client's connection. False, and nothing has changed, if he has too many.
    fn claim(&mut self, client: IpAddr, max: usize) -> bool {
        let addresses = &self.shared.addresses;
        if self.client.is_some_and(|own| addresses.is_same(own, client)) {
            return true;
        }
        if !addresses.enter(client, max) {
            return false;
        }
        if let Some(other) = self.client.replace(client) {
            addresses.leave(other);
        }
        true
    }

    /// It is nobody's in particular: a proxy's, who sends requests of many.
    fn disclaim(&mut self) {
        if let Some(client) = self.client.take() {
            self.shared.addresses.leave(client);
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.shared.http_connections.fetch_sub(1, Ordering::Relaxed);
        if !self.adopted {
            self.shared.release_connection(self.client);
        }
    }
}

/// Where a connection comes from and goes to.
#[derive(Debug, Clone)]
struct Route {
    peer: SocketAddr,
    /// The peer, or whom a PROXY header names.
    client: SocketAddr,
    /// There was a PROXY header that speaks of somebody else's connection.
    proxied: bool,
    local: SocketAddr,
    /// It came over a listener for HTTP only.
    private: bool,
    tls: bool,
    certificate: Option<Arc<ClientCertificate>>,
}

impl Route {
    /// The same as a request on it says.
    fn arrival(&self, request: &Request<Incoming>, settings: &Settings, shared: &Shared) -> Arrival {
        let headers = request.headers();
        let is_old = request.version() < http::Version::HTTP_11;
        let forwarded = self.proxied || is_old || FORWARDING.iter().any(|name| headers.contains_key(*name));
        let client = match client_address::header_name(settings, self.peer.ip()) {
            Some(name) => {
                let values = headers.get_all(name).iter().map(http::HeaderValue::as_bytes);
                client_address::client(settings, self.peer, values)
            }
            None => self.client,
        };
        let client_certificate = self.certificate.clone().filter(|certificate| shared.trusts(certificate));
        let (peer, local, private, tls) = (self.peer, self.local, self.private, self.tls);
        Arrival { client, peer, local, forwarded, private, tls, client_certificate }
    }
}

/// Serves one connection until its end, or ours.
pub async fn serve_connection<H: Handler>(
    plane: Arc<Plane<H>>,
    router: Router,
    handover: Handover,
    private: bool,
    mut farewell: watch::Receiver<()>,
) {
    let shared = plane.engine.shared().clone();
    let Handover { stream, tls, peer, client, proxied, counted, read } = handover;
    // An upgraded connection stays counted: it is a shard's from then on.
    let counted = Counted { shared: shared.clone(), client: counted.then_some(client.ip()), adopted: false };
    let counted = Arc::new(Mutex::new(counted));
    let Ok(mut socket) = HttpSocket::new(stream, tls, read) else { return };
    let Ok(local) = socket.local_addr() else { return };
    let settings = shared.settings();
    if !plane.greet(&mut socket, peer, &settings, farewell.clone()).await {
        return;
    }
    let tls = socket.tls();
    let certificate = tls.and_then(ClientCertificate::of).map(Arc::new);
    let route = Route { peer, client, proxied, local, private, tls: tls.is_some(), certificate };
    let asked = Notify::new();
    let service = service_fn(|request: Request<Incoming>| {
        let (plane, router, counted, route) = (plane.clone(), router.clone(), counted.clone(), route.clone());
        asked.notify_one();
        async move {
            let shared = plane.engine.shared();
            shared.control.requests.add(1);
            let settings = shared.settings();
            let mut response = if let Some(response) = too_large(&request, &settings) {
                shared.control.refusals[RefusalCause::HeadTooLarge as usize].add(1);
                response
            } else if is_upgrade(&request) {
                if private {
                    error(StatusCode::FORBIDDEN, "http_only", "this address is for HTTP only")
                } else {
                    plane.upgrade(request, route, &settings, counted).await
                }
            } else {
                let arrival = route.arrival(&request, &settings, shared);
                plane.answer(router, request, arrival).await
            };
            if plane.is_left(local) {
                response.headers_mut().entry(CONNECTION).or_insert(HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(response)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(settings.handshake_timeout)
        .max_buf_size(settings.head_bytes.max(HTTP_BUFFER_MIN))
        .serve_connection(TokioIo::new(socket), service)
        .with_upgrades();
    tokio::pin!(connection);
    // What ends a connection here (a bad head, a reset, a time limit) hyper has answered if it could be.
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        _ = farewell.changed() => {
            // hyper drops a connection that has to end before its first request; but that is on its way.
            tokio::select! {
                ended = connection.as_mut() => return note_head(&shared, &ended),
                () = asked.notified() => {}
                () = tokio::time::sleep(FIRST_REQUEST) => {}
            }
            connection.as_mut().graceful_shutdown();
            tokio::time::timeout(FAREWELL, connection).await.unwrap_or(Ok(()))
        }
    };
    note_head(&shared, &ended);
}

/// Counts a connection that ended because of its head.
fn note_head(shared: &Shared, ended: &Result<(), hyper::Error>) {
    if let Err(error) = ended
        && error.is_parse()
    {
        let cause = if error.is_parse_too_large() { RefusalCause::HeadTooLarge } else { RefusalCause::MalformedHead };
        shared.control.refusals[cause as usize].add(1);
    }
}

/// The answer to a request whose head is larger than the settings allow. The same rules as on a shard; only blanks around
/// values are not counted, as they are gone by now.
fn too_large(request: &Request<Incoming>, settings: &Settings) -> Option<Response<Body>> {
    let headers = request.headers();
    let (limit, most) = (settings.head_bytes, settings.headers_max);
    let target = request.uri().path_and_query().map_or(1, |target| target.as_str().len());
    // "GET / HTTP/1.1", "name: value", and an empty line, each with its line break.
    let first = request.method().as_str().len() + target + 12;
    let lines = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4);
    let message = if headers.len() > most {
        format!("the request has more headers than headers_max, which is {most}")
    } else if first + lines.sum::<usize>() + 2 > limit {
        format!("the head of the request is longer than head_bytes, which is {limit}")
    } else {
        return None;
    };
    let mut response = error(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, RefusalCause::HeadTooLarge.label(), &message);
    response.headers_mut().insert(http::header::CONNECTION, http::HeaderValue::from_static("close"));
    Some(response)
}

fn is_upgrade(request: &Request<Incoming>) -> bool {
    let upgrades = request.headers().get_all(http::header::UPGRADE).iter();
    upgrades
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.split(',').any(|token| token.trim().eq_ignore_ascii_case("websocket")))
}

fn error(status: StatusCode, code: &str, message: &str) -> Response<Body> {
    let body = serde_json::json!({ "code": code, "message": message }).to_string();
    (status, [("Content-Type", "application/json")], body).into_response()
}

impl<H: Handler> Plane<H> {
    /// Whether somebody else serves this address from now on: whoever is still here shall go there.
    fn is_left(&self, local: SocketAddr) -> bool {
        self.engine.shared().holdings.iter().any(|holding| holding.is_left_to_others() && holding.serves(local))
    }

    /// Asks the routes; a route that panics is answered for with 500.
    async fn answer(&self, router: Router, mut request: Request<Incoming>, arrival: Arrival) -> Response<Body> {
        request.extensions_mut().insert(ConnectInfo(arrival.client));
        request.extensions_mut().insert(arrival);
        let request = request.map(Body::new);
        let answered = tokio::spawn(tokio::time::timeout(ANSWER_TIMEOUT, router.oneshot(request)));
        match answered.await {
            Ok(Ok(Ok(response))) => response,
            Ok(Err(_)) => error(StatusCode::REQUEST_TIMEOUT, "request_timeout", "the request took longer than 30 s"),
            Ok(Ok(Err(never))) => match never {},
            Err(_) => {
                self.engine.shared().control.handler_panics.add(1);
                error(StatusCode::INTERNAL_SERVER_ERROR, "handler_panic", "internal error")
            }
        }
    }

    /// Decides an upgrade on a connection that has carried HTTP before, or that is decided later, by the same rules as a
    /// shard.
    async fn upgrade(
        self: &Arc<Self>,
        mut request: Request<Incoming>,
        route: Route,
        settings: &Settings,
        counted: Arc<Mutex<Counted>>,
    ) -> Response<Body> {
        let upgraded = hyper::upgrade::on(&mut request);
        let arrival = route.arrival(&request, settings, self.engine.shared());
        let decided = match self.ask(&request, &arrival, settings, &counted) {
            Ok((decision, wanted)) => self.decide(decision, wanted).await,
            Err(response) => Err(response),
        };
        match decided {
            Err(response) => {
                self.tell_refused(arrival.client, response.status());
                if client_address::header_name(settings, route.peer.ip()).is_some() {
                    // The next request may be somebody else's.
                    counted.lock().disclaim();
                }
                *response
            }
            Ok((data, terms, response)) => {
                self.engine.shared().control.upgrades.add(1);
                let plane = self.clone();
                let client = arrival.client;
                tokio::spawn(async move {
                    let Ok(upgraded) = upgraded.await else { return };
                    plane.give_back(upgraded, client, data, terms, &counted);
                });
                response
            }
        }
    }

    /// The answer to an upgrade that comes too late.
    fn refuse_if_stopping(&self) -> Result<(), Box<Response<Body>>> {
        if !self.engine.shared().turns_away() {
            return Ok(());
        }
        let mut response = refuse(503, RefusalCause::ShuttingDown.label(), "the server is ending");
        extend(response.headers_mut(), &stop::retry_after(&self.engine.shared().settings()));
        Err(response)
    }

    /// Asks the handler.
    fn ask(
        &self,
        request: &Request<Incoming>,
        arrival: &Arrival,
        settings: &Settings,
        counted: &Mutex<Counted>,
    ) -> Asked<H::Data> {
        let headers: Vec<httparse::Header<'_>> = request
            .headers()
            .iter()
            .map(|(name, value)| httparse::Header { name: name.as_str(), value: value.as_bytes() })
            .collect();
        let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
        let minor_version = u8::from(request.version() == http::Version::HTTP_11);
        let head = handshake::Request { method: request.method().as_str(), target, minor_version, headers: &headers };
        debug_assert!(wants_upgrade(&head));
        self.refuse_if_stopping()?;
        let key = check_upgrade(&head).map_err(|error| {
            let mut response = refuse(error.status(), "bad_upgrade", &error.to_string());
            extend(response.headers_mut(), &error.extra_headers());
            response
        })?;
        let agreed = agree_deflate(&head, settings).map_err(|error| refuse(400, "bad_upgrade", &error.to_string()))?;
        if !settings.origins.allows(&head, arrival.tls) {
            return Err(refuse(403, "origin_not_allowed", "this Origin is not allowed"));
        }
        let max = settings.connections_per_ip_max;
        if !counted.lock().claim(arrival.client.ip(), max) {
            return Err(self.too_many(arrival.client.ip(), max));
        }
        let Arrival { client: peer, local, tls: is_tls, .. } = *arrival;
        let certificate = arrival.client_certificate.as_deref();
        let upgrade = Upgrade { request: head, peer, local, id: None, is_tls, certificate };
        let decision =
            catch_unwind(AssertUnwindSafe(|| self.handler.upgrade(&upgrade))).map_err(|_| self.panicked())?;
        let protocols = head.protocols().map(str::to_owned).collect();
        Ok((decision, Wanted { accept: key.accept(), protocols, agreed }))
    }

    fn too_many(&self, client: IpAddr, max: usize) -> Box<Response<Body>> {
        self.engine.shared().control.refusals[RefusalCause::PerIp as usize].add(1);
        let message = format!("there are {max} connections from the address {client}, which is connections_per_ip_max");
        let mut response = refuse(429, RefusalCause::PerIp.label(), &message);
        response.headers_mut().insert(http::header::RETRY_AFTER, http::HeaderValue::from_static("5"));
        response
    }

    /// Counts and logs a refused upgrade.
    fn tell_refused(&self, peer: SocketAddr, status: StatusCode) {
        let shared = self.engine.shared();
        shared.control.refused.add(1);
        if let Some(left_out) = self.told.lock().admit(shared.clock.nanos() / 1_000_000_000) {
            let left_out = (left_out > 0).then_some(left_out);
            tracing::info!(target: "fanfare::connections", %peer, status = status.as_u16(), left_out, "refused");
        }
    }

    fn panicked(&self) -> Box<Response<Body>> {
        self.engine.shared().control.handler_panics.add(1);
        refuse(500, "handler_panic", "internal error")
    }

    /// What the handler has decided, once it has.
    async fn decide(&self, decision: Decision<H::Data>, wanted: Wanted) -> Decided<H::Data> {
        let decision = match decision {
            Decision::Later(later) => {
                // A task of its own, so that a panic ends nothing but it.
                let later = tokio::spawn(tokio::time::timeout(ANSWER_TIMEOUT, later)).await;
                let late = |_| refuse(503, "decision_timeout", "whether to accept was not decided in time");
                later.map_err(|_| self.panicked())?.map_err(late)?
            }
            now => now,
        };
        match decision {
            // It may have taken a while to decide.
            Decision::Accept(accept) => self.refuse_if_stopping().and_then(|()| accepted(accept, wanted)),
            Decision::Refuse(refusal) => {
                let status = StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::BAD_REQUEST);
                let mut response = (status, [("Content-Type", refusal.content_type)], refusal.body).into_response();
                extend(response.headers_mut(), &refusal.headers);
                Err(Box::new(response))
            }
            Decision::Later(_) => Err(refuse(500, "refused", "the program puts its decision off for ever")),
        }
    }

    /// Gives an upgraded connection to the shard with the fewest.
    fn give_back(
        &self,
        upgraded: hyper::upgrade::Upgraded,
        client: SocketAddr,
        data: H::Data,
        terms: Terms,
        counted: &Mutex<Counted>,
    ) {
        let Ok(parts) = upgraded.downcast::<TokioIo<HttpSocket>>() else { return };
        let mut rest = parts.read_buf.to_vec();
        let Ok((stream, tls, unread)) = parts.io.into_inner().into_parts() else { return };
        rest.extend_from_slice(&unread);
        let shared = self.engine.shared();
        let shards = shared.metrics.iter().enumerate();
        let shard = shards.min_by_key(|(_, metrics)| metrics.connections.get()).map_or(0, |(shard, _)| shard);
        let first = ConnectionId { shard: shard as u16, slot: 0, generation: 0 };
        let mut counted = counted.lock();
        let is_counted = counted.client.is_some();
        let data = Box::new(data);
        let adoption = Adoption { stream, tls, peer: client, counted: is_counted, data, terms, rest };
        let adopted = shared.inboxes.0[usize::from(first.shard)].command(Command::Adopt(adoption)).is_ok();
        if !adopted {
            // Its shard is overloaded: the peer sees the connection end, and the counter says why.
            shared.control.refused.add(1);
        }
        counted.adopted = adopted;
    }
}

/// What of a request is still needed when it is decided.
struct Wanted {
    accept: String,
    protocols: Vec<String>,
    agreed: Option<Agreed>,
}

fn refuse(status: u16, code: &str, message: &str) -> Box<Response<Body>> {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST);
    Box::new(error(status, code, message))
}

fn accepted<D>(mut accept: Accept<D>, wanted: Wanted) -> Decided<D> {
    if let Some((name, _)) = bad_header(&accept.headers) {
        return Err(refuse(500, "refused", &format!("the program wants to send a header that is none: {name:?}")));
    }
    take_deflate(&mut accept, wanted.agreed);
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let mut own = vec![
        ("connection".to_owned(), "Upgrade".to_owned()),
        ("upgrade".to_owned(), "websocket".to_owned()),
        ("sec-websocket-accept".to_owned(), wanted.accept),
    ];
    let chosen = accept.protocol.filter(|chosen| wanted.protocols.contains(chosen));
    own.extend(chosen.map(|protocol| ("sec-websocket-protocol".to_owned(), protocol)));
    own.extend(accept.headers);
    extend(response.headers_mut(), &own);
    Ok((accept.data, accept.terms, response))
}

fn extend(headers: &mut http::HeaderMap, own: &[(String, String)]) {
    for (name, value) in own {
        let name = http::HeaderName::try_from(name.as_str());
        let value = http::HeaderValue::try_from(value.as_str());
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
}

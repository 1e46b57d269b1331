//! What a run is to do: one file, every value of which a flag can override.
//!
//! The types here are what the file holds, defaults included. [`check`](Scenario) is done once, after the flags; from then
//! on a scenario is right. It travels whole to worker processes and into every result, so a result says how it was made.

mod check;
pub mod file;
pub mod flags;
pub mod keys;
pub mod nearest;
#[cfg(test)]
pub mod shape;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::units::{Amount, Size, Span};

/// A whole scenario.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Scenario {
    /// Names the results folder: letters, digits, `-`, `_`, `.`.
    pub name: String,
    /// Of everything random: payloads, Poisson arrivals, skews, masks. Default 1.
    pub seed: u64,
    /// How many times the whole run is made. Default 1; `compare` wants at least 4.
    pub repetitions: u32,
    /// Load that is offered but not counted, before each measurement. Default 2 s.
    pub warmup: Span,
    /// The measured time of one repetition. Default 10 s. With steps, their sum counts instead.
    pub duration: Span,
    /// How long after the last publication deliveries are waited for before they count as lost. Default 5 s.
    pub drain_timeout: Span,
    /// Who is spoken to, and how.
    pub target: TargetSettings,
    /// Who is connected.
    pub connections: Connections,
    /// How connections come to be.
    pub connect: Connect,
    /// What is published to and subscribed.
    pub topics: Topics,
    /// When publications are made.
    pub load: Load,
    /// What a publication consists of.
    pub payload: Payload,
    /// A reconnect storm during the measurement.
    pub storm: Storm,
    /// The load generator itself.
    pub client: ClientSettings,
    /// What is known about the server's process.
    pub server: ServerSettings,
}

/// Who is spoken to, and how.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TargetSettings {
    /// `ws://HOST:PORT` or `wss://HOST:PORT`; a path here takes the place of the preset's for subscribers.
    pub url: String,
    /// The way of speaking: see `loadgen scenario` for the list. Default `fanfare`.
    pub preset: Option<String>,
    /// Single parts that take the place of the preset's.
    pub template: Template,
    /// WebSocket subprotocols to offer, in order.
    pub subprotocols: Vec<String>,
    /// Headers of the upgrade request; values may hold `{token}` and `{client}`.
    pub headers: BTreeMap<String, String>,
    /// The token that `{token}` stands for.
    pub token: Option<String>,
    /// A file of tokens, one a line; connection N uses line N, from the start again when they have run out.
    pub token_file: Option<PathBuf>,
    /// Offer permessage-deflate (without context takeover).
    pub deflate: bool,
    /// For `wss://`.
    pub tls: TlsSettings,
    /// The server's application, for presets that name one (`pusher`, `centrifugo`).
    pub app: AppSettings,
}

/// An application of a server that has several: what `{app_id}`, `{app_key}` and `{pusher_auth}` are made from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AppSettings {
    /// Its id: `{app_id}`.
    pub id: Option<String>,
    /// Its key, which clients show: `{app_key}`.
    pub key: Option<String>,
    /// What publications over HTTP are signed with: `{pusher_auth}`.
    pub secret: Option<String>,
}

/// The parts of a way of speaking. Placeholders: `{topic}`, `{client}` (the connection's number), `{token}`, `{message}`
/// (the payload), `{app_id}`, `{app_key}`; each also as `{…_json}` (the inside of a JSON string) and `{…_url}`
/// (percent-encoded). In paths they are percent-encoded without asking. In messages any other brace is a brace.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Template {
    /// Path and query of a subscriber's connection.
    pub subscribe_path: Option<String>,
    /// Path and query of a publisher's connection.
    pub publish_path: Option<String>,
    /// Path and query of an idle connection.
    pub idle_path: Option<String>,
    /// What every connection says and waits for after the upgrade, in order: `send: TEXT` or `expect: PART OF A MESSAGE`.
    pub open: Option<Vec<Step>>,
    /// What a subscriber says and waits for after that.
    pub subscribe: Option<Vec<Step>>,
    /// What a publisher says and waits for after `open`. Default: nothing.
    pub publisher: Option<Vec<Step>>,
    /// The message that publishes `{message}`.
    pub publish: Option<String>,
    /// The HTTP request that publishes `{message}`, where publishers use HTTP.
    pub publish_http: Option<HttpTemplate>,
    /// Messages that want an answer during the whole connection, as heartbeats do.
    pub answers: Option<Vec<Answer>>,
    /// What every connection says from time to time, unasked.
    pub heartbeat: Option<Heartbeat>,
    /// Whether a WebSocket message holds several lines, each a message of its own (Centrifugo). Default false.
    pub lines: Option<bool>,
}

/// One step of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub enum Step {
    /// Sends this text message.
    Send(String),
    /// Waits for a message that contains this.
    Expect(String),
}

/// A message and what is said to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// A message that begins with this …
    pub to: String,
    /// … is answered with this. Empty: it is only passed over.
    pub send: String,
}

/// What is said from time to time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Heartbeat {
    /// From one to the next.
    pub every: Span,
    /// The text message.
    pub send: String,
}

/// An HTTP request as a template.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpTemplate {
    /// Default `POST`.
    #[serde(default = "post")]
    pub method: String,
    /// `http://HOST:PORT` (or `https`) if it is not the server of `url`.
    #[serde(default)]
    pub server: Option<String>,
    /// Path and query.
    pub path: String,
    /// Headers.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// The body. Default `{message}`.
    #[serde(default = "message")]
    pub body: String,
}

fn post() -> String {
    "POST".into()
}

fn message() -> String {
    "{message}".into()
}

/// TLS of `wss://`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TlsSettings {
    /// Certificates to trust, PEM. Default: those of the system.
    pub ca: Option<PathBuf>,
    /// The name the certificate must bear, and that is sent as SNI. Default: the host of the URL.
    pub server_name: Option<String>,
    /// Accept any certificate. The result says so.
    pub insecure: bool,
    /// A client certificate (chain), PEM.
    pub certificate: Option<PathBuf>,
    /// Its key, PEM.
    pub key: Option<PathBuf>,
    /// Resume sessions with the tickets that the server has given; all connections share them. Default: every handshake is
    /// a whole one.
    pub resumption: bool,
}

/// Who is connected. Counts, or shares of `total`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Connections {
    /// What shares count from; subscribers are then what publishers and the other roles leave. 0: all
    /// roles are given as counts.
    pub total: u64,
    /// Those whose deliveries are measured. Default 100.
    pub subscribers: u64,
    /// Those who publish. Default 1.
    pub publishers: u64,
    /// How they publish.
    pub publish_via: PublishVia,
    /// Connected, subscribed to nothing.
    pub idle: Amount,
    /// Subscribed, reading `slow_bytes_per_s`.
    pub slow: Amount,
    /// Subscribed, never reading.
    pub stalled: Amount,
    /// Subscribed, leaving after `churn_lifetime` and coming back at once.
    pub churning: Amount,
    /// What a slow reader reads a second. Default 1 KiB.
    pub slow_bytes_per_s: Size,
    /// How long a churner stays. Default 5 s.
    pub churn_lifetime: Span,
}

/// How publications reach the server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PublishVia {
    /// Over the publisher's WebSocket.
    #[default]
    WebSocket,
    /// By HTTP requests; each publisher is one kept-alive connection with one request at a time.
    Http,
}

/// How connections come to be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Connect {
    /// Connects offered a second; 0 for as fast as `concurrency` allows. Default 0.
    pub rate_per_s: f64,
    /// Handshakes under way at once, in all. Default 256.
    pub concurrency: u32,
    /// From connect to the last expected message of the opening conversation. Default 10 s.
    pub timeout: Span,
    /// Connections that may fail before the run is given up. Default 0.
    pub failures_max: Amount,
    /// Local addresses, used in turn; 28,000 connections an address is what Linux allows by default.
    pub bind: Vec<std::net::IpAddr>,
}

/// What is published to and subscribed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Topics {
    /// How many. Default 1.
    pub count: u32,
    /// Their names; `{n}` is the topic's number, from 0. Default `loadgen.{n}`.
    pub name: String,
    /// How subscribers are spread over topics. Default uniform.
    pub subscribers: Skew,
    /// How publications are spread over topics. Default uniform.
    pub publications: Skew,
    /// The exponent of `zipf`. Default 1.0.
    pub zipf_exponent: f64,
}

/// A distribution over topics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Skew {
    /// All alike.
    #[default]
    Uniform,
    /// Topic n gets a share proportional to 1/(n+1)^exponent.
    Zipf,
}

/// When publications are made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Load {
    /// The shape.
    pub kind: LoadKind,
    /// Publications a second, over all publishers (`constant`, `poisson`; where `ramp` begins). Default 100.
    pub rate_per_s: f64,
    /// Where `ramp` ends.
    pub to_rate_per_s: f64,
    /// The steps of `steps`, in order.
    pub steps: Vec<RateStep>,
    /// Publications of one `burst`, all intended at the same moment.
    pub burst_size: u32,
    /// From one `burst` to the next.
    pub burst_every: Span,
    /// For `closed`: publications that not every subscriber has, at most. Default 1.
    pub in_flight: u32,
}

/// The shapes of a load.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LoadKind {
    /// Evenly spaced.
    #[default]
    Constant,
    /// Independent arrivals: exponentially distributed intervals.
    Poisson,
    /// Rates one after the other.
    Steps,
    /// A rate that changes linearly over the duration.
    Ramp,
    /// Many at once, again and again.
    Burst,
    /// As fast as the server delivers.
    Closed,
}

/// One step of a load.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RateStep {
    /// Publications a second.
    pub rate_per_s: f64,
    /// How long.
    pub duration: Span,
}

/// What a publication consists of: a marker and filler.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Payload {
    /// Bytes of the payload, marker included. Default 128.
    pub bytes: Size,
    /// Published as binary messages. Default: text.
    pub binary: bool,
    /// What stands behind the marker.
    pub filler: Filler,
}

/// What stands behind the marker of a payload.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Filler {
    /// Letters and digits at random, which deflate hardly makes shorter.
    #[default]
    Random,
    /// JSON as a feed of prices has it, of which deflate makes about a quarter. Only where a publication is the payload and
    /// nothing else: within other JSON its quotes would be escaped.
    Json,
}

/// A reconnect storm: at one moment of the measurement all subscribers drop their connections and come back.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Storm {
    /// When, after the beginning of the measurement; none if absent.
    pub at: Option<Span>,
}

/// The load generator itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClientSettings {
    /// Worker threads of a process. Default 1.
    pub threads: u32,
    /// Processes; 0 for as many as the open-file limit asks for. Default 0.
    pub processes: u32,
    /// Cores the workers are pinned to, in turn. Default: not pinned.
    pub pin: Vec<usize>,
    /// Above this share of a core, in any worker, the run is void. Default 0.9.
    pub cpu_share_max: f64,
    /// Above this event-loop lag (p99) the run is void. Default 10 ms.
    pub lag_max: Span,
    /// A send this much after its intended time counts as late. Default 1 ms.
    pub late_after: Span,
    /// A longer message ends its connection. Default 16 MiB.
    pub message_bytes_max: Size,
}

/// What is known about the server's process.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServerSettings {
    /// Its process, on this machine: CPU time and memory are then measured.
    pub pid: Option<u32>,
    /// What to call it in results, revision included, for example `fanfare a1b2c3d`.
    pub revision: String,
    /// The cores it is pinned to: there loadgen starts the servers of `ab` and the bare loop of the ceiling, and looks for
    /// other programs that disturb. Default: all.
    pub cores: Vec<usize>,
}

impl Default for Scenario {
    fn default() -> Self {
        let seconds = |s| Span(std::time::Duration::from_secs(s));
        Self {
            name: "run".into(),
            seed: 1,
            repetitions: 1,
            warmup: seconds(2),
            duration: seconds(10),
            drain_timeout: seconds(5),
            target: TargetSettings::default(),
            connections: Connections::default(),
            connect: Connect::default(),
            topics: Topics::default(),
            load: Load::default(),
            payload: Payload::default(),
            storm: Storm::default(),
            client: ClientSettings::default(),
            server: ServerSettings::default(),
        }
    }
}

impl Default for Connections {
    fn default() -> Self {
        Self {
            total: 0,
            subscribers: 100,
            publishers: 1,
            publish_via: PublishVia::default(),
            idle: Amount::default(),
            slow: Amount::default(),
            stalled: Amount::default(),
            churning: Amount::default(),
            slow_bytes_per_s: Size(1024),
            churn_lifetime: Span(std::time::Duration::from_secs(5)),
        }
    }
}

impl Default for Connect {
    fn default() -> Self {
        Self {
            rate_per_s: 0.0,
            concurrency: 256,
            timeout: Span(std::time::Duration::from_secs(10)),
            failures_max: Amount::default(),
            bind: Vec::new(),
        }
    }
}

impl Default for Topics {
    fn default() -> Self {
        Self {
            count: 1,
            name: "loadgen.{n}".into(),
            subscribers: Skew::Uniform,
            publications: Skew::Uniform,
            zipf_exponent: 1.0,
        }
    }
}

impl Default for Load {
    fn default() -> Self {
        Self {
            kind: LoadKind::Constant,
            rate_per_s: 100.0,
            to_rate_per_s: 0.0,
            steps: Vec::new(),
            burst_size: 0,
            burst_every: Span::default(),
            in_flight: 1,
        }
    }
}

impl Default for Payload {
    fn default() -> Self {
        Self { bytes: Size(128), binary: false, filler: Filler::default() }
    }
}

impl Default for ClientSettings {
    fn default() -> Self {
        let ms = |ms| Span(std::time::Duration::from_millis(ms));
        Self {
            threads: 1,
            processes: 0,
            pin: Vec::new(),
            cpu_share_max: 0.9,
            lag_max: ms(10),
            late_after: ms(1),
            message_bytes_max: Size(16 << 20),
        }
    }
}

impl std::str::FromStr for Filler {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "random" => Ok(Self::Random),
            "json" => Ok(Self::Json),
            _ => Err(format!("'{text}' is not one of random, json")),
        }
    }
}

impl std::str::FromStr for PublishVia {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "web-socket" | "websocket" | "ws" => Ok(Self::WebSocket),
            "http" => Ok(Self::Http),
            _ => Err(format!("'{text}' is not one of web-socket, http")),
        }
    }
}

impl Connections {
    /// How many are something else than subscribers: publishers, idle, slow, stalled, churning.
    pub fn others(&self) -> u64 {
        let amounts = [self.idle, self.slow, self.stalled, self.churning];
        let amounts = amounts.iter().map(|amount| amount.of(self.total));
        amounts.fold(self.publishers, u64::saturating_add)
    }

    /// How many subscribers there are: what the other roles leave of the total, if there is one.
    pub fn subscribers(&self) -> u64 {
        if self.total > 0 { self.total.saturating_sub(self.others()) } else { self.subscribers }
    }

    /// How many connections there are, all roles together.
    pub fn all(&self) -> u64 {
        self.subscribers().saturating_add(self.others())
    }
}

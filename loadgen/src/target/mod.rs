//! How a server is spoken to: what each connection asks for and says, and what a publication looks like.
//!
//! Everything is a template: the presets are values of [`Template`](crate::scenario::Template), nothing more.
//!
//! | Module | What it is |
//! |---|---|
//! | `url` | where the server is |
//! | `preset` | ways of speaking that have a name |
//! | `template` | texts with placeholders |
//! | `reader` | templates of a scenario, checked |
//! | `dial` | what one connection needs to be opened |
//! | `publication` | what carries a payload; `signing` for those that are signed |
//! | `tls` | whom to trust |

mod dial;
mod http;
mod preset;
mod publication;
mod reader;
mod signing;
mod template;
mod tickets;
mod tls;
mod url;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::failure::Failure;
use crate::scenario::{AppSettings, Filler, PublishVia, Scenario, Step, TargetSettings, Template as Parts};

pub use dial::{Dial, Habits, Line, Offer, Reply};
pub use preset::{DEFAULT as DEFAULT_PRESET, presets};
pub use publication::Publication;
pub use tls::Tls;

use dial::{CONNECTION, HabitsPlan, Plan};
use http::HttpPlan;
use reader::Reader;
use template::{Place, Template, Values, What};
use url::Url;

/// The server and its way of speaking, resolved and checked.
#[derive(Debug)]
pub struct Target {
    /// Where to connect.
    pub address: SocketAddr,
    description: String,
    tokens: Box<[Box<str>]>,
    app: AppSettings,
    offer: Arc<Offer>,
    tls: Option<Tls>,
    subscriber: Plan,
    publisher: Plan,
    idle: Plan,
    habits: HabitsPlan,
    publish: Option<Template>,
    http: Option<HttpPlan>,
}

/// Which of the conversations a connection has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Is subscribed to one topic.
    Subscriber,
    /// Publishes.
    Publisher,
    /// Is only there.
    Idle,
}

impl Target {
    /// Reads and checks `scenario.target`; looks up the host's address, the certificates, the tokens.
    ///
    /// # Errors
    /// [`Failure::Usage`] for settings that are wrong; [`Failure::Failed`] for a host, file or certificate that is not there.
    pub fn of(scenario: &Scenario) -> Result<Self, Failure> {
        let settings = &scenario.target;
        let url = Url::parse("target.url", &settings.url, &url::WEBSOCKET)?;
        let parts = parts(scenario, &url)?;
        let tokens = reader::tokens(settings)?;
        reader::check_app(&settings.app)?;
        let reader = Reader { has_tokens: !tokens.is_empty(), app: &settings.app };

        let offer = offer(settings)?;
        let plans = Plans { reader: &reader, url: &url, settings, offer: &offer, parts: &parts };
        let bind = &scenario.connect.bind;
        let tls = url.secure.then(|| Tls::of(&settings.tls, &url.host)).transpose()?;
        let address = url.resolve("target.url", bind)?;
        Ok(Self {
            address,
            description: describe(settings),
            subscriber: plans.of("subscribe_path", parts.subscribe_path.as_deref(), "subscribe", &parts.subscribe)?,
            publisher: plans.of("publish_path", parts.publish_path.as_deref(), "publisher", &parts.publisher)?,
            idle: plans.of("idle_path", parts.idle_path.as_deref(), "", &None)?,
            habits: HabitsPlan::of(&reader, &parts)?,
            publish: publish(scenario, &reader, &parts)?,
            http: HttpPlan::of(scenario, &reader, &parts, (&url, address, &tls))?,
            offer: Arc::new(offer),
            tls,
            tokens,
            app: settings.app.clone(),
        })
    }

    /// What connection number `client` needs to play `part` for `topic` (the topic's name; idle ones get any).
    pub fn dial(&self, part: Part, client: u64, topic: &str) -> Dial {
        let values = self.values(client, topic);
        let plan = match part {
            Part::Subscriber => &self.subscriber,
            Part::Publisher => &self.publisher,
            Part::Idle => &self.idle,
        };
        Dial {
            address: self.address,
            request: plan.request(&values),
            script: plan.script(&values),
            habits: self.habits.fill(&values),
            offer: Arc::clone(&self.offer),
            tls: self.tls.clone(),
        }
    }

    /// How publisher number `client` publishes to `topic` over its WebSocket.
    pub fn publication(&self, client: u64, topic: &str) -> Publication {
        let values = self.values(client, topic);
        Publication::message(self.publish.as_ref().map(|publish| publish.carrier(&values)).unwrap_or_default())
    }

    /// How it publishes by HTTP: whole requests, keep-alive. Empty if the scenario does not publish by HTTP.
    pub fn http_publication(&self, client: u64, topic: &str) -> Publication {
        let values = self.values(client, topic);
        match &self.http {
            Some(http) => Publication::request(http.request(&values)),
            None => Publication::message(Default::default()),
        }
    }

    /// Where HTTP publications go.
    pub fn http_address(&self) -> SocketAddr {
        self.http.as_ref().map_or(self.address, |http| http.address)
    }

    /// How connections for HTTP publications are encrypted, if they are.
    pub fn http_tls(&self) -> Option<&Tls> {
        self.http.as_ref().and_then(|http| http.tls.as_ref())
    }

    /// From one [`Client::heartbeat`](crate::client::Client::heartbeat) of a connection to the next, if it has any.
    pub fn heartbeat(&self) -> Option<Duration> {
        self.habits.heartbeat_every
    }

    /// Whether a publisher's connection publishes only to the topic it was dialled for: its path or its opening names the
    /// topic, its messages do not reach others. Publishers by HTTP are never bound.
    pub fn publisher_is_bound(&self) -> bool {
        self.publisher.has_topic()
    }

    /// The server and the way of speaking in a few words, for the environment of a result.
    pub fn describe(&self) -> String {
        self.description.clone()
    }

    fn values<'a>(&'a self, client: u64, topic: &'a str) -> Values<'a> {
        let token = match self.tokens.len() {
            0 => "",
            n => &self.tokens[(client % n as u64) as usize],
        };
        let text = |value: &'a Option<String>| value.as_deref().unwrap_or_default();
        Values { topic, client, token, app_id: text(&self.app.id), app_key: text(&self.app.key) }
    }
}

/// The preset's parts with the scenario's own in their place.
fn parts(scenario: &Scenario, url: &Url) -> Result<Parts, Failure> {
    let settings = &scenario.target;
    let given = preset::Given {
        token: settings.token.is_some() || settings.token_file.is_some(),
        binary: scenario.payload.binary,
    };
    let name = settings.preset.as_deref().unwrap_or(preset::DEFAULT);
    let preset = preset::named(name, given).ok_or_else(|| {
        let names: Vec<&str> = presets().iter().map(|(name, _)| *name).collect();
        Failure::usage(format!("target.preset is '{name}': there are {}", names.join(", ")))
    })?;
    let mut parts = preset::overlay(preset, &settings.template);
    check_filler(scenario.payload.filler, &parts)?;
    match (&url.path, &settings.template.subscribe_path) {
        (Some(_), Some(_)) => {
            return Err(Failure::usage(
                "target.url has a path, and target.template.subscribe_path is set: one of them must go",
            ));
        }
        (Some(path), None) => parts.subscribe_path = Some(path.clone()),
        (None, _) => {}
    }
    let subscribe_path = parts.subscribe_path.get_or_insert_with(|| "/".into()).clone();
    parts.publish_path.get_or_insert_with(|| subscribe_path.clone());
    parts.idle_path.get_or_insert(subscribe_path);
    Ok(parts)
}

/// JSON within JSON would not be the payload any more.
fn check_filler(filler: Filler, parts: &Parts) -> Result<(), Failure> {
    let is_wrapped = |template: &String| template.contains("{message_json}") || template.contains("{message_url}");
    let http = parts.publish_http.as_ref();
    let mut templates = parts.publish.iter().chain(http.map(|http| &http.body)).chain(http.map(|http| &http.path));
    match filler == Filler::Json && templates.any(is_wrapped) {
        true => Err(Failure::usage(
            "payload.filler (--filler) is 'json': allowed is that only where a publication is nothing but its payload, and \
             this way of speaking puts it into a text of its own",
        )),
        false => Ok(()),
    }
}

fn offer(settings: &TargetSettings) -> Result<Offer, Failure> {
    for (n, name) in settings.subprotocols.iter().enumerate() {
        if !fanfare::ws::handshake::is_header_name(name) || settings.subprotocols[..n].contains(name) {
            return Err(Failure::usage(format!(
                "target.subprotocols has '{}': each is given once and has no blanks, commas or control characters",
                name.escape_debug()
            )));
        }
    }
    Ok(Offer { deflate: settings.deflate, subprotocols: settings.subprotocols.clone() })
}

/// What the plans of all kinds of connections are made from.
struct Plans<'a> {
    reader: &'a Reader<'a>,
    url: &'a Url,
    settings: &'a TargetSettings,
    offer: &'a Offer,
    parts: &'a Parts,
}

impl Plans<'_> {
    fn of(
        &self,
        path_name: &str,
        path: Option<&str>,
        steps_name: &str,
        steps: &Option<Vec<Step>>,
    ) -> Result<Plan, Failure> {
        let path = self.reader.path(&format!("target.template.{path_name}"), path.unwrap_or("/"), CONNECTION)?;
        let open = self.parts.open.as_deref().unwrap_or_default();
        let steps_name = format!("target.template.{steps_name}");
        let steps = [("target.template.open", open), (steps_name.as_str(), steps.as_deref().unwrap_or_default())];
        Plan::of(self.reader, self.request(path)?, &steps)
    }

    /// The upgrade request (RFC 6455, 4.1) but for the line of its key.
    fn request(&self, path: Template) -> Result<Template, Failure> {
        let mut request = Template::default();
        request.push("GET ");
        request.append(path);
        request.push(" HTTP/1.1\r\n");
        if !self.settings.headers.keys().any(|name| name.eq_ignore_ascii_case("host")) {
            request.push(&format!("Host: {}\r\n", self.url.authority));
        }
        request.push("Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n");
        if !self.offer.subprotocols.is_empty() {
            request.push(&format!("Sec-WebSocket-Protocol: {}\r\n", self.offer.subprotocols.join(", ")));
        }
        if self.offer.deflate {
            request.push(&format!("Sec-WebSocket-Extensions: {}\r\n", crate::client::DEFLATE_OFFER));
        }
        let reserved = [
            "upgrade",
            "connection",
            "content-length",
            "transfer-encoding",
            "sec-websocket-key",
            "sec-websocket-version",
            "sec-websocket-protocol",
            "sec-websocket-extensions",
        ];
        request.append(self.reader.headers("target.headers", &self.settings.headers, &reserved)?);
        Ok(request)
    }
}

/// The message that publishes, if the scenario publishes over WebSockets.
fn publish(scenario: &Scenario, reader: &Reader<'_>, parts: &Parts) -> Result<Option<Template>, Failure> {
    let connections = &scenario.connections;
    if connections.publishers == 0 || connections.publish_via != PublishVia::WebSocket {
        return Ok(None);
    }
    let Some(text) = &parts.publish else {
        let preset = scenario.target.preset.as_deref().unwrap_or(preset::DEFAULT);
        let instead = if parts.publish_http.is_some() {
            "set connections.publish_via to 'http', or give the message in target.template.publish"
        } else {
            "give the message in target.template.publish, or set connections.publishers to 0"
        };
        return Err(Failure::usage(format!("the preset '{preset}' does not publish over WebSockets: {instead}")));
    };
    let part = "target.template.publish";
    let template = reader.template(part, text, Place::Message, PUBLICATION)?;
    check_carries(part, text, scenario, [&template])?;
    Ok(Some(template))
}

/// What templates of publications may hold.
const PUBLICATION: &[What] = &[What::Topic, What::Client, What::Token, What::AppId, What::AppKey, What::Message];

/// Refuses a publication without its payload, or with one that does not fit in.
fn check_carries<'t>(
    part: &str,
    text: &str,
    scenario: &Scenario,
    templates: impl IntoIterator<Item = &'t Template>,
) -> Result<(), Failure> {
    let (mut carries, mut in_json) = (false, false);
    for template in templates {
        carries |= template.has(What::Message);
        in_json |= template.has_json_message();
    }
    if !carries {
        return Err(Failure::usage(format!("{part} is '{text}': it carries no {{message}} nor {{message_json}}")));
    }
    if in_json && scenario.payload.binary {
        return Err(Failure::usage(format!(
            "payload.binary is true, but {part} puts the payload into JSON, which holds only text"
        )));
    }
    Ok(())
}

fn describe(settings: &TargetSettings) -> String {
    let mut text = format!("{}, preset {}", settings.url, settings.preset.as_deref().unwrap_or(preset::DEFAULT));
    if settings.template != Parts::default() {
        text.push_str(" with own parts");
    }
    if settings.deflate {
        text.push_str(", permessage-deflate offered");
    }
    if settings.tls.resumption {
        text.push_str(", TLS sessions resumed");
    }
    if settings.tls.insecure {
        text.push_str(", certificates NOT checked");
    }
    text
}

#[cfg(test)]
mod tests;

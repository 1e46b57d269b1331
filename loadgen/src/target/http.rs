//! Publications by HTTP: where they go and how the requests look.
//!
//! Owner: [`Target`](super::Target).

use std::net::SocketAddr;

use fanfare::ws::handshake::is_header_name;

use crate::failure::Failure;
use crate::scenario::{PublishVia, Scenario, Template as Parts};

use super::publication::Request;
use super::reader::Reader;
use super::signing::Signer;
use super::template::{Place, Template, Values, What};
use super::tls::Tls;
use super::url::{HTTP, Url};
use super::{PUBLICATION, check_carries, preset};

/// How requests are made.
#[derive(Debug)]
pub(super) struct HttpPlan {
    pub address: SocketAddr,
    pub tls: Option<Tls>,
    method: String,
    path: Template,
    head: Template,
    body: Template,
    signer: Option<Signer>,
}

impl HttpPlan {
    /// Reads the template of the requests, if the scenario publishes by HTTP. `here` is the WebSocket server.
    pub fn of(
        scenario: &Scenario,
        reader: &Reader<'_>,
        parts: &Parts,
        here: (&Url, SocketAddr, &Option<Tls>),
    ) -> Result<Option<Self>, Failure> {
        let connections = &scenario.connections;
        if connections.publishers == 0 || connections.publish_via != PublishVia::Http {
            return Ok(None);
        }
        let Some(http) = &parts.publish_http else {
            let preset = scenario.target.preset.as_deref().unwrap_or(preset::DEFAULT);
            return Err(Failure::usage(format!(
                "the preset '{preset}' does not publish by HTTP: set connections.publish_via to 'web-socket', or give the \
                 request in target.template.publish_http"
            )));
        };
        if !is_header_name(&http.method) {
            let method = http.method.escape_debug();
            return Err(Failure::usage(format!(
                "target.template.publish_http.method is '{method}': that is no method"
            )));
        }
        let path_name = "target.template.publish_http.path";
        let allowed = [PUBLICATION, &[What::PusherAuth]].concat();
        let path = reader.path(path_name, &http.path, &allowed)?;
        let signed = path.has(What::PusherAuth);
        if signed
            && !(path.ends_with(What::PusherAuth) && http.path.matches('?').count() == 1 && http.path.contains("?{"))
        {
            return Err(Failure::usage(format!(
                "{path_name} is '{}': {{pusher_auth}} must be the whole query, right behind the '?'",
                http.path
            )));
        }
        let body = reader.template("target.template.publish_http.body", &http.body, Place::Message, PUBLICATION)?;
        check_carries("target.template.publish_http.body", &http.body, scenario, [&path, &body])?;

        let server = http.server.as_deref().map(|text| server(text, scenario)).transpose()?;
        let (url, address, tls) = match &server {
            Some((url, address, tls)) => (url, *address, tls.clone()),
            None => (here.0, here.1, here.2.clone()),
        };
        let mut head = Template::default();
        head.push(" HTTP/1.1\r\n");
        if !http.headers.keys().any(|name| name.eq_ignore_ascii_case("host")) {
            head.push(&format!("Host: {}\r\n", url.authority));
        }
        let reserved = ["connection", "content-length", "transfer-encoding", "upgrade", "expect"];
        head.append(reader.headers("target.template.publish_http.headers", &http.headers, &reserved)?);
        head.push("Content-Length: ");
        let signer = match (&scenario.target.app.key, &scenario.target.app.secret) {
            (Some(key), Some(secret)) if signed => Some(Signer::new(key, secret)),
            _ => None,
        };
        Ok(Some(Self { address, tls, method: http.method.clone(), path, head, body, signer }))
    }

    /// A request that only lacks the payload.
    pub fn request(&self, values: &Values<'_>) -> Request {
        let mut head = Vec::new();
        self.head.put(values, &mut head);
        Request {
            method: self.method.clone(),
            path: self.path.carrier(values),
            head: head.into(),
            body: self.body.carrier(values),
            signer: self.signer.clone(),
        }
    }
}

/// The server of the setting `publish_http.server`.
fn server(text: &str, scenario: &Scenario) -> Result<(Url, SocketAddr, Option<Tls>), Failure> {
    let setting = "target.template.publish_http.server";
    let url = Url::parse(setting, text, &HTTP)?;
    if url.path.is_some() {
        return Err(Failure::usage(format!("{setting} is '{text}': the path belongs to publish_http.path")));
    }
    let tls = url.secure.then(|| Tls::of(&scenario.target.tls, &url.host)).transpose()?;
    let address = url.resolve(setting, &[])?;
    Ok((url, address, tls))
}

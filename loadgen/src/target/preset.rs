//! Ways of speaking that have a name. Each is a value of [`Template`] and nothing more: what a preset does, a scenario file
//! can do, and any part of it can be replaced there.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::scenario::{Answer, Heartbeat, HttpTemplate, Step, Template};
use crate::units::Span;

/// The preset of a scenario that names none.
pub const DEFAULT: &str = "fanfare";

const PRESETS: &[(&str, &str)] = &[
    ("fanfare", "the raw protocol of Fanfare: the path is the topic, a message is a payload"),
    ("fanfare-native", "the JSON protocol of Fanfare at /ws"),
    ("plain", "connect and receive; publishers send the bare payload at the same path ('/')"),
    ("template", "nothing is given; all parts come from [target.template]"),
    ("node-ws", "a broadcast server on npm 'ws': each message goes to all connections, the sender's included"),
    ("bun", "Bun's pub/sub: /?topic=TOPIC subscribes, and a message is published to that topic"),
    ("nchan", "nginx with nchan: /sub/TOPIC and /pub/TOPIC, by WebSocket or HTTP"),
    (
        "pusher",
        "the Pusher protocol (sockudo, soketi, Reverb): [target.app] has id, key and secret; publishes by HTTP only",
    ),
    ("centrifugo", "Centrifugo's JSON protocol; publishes by WebSocket, or by HTTP with target.app.key as the API key"),
    ("socket-io", "Socket.IO v4: events 'subscribe' (acknowledged) and 'publish' that the application handles"),
    ("phoenix", "Phoenix channels, V2 JSON; publishers join the topic and push 'publish'"),
];

/// The presets and what each is for, a sentence each: for the help.
pub fn presets() -> &'static [(&'static str, &'static str)] {
    PRESETS
}

/// What a preset's parts depend on.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Given {
    /// Connections have tokens.
    pub token: bool,
    /// Payloads are binary.
    pub binary: bool,
}

/// The parts of the preset `name`.
pub(super) fn named(name: &str, given: Given) -> Option<Template> {
    Some(match name {
        "fanfare" => fanfare(given),
        "fanfare-native" => fanfare_native(given),
        "plain" => plain(),
        "template" => Template::default(),
        "node-ws" => plain(),
        "bun" => Template { subscribe_path: text("/?topic={topic}"), ..plain() },
        "nchan" => nchan(),
        "pusher" => pusher(),
        "centrifugo" => centrifugo(given),
        "socket-io" => socket_io(),
        "phoenix" => phoenix(),
        _ => return None,
    })
}

fn text(text: &str) -> Option<String> {
    Some(text.to_owned())
}

fn send(text: &str) -> Step {
    Step::Send(text.to_owned())
}

fn expect(text: &str) -> Step {
    Step::Expect(text.to_owned())
}

fn answer(to: &str, send: &str) -> Answer {
    Answer { to: to.to_owned(), send: send.to_owned() }
}

fn heartbeat(every_s: u64, send: &str) -> Option<Heartbeat> {
    Some(Heartbeat { every: Span(Duration::from_secs(every_s)), send: send.to_owned() })
}

fn post(path: &str, headers: &[(&str, &str)], body: &str) -> Option<HttpTemplate> {
    let headers: BTreeMap<String, String> =
        headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Some(HttpTemplate { method: "POST".into(), server: None, path: path.into(), headers, body: body.into() })
}

const JSON: (&str, &str) = ("Content-Type", "application/json");

fn plain() -> Template {
    Template { subscribe_path: text("/"), publish: text("{message}"), ..Template::default() }
}

fn fanfare_http(given: Given) -> Option<HttpTemplate> {
    let path = if given.binary { "/api/publish?topic={topic}&binary=1" } else { "/api/publish?topic={topic}" };
    post(path, &[], "{message}")
}

fn fanfare(given: Given) -> Template {
    Template {
        subscribe_path: text("/topics/{topic}?mode=subscribe"),
        publish_path: text("/topics/{topic}?mode=publish"),
        idle_path: text("/topics/{topic}?mode=publish"),
        publish: text("{message}"),
        publish_http: fanfare_http(given),
        ..Template::default()
    }
}

fn fanfare_native(given: Given) -> Template {
    Template {
        subscribe_path: text("/ws"),
        open: Some(vec![expect(r#""type":"connected""#)]),
        subscribe: Some(vec![
            send(r#"{"type":"subscribe","id":1,"topic":"{topic_json}"}"#),
            expect(r#"{"type":"subscribed""#),
        ]),
        publish: text(r#"{"type":"publish","topic":"{topic_json}","data":"{message_json}"}"#),
        publish_http: fanfare_http(given),
        // To the publisher, of each of its publications.
        answers: Some(vec![answer(r#"{"type":"published""#, "")]),
        ..Template::default()
    }
}

fn nchan() -> Template {
    Template {
        subscribe_path: text("/sub/{topic}"),
        publish_path: text("/pub/{topic}"),
        idle_path: text("/sub/loadgen-idle"),
        publish: text("{message}"),
        publish_http: post("/pub/{topic}", &[], "{message}"),
        ..Template::default()
    }
}

fn pusher() -> Template {
    Template {
        subscribe_path: text("/app/{app_key}?protocol=7&client=loadgen&version=1&flash=false"),
        open: Some(vec![expect("pusher:connection_established")]),
        subscribe: Some(vec![
            send(r#"{"event":"pusher:subscribe","data":{"auth":"","channel":"{topic_json}"}}"#),
            expect("pusher_internal:subscription_succeeded"),
        ]),
        publish_http: post(
            "/apps/{app_id}/events?{pusher_auth}",
            &[JSON],
            r#"{"name":"publish","data":"{message_json}","channels":["{topic_json}"]}"#,
        ),
        answers: Some(vec![
            answer(r#"{"event":"pusher:ping""#, r#"{"event":"pusher:pong","data":{}}"#),
            answer(r#"{"event":"pusher:pong""#, ""),
        ]),
        // Servers end connections that have said nothing for two minutes.
        heartbeat: heartbeat(60, r#"{"event":"pusher:ping","data":{}}"#),
        ..Template::default()
    }
}

fn centrifugo(given: Given) -> Template {
    let connect =
        if given.token { r#"{"id":1,"connect":{"token":"{token_json}"}}"# } else { r#"{"id":1,"connect":{}}"# };
    Template {
        subscribe_path: text("/connection/websocket"),
        open: Some(vec![send(connect), expect(r#""connect":"#)]),
        subscribe: Some(vec![send(r#"{"id":2,"subscribe":{"channel":"{topic_json}"}}"#), expect(r#""subscribe":"#)]),
        publish: text(r#"{"id":3,"publish":{"channel":"{topic_json}","data":"{message_json}"}}"#),
        publish_http: post(
            "/api/publish",
            &[JSON, ("X-API-Key", "{app_key}")],
            r#"{"channel":"{topic_json}","data":"{message_json}"}"#,
        ),
        answers: Some(vec![answer("{}", "{}"), answer(r#"{"id":3,"publish":{"#, "")]),
        lines: Some(true),
        ..Template::default()
    }
}

fn socket_io() -> Template {
    Template {
        subscribe_path: text("/socket.io/?EIO=4&transport=websocket"),
        open: Some(vec![expect("0{"), send("40"), expect("40{")]),
        // With an acknowledgement, number 0: without it nobody knows when the subscription holds.
        subscribe: Some(vec![send(r#"420["subscribe","{topic_json}"]"#), expect("430[")]),
        publish: text(r#"42["publish","{topic_json}","{message_json}"]"#),
        answers: Some(vec![answer("2", "3")]),
        ..Template::default()
    }
}

fn phoenix() -> Template {
    let join = vec![send(r#"["1","1","{topic_json}","phx_join",{}]"#), expect(r#""status":"ok""#)];
    Template {
        subscribe_path: text("/socket/websocket?vsn=2.0.0"),
        subscribe: Some(join.clone()),
        publisher: Some(join),
        publish: text(r#"["1","2","{topic_json}","publish",{"body":"{message_json}"}]"#),
        answers: Some(vec![answer(r#"[null,"0","phoenix","phx_reply""#, ""), answer(r#"["1","2","#, "")]),
        heartbeat: heartbeat(30, r#"[null,"0","phoenix","heartbeat",{}]"#),
        ..Template::default()
    }
}

/// `own` where it has a part, else the part of `preset`.
pub(super) fn overlay(preset: Template, own: &Template) -> Template {
    let own = own.clone();
    Template {
        subscribe_path: own.subscribe_path.or(preset.subscribe_path),
        publish_path: own.publish_path.or(preset.publish_path),
        idle_path: own.idle_path.or(preset.idle_path),
        open: own.open.or(preset.open),
        subscribe: own.subscribe.or(preset.subscribe),
        publisher: own.publisher.or(preset.publisher),
        publish: own.publish.or(preset.publish),
        publish_http: own.publish_http.or(preset.publish_http),
        answers: own.answers.or(preset.answers),
        heartbeat: own.heartbeat.or(preset.heartbeat),
        lines: own.lines.or(preset.lines),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_preset_of_the_table_is_there_and_nothing_else() {
        for (name, sentence) in presets() {
            assert!(named(name, Given::default()).is_some(), "{name}");
            assert!(sentence.len() > 10, "{name}");
        }
        assert!(named("websocket", Given::default()).is_none());
        assert!(presets().iter().any(|(name, _)| *name == DEFAULT));
    }

    #[test]
    fn a_part_of_the_scenario_takes_the_place_of_the_presets_and_the_others_stay() {
        let own = Template { publish: text("x"), answers: Some(Vec::new()), ..Template::default() };
        let preset = named("centrifugo", Given::default()).expect("it is there");
        let both = overlay(preset.clone(), &own);
        assert_eq!(both, Template { publish: text("x"), answers: Some(Vec::new()), ..preset });
    }
}

//! The HTTP API through real sockets, against an engine in the same process.

use super::*;
use axum::body::Body;
use http::Request;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::Engine;
use crate::server::Config;

/// An engine on a free port, and its routes without the network between.
struct Fixture {
    engine: Engine,
    router: Router,
}

/// Without authentication.
fn site() -> Site {
    let auth = Arc::new(Auth::new(&crate::server::AuthSettings::default()).unwrap());
    Site { files: None, reloads: None, auth }
}

struct Answer {
    status: u16,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    fn code(&self) -> (u16, String) {
        let value = self.json();
        assert!(value["message"].as_str().is_some_and(|message| !message.is_empty()), "{value}");
        (self.status, value["code"].as_str().unwrap_or("").to_owned())
    }
}

impl Fixture {
    fn new(site: Site) -> Self {
        Self::with(&[], site)
    }

    fn with(flags: &[&str], site: Site) -> Self {
        let own = ["--listen=127.0.0.1:0", "--shards=1", "--message-bytes=1000"];
        let config = Config::from_flags([&own, flags].concat()).unwrap();
        let engine = crate::server::builder(&config).unwrap().start().unwrap();
        let router = router(engine.handle().clone(), site);
        Self { engine, router }
    }

    fn ask(&self, method: &str, target: &str, headers: &[(&str, &str)], body: impl Into<Body>) -> Answer {
        let mut request = Request::builder().method(method).uri(target).header("host", "127.0.0.1:8080");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let here = "127.0.0.1:1".parse().unwrap();
        let arrival = crate::Arrival {
            client: here,
            peer: here,
            local: here,
            forwarded: false,
            private: false,
            tls: false,
            client_certificate: None,
        };
        let request = request.extension(arrival).body(body.into()).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (parts, body) = self.router.clone().oneshot(request).await.unwrap().into_parts();
            let body = body.collect().await.unwrap().to_bytes().into();
            Answer { status: parts.status.as_u16(), headers: parts.headers, body }
        })
    }

    fn get(&self, target: &str) -> Answer {
        self.ask("GET", target, &[], "")
    }

    fn post(&self, target: &str, body: &'static str) -> Answer {
        self.ask("POST", target, &[], body)
    }

    fn end(self) {
        self.engine.shutdown();
    }
}

#[test]
fn what_is_published_gets_a_place_and_can_be_looked_up() {
    let fixture = Fixture::new(site());
    let first = fixture.post("/api/publish?topic=a%2Fb&key=k", "{\"x\":1}");
    assert_eq!(first.status, 200);
    assert_eq!(first.header("content-type"), "application/json");
    let (first, second) =
        (first.json(), fixture.ask("POST", "/api/publish?topic=a%2Fb&binary=1", &[], vec![0, 255]).json());
    assert_eq!(first["offset"], 1);
    assert_eq!((&second["topic"], &second["offset"], &second["subscribers"]), (&json!("a/b"), &json!(2), &json!(0)));
    assert_eq!(first["epoch"], second["epoch"]);

    let topic = fixture.get("/api/topics/a%2Fb").json();
    assert_eq!((&topic["topic"], &topic["offset"]), (&json!("a/b"), &json!(2)));
    assert_eq!(topic["settings"]["policy"], "disconnect");

    let history = fixture.get("/api/topics/a%2Fb/history").json();
    assert_eq!(history["complete"], true);
    assert_eq!(history["publications"][0]["data"], json!({"x": 1}));
    assert_eq!(history["publications"][0]["key"], "k");
    assert_eq!(history["publications"][1]["base64"], "AP8=");

    let since = format!("/api/topics/a%2Fb/history?since={}:1&limit=5", first["epoch"].as_str().unwrap());
    let history = fixture.get(&since).json();
    assert_eq!(history["publications"].as_array().unwrap().len(), 1);
    assert_eq!(history["publications"][0]["offset"], 2);
    fixture.end();
}

#[test]
fn topics_are_listed_page_by_page() {
    let fixture = Fixture::new(site());
    for topic in ["a.1", "a.2", "a.3", "b"] {
        fixture.ask("POST", &format!("/api/publish?topic={topic}"), &[], "x");
    }
    let names = |answer: &Value| -> Vec<String> {
        answer["topics"].as_array().unwrap().iter().map(|topic| topic["topic"].as_str().unwrap().into()).collect()
    };
    let page = fixture.get("/api/topics?pattern=a.*&limit=2").json();
    assert_eq!((names(&page), &page["next"]), (vec!["a.1".into(), "a.2".into()], &json!("a.2")));
    let page = fixture.get("/api/topics?pattern=a.*&limit=2&after=a.2").json();
    assert_eq!((names(&page), &page["next"]), (vec!["a.3".into()], &Value::Null));
    assert_eq!(names(&fixture.get("/api/topics").json()).len(), 4);
    fixture.end();
}

#[test]
fn mistakes_are_answered_with_status_code_and_sentence() {
    let fixture = Fixture::new(site());
    for (method, target, body, status, code) in [
        ("POST", "/api/publish", "x", 400, "bad_query"),
        ("POST", "/api/publish?topic=t&tpoic=t", "x", 400, "bad_query"),
        ("POST", "/api/publish?topic=t&binary=maybe", "x", 400, "bad_query"),
        ("POST", "/api/publish?topic=", "x", 400, "bad_topic"),
        ("POST", "/api/publish?topic=a.*", "x", 400, "bad_topic"),
        ("GET", "/api/publish?topic=t", "", 405, "method_not_allowed"),
        ("DELETE", "/api/topics", "", 405, "method_not_allowed"),
        ("GET", "/api/topics?limit=0", "", 400, "bad_query"),
        ("GET", "/api/topics?limit=1001", "", 400, "bad_query"),
        ("GET", "/api/topics?pattern=%3E.a", "", 400, "bad_topic"),
        ("GET", "/api/topics/nosuch", "", 404, "no_such_topic"),
        ("GET", "/api/topics/%ff", "", 400, "bad_path"),
        ("GET", "/api/topics/nosuch/history", "", 404, "no_such_topic"),
        ("GET", "/api/topics/t/history?since=1", "", 400, "bad_query"),
        ("GET", "/api/connections?after=x", "", 400, "bad_query"),
        ("DELETE", "/api/connections/x", "", 400, "bad_connection"),
        ("DELETE", "/api/connections/0-ffff-0", "", 404, "no_such_connection"),
        ("DELETE", "/api/connections/0-ffff-0?code=1005", "", 400, "bad_query"),
        ("DELETE", "/api/connections/0-ffff-0?code=999", "", 400, "bad_query"),
        ("GET", "/api/nosuch", "", 404, "not_found"),
        ("GET", "/api", "", 404, "not_found"),
        ("GET", "/nosuch", "", 404, "not_found"),
        ("POST", "/nosuch", "", 404, "not_found"),
        ("POST", "/", "", 405, "method_not_allowed"),
        ("GET", "/ws", "", 426, "upgrade_required"),
        ("GET", "/topics/t", "", 426, "upgrade_required"),
    ] {
        let answer = fixture.ask(method, target, &[], body);
        assert_eq!(answer.code(), (status, code.into()), "{method} {target}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
    }
    assert_eq!(fixture.ask("POST", "/api/publish?topic=t", &[], vec![0xff]).code(), (400, "bad_utf8".into()));
    assert_eq!(fixture.get("/api/publish").header("allow"), "POST");
    assert_eq!(fixture.get("/ws").header("upgrade"), "websocket");
    fixture.end();
}

#[test]
fn bodies_and_keys_have_limits() {
    let fixture = Fixture::new(site());
    assert_eq!(fixture.ask("POST", "/api/publish?topic=t", &[], vec![b'x'; 1000]).status, 200);
    let too_big = fixture.ask("POST", "/api/publish?topic=t", &[], vec![b'x'; 1001]);
    assert_eq!(too_big.code(), (413, "message_too_big".into()));
    let target = format!("/api/publish?topic=t&key={}", "k".repeat(256));
    assert_eq!(fixture.post(&target, "x").code(), (400, "bad_key".into()));
    fixture.end();
}

#[test]
fn a_batch_tells_of_each_publication_what_became_of_it() {
    let fixture = Fixture::new(site());
    let batch = r#"[{"topic":"t","data":{"a":[1]}},{"topic":"t","text":"hi","key":"k"},{"topic":"t","base64":"AP8="},
        {"topic":"t","data":null},{"topic":"t.*","data":1},{"topic":"t"},{"topic":"t","data":1,"text":"x"},
        {"topic":"t","base64":"?"},{"topic":"t","dta":1},7]"#;
    let results = fixture.post("/api/batch", batch).json();
    let results = results.as_array().unwrap();
    assert_eq!(results.len(), 10);
    for (n, result) in results.iter().take(4).enumerate() {
        assert_eq!(result["offset"], n + 1, "{result}");
    }
    assert_eq!(results[4]["error"]["code"], "bad_topic");
    for result in &results[5..] {
        assert_eq!(result["error"]["code"], "bad_request", "{result}");
    }
    let history = fixture.get("/api/topics/t/history").json();
    assert_eq!(history["publications"][1]["text"], "hi");
    assert_eq!(history["publications"][3]["data"], Value::Null);
    fixture.end();
}

#[test]
fn a_batch_may_come_in_lines() {
    let fixture = Fixture::new(site());
    let answer =
        fixture.post("/api/batch", "{\"topic\":\"t\",\"data\":1}\n\nnonsense\r\n{\"topic\":\"t\",\"text\":\"x\"}\n");
    assert_eq!((answer.status, answer.header("content-type")), (200, "application/x-ndjson"));
    let text = answer.text();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((lines.len(), &lines[0]["offset"], &lines[2]["offset"]), (3, &json!(1), &json!(2)));
    assert_eq!(lines[1]["error"]["code"], "bad_json");
    assert_eq!(fixture.post("/api/batch", " ").code(), (400, "bad_request".into()));
    assert_eq!(fixture.post("/api/batch", "[]").code(), (400, "bad_request".into()));
    assert_eq!(fixture.post("/api/batch", "[1").code(), (400, "bad_json".into()));
    fixture.end();
}

#[test]
fn pages_of_other_sites_change_nothing() {
    let fixture = Fixture::new(site());
    let publish = |headers: &[(&str, &str)]| fixture.ask("POST", "/api/publish?topic=t", headers, "x");
    for origin in ["http://evil.example", "null", "http://127.0.0.1:9090", ""] {
        assert_eq!(publish(&[("origin", origin)]).code(), (403, "origin_not_allowed".into()), "{origin}");
    }
    let twice = [("origin", "http://127.0.0.1:8080"), ("origin", "http://evil.example")];
    assert_eq!(publish(&twice).status, 403);
    assert_eq!(fixture.ask("DELETE", "/api/connections/0-0-0", &[("origin", "null")], "").status, 403);
    assert_eq!(publish(&[("origin", "http://127.0.0.1:8080")]).status, 200);
    assert_eq!(fixture.ask("GET", "/api/info", &[("origin", "http://evil.example")], "").status, 200);
    assert_eq!(fixture.get("/api/info").header("access-control-allow-origin"), "");
    fixture.end();

    let open = Fixture::with(&["--origin=http://friend.example"], site());
    let ask = |origin| open.ask("POST", "/api/publish?topic=t", &[("origin", origin)], "x").status;
    assert_eq!((ask("http://friend.example"), ask("http://127.0.0.1:8080")), (200, 403));
    open.end();
}

#[test]
fn the_server_tells_how_it_is() {
    let fixture = Fixture::new(site());
    assert_eq!((fixture.get("/healthz").status, fixture.get("/readyz").status), (200, 200));
    let info = fixture.get("/api/info").json();
    assert_eq!((&info["name"], &info["version"]), (&json!("fanfare"), &json!(env!("CARGO_PKG_VERSION"))));
    assert_eq!((&info["connections"], &info["message_bytes"]), (&json!(0), &json!(1000)));
    assert!(fixture.get("/metrics").header("content-type").starts_with("application/openmetrics-text"));
    assert_eq!(fixture.get("/api/connections").json(), json!({"connections": [], "next": null}));
    let head = fixture.ask("HEAD", "/api/info", &[], "");
    assert_eq!((head.status, head.body.len()), (200, 0));
    fixture.end();
}

#[test]
fn the_page_is_guarded_and_comes_once() {
    let fixture = Fixture::new(site());
    let page = fixture.get("/");
    assert_eq!((page.status, page.header("content-type")), (200, "text/html; charset=utf-8"));
    assert!(page.header("content-security-policy").contains("default-src 'none'"));
    assert!(page.header("content-security-policy").contains("; frame-ancestors 'none'"));
    let tag = page.header("etag");
    let again = fixture.ask("GET", "/", &[("if-none-match", tag)], "");
    assert_eq!((again.status, again.body.len(), again.header("etag")), (304, 0, tag));
    assert_eq!(fixture.ask("GET", "/", &[("if-none-match", "\"x\"")], "").status, 200);
    fixture.end();
}

#[test]
fn files_have_types_tags_and_ranges() {
    let directory = tempfile::tempdir().unwrap();
    let put = |name: &str, content: &str| std::fs::write(directory.path().join(name), content).unwrap();
    put("a.txt", "0123456789");
    put("app.js", "1");
    put(".secret", "s");
    std::fs::create_dir(directory.path().join("sub")).unwrap();
    let fixture = Fixture::new(Site { files: Some(directory.path().into()), ..site() });
    assert_eq!(fixture.get("/").header("content-type"), "text/html; charset=utf-8");

    let file = fixture.get("/a.txt");
    assert_eq!((file.status, file.header("content-type")), (200, "text/plain; charset=utf-8"));
    assert_eq!((file.text().as_str(), file.header("x-content-type-options")), ("0123456789", "nosniff"));
    assert!(!file.header("last-modified").is_empty());
    assert_eq!(fixture.get("/app.js").header("content-type"), "text/javascript; charset=utf-8");
    let tag = file.header("etag");
    assert_eq!(fixture.ask("GET", "/a.txt", &[("if-none-match", tag)], "").status, 304);
    let part = |headers: &[(&str, &str)]| {
        let answer = fixture.ask("GET", "/a.txt", headers, "");
        (answer.status, answer.text())
    };
    assert_eq!(part(&[("range", "bytes=2-4")]), (206, "234".into()));
    assert_eq!(part(&[("range", "bytes=-3")]), (206, "789".into()));
    assert_eq!(part(&[("range", "bytes=20-")]).0, 416);
    assert_eq!(part(&[("range", "bytes=0-1,4-5")]), (200, "0123456789".into()));
    assert_eq!(part(&[("range", "bytes=2-4"), ("if-range", tag)]), (206, "234".into()));
    assert_eq!(part(&[("range", "bytes=2-4"), ("if-range", "\"old\"")]), (200, "0123456789".into()));
    assert_eq!(part(&[("if-match", "\"old\"")]).0, 412);
    assert_eq!(fixture.ask("HEAD", "/a.txt", &[], "").header("content-length"), "10");
    put("a.txt", "changed");
    assert_eq!(fixture.ask("GET", "/a.txt", &[("if-none-match", tag)], "").text(), "changed");

    for hidden in ["/.secret", "/%2esecret", "/../a.txt", "/sub/%2e%2e/a.txt", "/a.txt/", "/sub", "/sub/", "/a.txt%00"]
    {
        assert_eq!(fixture.get(hidden).code(), (404, "not_found".into()), "{hidden}");
    }
    assert_eq!(fixture.post("/a.txt", "x").code(), (405, "method_not_allowed".into()));
    fixture.end();
}

#[test]
fn an_index_takes_the_place_of_the_page_and_the_api_wins_over_files() {
    let directory = tempfile::tempdir().unwrap();
    let put = |name: &str, content: &str| std::fs::write(directory.path().join(name), content).unwrap();
    for name in ["sub", "api"] {
        std::fs::create_dir(directory.path().join(name)).unwrap();
    }
    put("index.html", "mine");
    put("sub/index.html", "below");
    put("api/info", "no");
    put("api/own", "no");
    put("healthz", "no");
    let fixture = Fixture::new(Site { files: Some(directory.path().into()), ..site() });
    assert_eq!((fixture.get("/").text().as_str(), fixture.get("/sub/").text().as_str()), ("mine", "below"));
    let moved = fixture.get("/sub?x=1");
    assert_eq!((moved.status, moved.header("location")), (308, "/sub/?x=1"));
    assert_eq!(fixture.get("/api/info").json()["name"], "fanfare");
    assert_eq!(fixture.get("/api/own").status, 404);
    assert_eq!(fixture.get("/healthz").text(), "ok\n");
    fixture.end();
}

#[test]
fn links_out_of_the_directory_lead_nowhere() {
    let (directory, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::fs::write(outside.path().join("secret"), "s").unwrap();
    std::fs::write(directory.path().join("real"), "r").unwrap();
    let link = |to: &std::path::Path, name: &str| std::os::unix::fs::symlink(to, directory.path().join(name)).unwrap();
    link(&outside.path().join("secret"), "file");
    link(outside.path(), "dir");
    link(&directory.path().join("real"), "alias");
    let fixture = Fixture::new(Site { files: Some(directory.path().into()), ..site() });
    assert_eq!((fixture.get("/file").status, fixture.get("/dir/secret").status), (404, 404));
    assert_eq!(fixture.get("/alias").text(), "r");
    fixture.end();
}

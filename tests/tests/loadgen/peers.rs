//! Other people's servers, spoken to by their presets: everything arrives there as well.

use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command};

use fanfare_tests::loadgen::Loadgen;
use fanfare_tests::program::{Output, spawn};
use fanfare_tests::{eventually, repository, wait_for};
use tempfile::TempDir;

use crate::number;

/// A server, ended with the test.
struct Peer {
    child: Child,
    url: String,
    _folder: TempDir,
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

/// A server that prints where it listens. Its modules are those of tests/node_modules.
fn script(program: impl AsRef<Path>, file: &str) -> Peer {
    let folder = folder();
    // The scripts are those of the benches; Node.js looks for modules beside a file, so it is copied to where they are.
    let copy = repository().join("tests/node_modules/.cache-loadgen").join(format!("{}-{file}", std::process::id()));
    std::fs::create_dir_all(copy.parent().expect("it has one")).expect("a folder can be made");
    std::fs::copy(repository().join("benches/peers").join(file), &copy).expect("the script can be copied");
    let mut child = spawn(Command::new(program.as_ref()), &[copy.to_str().expect("UTF-8")]);
    let printed = Output::collect(child.stdout.take().expect("a pipe"));
    let errors = Output::collect(child.stderr.take().expect("a pipe"));
    let url = wait_for("the server prints its address", || {
        let ended = child.try_wait().expect("a child can be waited for");
        assert!(ended.is_none(), "it ended ({ended:?}): {}", errors.text());
        printed.text().lines().find(|line| line.starts_with("ws://")).map(|line| line.trim_end_matches('/').to_owned())
    });
    Peer { child, url, _folder: folder }
}

/// nginx with nchan, with a configuration of its own.
fn nchan() -> Peer {
    let folder = folder();
    let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port");
    let dir = folder.path().to_str().expect("UTF-8");
    let configuration = format!(
        "load_module /usr/lib/nginx/modules/ngx_nchan_module.so;\n\
         daemon off; master_process off; pid {dir}/pid; error_log stderr;\n\
         events {{ worker_connections 1024; }}\n\
         http {{\n\
           access_log off; client_body_temp_path {dir}/a; proxy_temp_path {dir}/b; fastcgi_temp_path {dir}/c;\n\
           uwsgi_temp_path {dir}/d; scgi_temp_path {dir}/e;\n\
           server {{\n\
             listen {free};\n\
             location ~ ^/sub/(.+)$ {{ nchan_subscriber; nchan_channel_id $1; nchan_subscriber_first_message newest; }}\n\
             location ~ ^/pub/(.+)$ {{ nchan_publisher; nchan_channel_id $1; nchan_store_messages off; }}\n\
           }}\n\
         }}\n"
    );
    let file = folder.path().join("nginx.conf");
    std::fs::write(&file, configuration).expect("a file can be written");
    let mut child = spawn(Command::new("nginx"), &["-e", "stderr", "-p", dir, "-c", file.to_str().expect("UTF-8")]);
    let errors = Output::collect(child.stderr.take().expect("a pipe"));
    eventually("nginx listens", || {
        let ended = child.try_wait().expect("a child can be waited for");
        assert!(ended.is_none(), "it ended ({ended:?}): {}", errors.text());
        TcpStream::connect(free).is_ok()
    });
    Peer { child, url: format!("ws://{free}"), _folder: folder }
}

#[track_caller]
fn assert_arrives_whole(peer: &Peer, more: &[&str]) {
    let load = ["--subscribers", "20", "--rate", "100", "--warmup", "100ms", "--duration", "400ms", "--quiet"];
    let measurement = Loadgen::run(&peer.url, &[load.as_slice(), more].concat()).measurement();
    let counts = &measurement["tally"]["roles"]["subscriber"];
    assert_eq!(number(&counts["expected"]), 20 * 50, "{}", measurement["tally"]);
    assert_eq!(counts["received"], counts["expected"], "{}", measurement["tally"]);
    for what in ["gaps", "duplicates", "reordered"] {
        assert_eq!(number(&counts[what]), 0, "{what}: {}", measurement["tally"]);
    }
    assert_eq!(number(&measurement["tally"]["foreign"]) + number(&measurement["tally"]["corrupted"]), 0);
}

#[test]
fn node_ws_broadcasts_whole() {
    let peer = script("node", "node-ws.mjs");
    assert_arrives_whole(&peer, &["--preset", "node-ws"]);
    assert_arrives_whole(&peer, &["--preset", "fanfare"]);
}

#[test]
fn bun_publishes_whole() {
    let peer = script(repository().join("tests/node_modules/.bin/bun"), "bun.mjs");
    assert_arrives_whole(&peer, &["--preset", "bun"]);
    assert_arrives_whole(&peer, &["--preset", "fanfare"]);
}

#[test]
fn nchan_publishes_whole_by_websocket_and_http() {
    let peer = nchan();
    assert_arrives_whole(&peer, &["--preset", "nchan"]);
    assert_arrives_whole(&peer, &["--preset", "nchan", "--publish-via", "http"]);
}

//! An independent client, written on tungstenite, sees the same latency and the same rate.

use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use fanfare_tests::faulty::{Faults, Faulty};
use fanfare_tests::loadgen::Loadgen;
use tungstenite::{Message, WebSocket};

const SUBSCRIBERS: usize = 20;
const RATE_PER_S: u32 = 200;
const SECONDS: u32 = 3;

/// What was seen: the median latency, and deliveries a second.
#[derive(Debug)]
struct Seen {
    p50_ms: f64,
    deliveries_per_s: f64,
}

fn connect(url: &str, path: &str) -> WebSocket<TcpStream> {
    let stream = TcpStream::connect(url.trim_start_matches("ws://")).expect("it listens");
    stream.set_nodelay(true).expect("TCP_NODELAY can be set");
    tungstenite::client(format!("{url}{path}"), stream).expect("it upgrades").0
}

/// Receives everything: each message is the nanosecond, after `begin`, for which it was intended.
fn subscribe(mut socket: WebSocket<TcpStream>, begin: Instant) -> Vec<f64> {
    let mut latencies_ms = Vec::new();
    while latencies_ms.len() < (RATE_PER_S * SECONDS) as usize {
        let message = socket.read().expect("a message");
        let received = begin.elapsed();
        let intended = Duration::from_nanos(message.to_text().expect("text").parse().expect("a number"));
        latencies_ms.push((received - intended).as_secs_f64() * 1e3);
    }
    latencies_ms
}

fn seen_by_hand(url: &str) -> Seen {
    let mut publisher = connect(url, "/topics/a?mode=publish");
    let sockets: Vec<_> = (0..SUBSCRIBERS).map(|_| connect(url, "/topics/a?mode=subscribe")).collect();
    let begin = Instant::now();
    let subscribers: Vec<_> =
        sockets.into_iter().map(|socket| thread::spawn(move || subscribe(socket, begin))).collect();
    for number in 1..=RATE_PER_S * SECONDS {
        let intended = Duration::from_secs(1) * number / RATE_PER_S;
        thread::sleep(intended.saturating_sub(begin.elapsed()));
        publisher.send(Message::text(intended.as_nanos().to_string())).expect("the server takes it");
    }
    let mut all: Vec<f64> = subscribers.into_iter().flat_map(|thread| thread.join().expect("all came")).collect();
    let elapsed_s = begin.elapsed().as_secs_f64();
    all.sort_by(f64::total_cmp);
    Seen { p50_ms: all[all.len() / 2], deliveries_per_s: all.len() as f64 / elapsed_s }
}

fn seen_by_loadgen(url: &str) -> Seen {
    let (subscribers, rate, duration) = (SUBSCRIBERS.to_string(), RATE_PER_S.to_string(), format!("{SECONDS}s"));
    let load =
        ["--subscribers", &subscribers, "--rate", &rate, "--duration", &duration, "--warmup", "200ms", "--quiet"];
    let loadgen = Loadgen::run(url, &load);
    let measurement = loadgen.measurement();
    let window_s = measurement["window_ns"].as_f64().expect("a number") / 1e9;
    Seen {
        p50_ms: crate::histogram(&measurement["corrected"]).value_at_quantile(0.5) as f64 / 1e6,
        deliveries_per_s: measurement["received"].as_f64().expect("a number") / window_s,
    }
}

#[test]
fn latency_and_rate_agree_with_an_independent_client() {
    // The delay makes the latency the server's: without it both would measure this machine's scheduler.
    let server = Faulty::start(Faults { delay: Duration::from_millis(30), ..Faults::default() });
    let (hand, loadgen) = (seen_by_hand(&server.url()), seen_by_loadgen(&server.url()));
    let is_near = |a: f64, b: f64| (a / b - 1.0).abs() < 0.05;
    assert!(is_near(hand.p50_ms, loadgen.p50_ms), "{hand:?} {loadgen:?}");
    assert!(is_near(hand.deliveries_per_s, loadgen.deliveries_per_s), "{hand:?} {loadgen:?}");
}

//! A load of connects that counts what becomes of each of them: threads that connect, ask, and see that there is a whole
//! answer, as fast as they can.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use fanfare_tests::raw::upgrade_request;
use socket2::SockRef;

/// How long an answer may take; the kernel tries lost packets again within it.
const PATIENCE: Duration = Duration::from_secs(20);

/// What became of a connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// An HTTP answer with this status.
    Answered(u16),
    /// Nobody listened.
    Refused,
    /// It was reset before the answer was there.
    Reset,
    /// It ended, or nothing came for 20 s.
    Unanswered,
}

/// A running load.
pub struct Load {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    outcomes: Arc<Mutex<BTreeMap<Outcome, u64>>>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    /// So many threads, half of which ask for `target` over HTTP, the others for a WebSocket there.
    pub fn start(addr: SocketAddr, target: &'static str, threads: usize) -> Self {
        let (stop, done, outcomes) = (Arc::default(), Arc::default(), Arc::default());
        let mut load = Self { stop, done, outcomes, threads: Vec::new() };
        for n in 0..threads {
            let (stop, done, outcomes) = (load.stop.clone(), load.done.clone(), load.outcomes.clone());
            let request = match n % 2 {
                0 => format!("GET {target} HTTP/1.1\r\nHost: fanfare.test\r\nConnection: close\r\n\r\n"),
                _ => upgrade_request(target),
            };
            load.threads.push(thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let outcome = ask(addr, request.as_bytes());
                    *outcomes.lock().expect("nobody panics here").entry(outcome).or_default() += 1;
                    done.fetch_add(1, Ordering::Relaxed);
                }
            }));
        }
        load
    }

    /// How many connects there have been.
    pub fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// Ends it and tells what became of all.
    pub fn stop(self) -> BTreeMap<Outcome, u64> {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().expect("a thread of the load ends");
        }
        self.outcomes.lock().expect("nobody panics here").clone()
    }
}

/// Connects, asks, and reads the answer.
pub fn ask(addr: SocketAddr, request: &[u8]) -> Outcome {
    match try_ask(addr, request) {
        Ok(status) => Outcome::Answered(status),
        Err(error) => match error.kind() {
            ErrorKind::ConnectionRefused => Outcome::Refused,
            ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::ConnectionAborted => Outcome::Reset,
            _ => Outcome::Unanswered,
        },
    }
}

fn try_ask(addr: SocketAddr, request: &[u8]) -> std::io::Result<u16> {
    let mut stream = TcpStream::connect(addr)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    // So that the ports of many thousand connects are free again at once; by then the answer has been read.
    SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
    stream.write_all(request)?;
    let mut head = Vec::new();
    let mut buffer = [0; 4096];
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut buffer)? {
            0 => return Err(ErrorKind::UnexpectedEof.into()),
            read => head.extend_from_slice(&buffer[..read]),
        }
    }
    let status = head.get(9..12).and_then(|status| std::str::from_utf8(status).ok()?.parse().ok());
    status.ok_or_else(|| ErrorKind::InvalidData.into())
}

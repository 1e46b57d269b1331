//! The process that is succeeded. It waits to be asked for as long as it runs; asked, it gives every topic away, follows the
//! successor for the subscribers it still has, and ends.

use std::io::{self, BufReader, BufWriter, Write};
use std::net::SocketAddr;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use super::wire::{Frame, VERSION, hear, say, unexpected};
use super::{PATIENCE, START_PATIENCE, is_same_user, meeting_point};
use crate::engine::EngineHandle;
use crate::pubsub::succession::{Estate, Followed};
use crate::pubsub::topic::Topic;
use crate::shard::shared::Shared;

/// How soon it is tried again to wait where another process still does, or for room in an inbox.
const AGAIN: Duration = Duration::from_millis(100);
const ROOM: Duration = Duration::from_millis(1);

/// Waits to be asked by a successor, at the meeting point of each address. Runs on the control thread.
pub fn wait(engine: &EngineHandle) {
    for address in engine.local_addrs() {
        engine.spawn(wait_at(*address, engine.clone()));
    }
}

async fn wait_at(address: SocketAddr, engine: EngineHandle) {
    let mut away = engine.shared().succession.away.subscribe();
    // While another process has the topics it is asked for them, and not this one: the place has to be free for it.
    while away.wait_for(|away| !*away).await.is_ok() {
        let listener = loop {
            match bind(address) {
                Ok(listener) => break listener,
                // The process that this one has succeeded, most likely, or that has ended before it served anybody.
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => tokio::time::sleep(AGAIN).await,
                Err(error) => return tracing::warn!(%address, %error, "no process can take over from this one"),
            }
        };
        let waiting = &engine.shared().succession.waiting;
        waiting.fetch_add(1, Ordering::SeqCst);
        tokio::select! {
            _ = away.wait_for(|away| *away) => {}
            () = accept(&listener, &engine) => {}
        }
        drop(listener);
        waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Serves whoever asks, for ever.
async fn accept(listener: &tokio::net::UnixListener, engine: &EngineHandle) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(AGAIN).await;
            continue;
        };
        if !is_same_user(&stream) {
            tracing::warn!("a process of another user asks for everything: refused");
            continue;
        }
        let engine = engine.clone();
        let started = stream.into_std().and_then(|stream| {
            stream.set_nonblocking(false)?;
            thread::Builder::new().name("fanfare-succession".into()).spawn(move || serve(&stream, &engine))
        });
        if let Err(error) = started {
            tracing::warn!(%error, "a process that asks for everything cannot be served");
        }
    }
}

fn bind(address: SocketAddr) -> io::Result<tokio::net::UnixListener> {
    let listener = UnixListener::bind_addr(&meeting_point(address)?)?;
    listener.set_nonblocking(true)?;
    tokio::net::UnixListener::from_std(listener)
}

/// Serves one that asks.
fn serve(stream: &UnixStream, engine: &EngineHandle) {
    let shared = engine.shared();
    if shared.succession.giving.swap(true, Ordering::SeqCst) {
        // Somebody is being served. Not a word is the sign to ask again: by then somebody else may have to be asked.
        return;
    }
    if let Err(error) = give(stream, shared) {
        tracing::warn!(%error, "a process asked for everything and did not take it: going on as before");
        return take_back(shared);
    }
    // Only now does it give offsets: had it ended before, there would be none that it alone knows of.
    tracing::info!("another process has taken over: ending");
    shared.succession.given.store(true, Ordering::SeqCst);
    engine.begin_shutdown();
    // If it had begun already: no load balancer has to look elsewhere any more.
    shared.ending.look_again();
    let error = follow(stream, shared);
    tracing::debug!(%error, "the successor is not followed any more");
}

/// Gives every topic away.
fn give(stream: &UnixStream, shared: &Shared) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut buffer = Vec::new();
    match hear(&mut &*stream, &mut buffer)? {
        Frame::Hello { version: VERSION } => {}
        Frame::Hello { version } => {
            let why = format!("it speaks version {VERSION} of this language, and not {version}");
            let _ = say(&mut &*stream, &Frame::Refused { why: &why });
            return Err(io::Error::other(why));
        }
        other => return Err(unexpected(&other)),
    }
    let mut to = BufWriter::with_capacity(256 << 10, stream);
    let (mut topics, mut publications) = (0, 0);
    // From here on no topic begins to give offsets, so that this is all of them.
    for topic in shared.topics.surrender() {
        publications += give_topic(&mut to, &topic, shared)?;
        topics += 1;
    }
    say(&mut to, &Frame::End { topics, publications })?;
    to.flush()?;
    // It says that it has them when it serves, so that nobody is turned away by us who could be served by it.
    stream.set_read_timeout(Some(START_PATIENCE))?;
    match hear(&mut &*stream, &mut buffer)? {
        Frame::Taken => {
            give_up_place(shared);
            say(&mut &*stream, &Frame::Released)
        }
        other => Err(unexpected(&other)),
    }
}

/// Makes room for the successor where it will be asked for the topics.
fn give_up_place(shared: &Shared) {
    shared.succession.away.send_replace(true);
    let until = Instant::now() + PATIENCE / 10;
    while shared.succession.waiting.load(Ordering::SeqCst) > 0 && Instant::now() < until {
        thread::sleep(ROOM);
    }
}

fn give_topic(to: &mut impl Write, topic: &Topic, shared: &Shared) -> io::Result<u64> {
    let Estate { epoch, offset, history } = topic.surrender(shared.clock.now());
    say(to, &Frame::Topic { name: topic.name(), epoch: epoch.0, offset })?;
    for publication in &history {
        say(to, &Frame::of(publication))?;
    }
    Ok(history.len() as u64)
}

fn take_back(shared: &Shared) {
    for topic in shared.topics.reclaim() {
        topic.reclaim();
    }
    shared.succession.giving.store(false, Ordering::SeqCst);
    shared.succession.away.send_replace(false);
}

/// Delivers what the successor sequences to the subscribers that are still here, until it ends or this engine has.
fn follow(stream: &UnixStream, shared: &Shared) -> io::Error {
    if let Err(error) = stream.set_read_timeout(None) {
        return error;
    }
    let mut from = BufReader::with_capacity(256 << 10, stream);
    let mut buffer = Vec::new();
    loop {
        let outcome = hear(&mut from, &mut buffer).and_then(|frame| follow_one(&frame, shared));
        if let Err(error) = outcome {
            return error;
        }
    }
}

fn follow_one(frame: &Frame<'_>, shared: &Shared) -> io::Result<()> {
    let publication = frame.publication(&shared.clock, &shared.encodings, shared.settings().deflate_min_bytes);
    let Some(publication) = publication else { return Err(unexpected(frame)) };
    let now = shared.clock.now();
    let topic = match shared.topics.get(publication.topic()) {
        Some(topic) => topic,
        None => {
            // Made by the successor: who subscribes to a pattern here may want it.
            let estate = Estate { epoch: publication.epoch(), offset: publication.offset() - 1, history: Vec::new() };
            shared.topics.install(publication.topic(), estate, true, now, &shared.inboxes);
            let Some(topic) = shared.topics.get(publication.topic()) else { return Ok(()) };
            topic
        }
    };
    let mut publication = Arc::new(publication);
    loop {
        match topic.follow(publication, now, &shared.inboxes) {
            Followed::Delivered | Followed::NotNext => return Ok(()),
            Followed::NoRoom(back) => publication = back,
        }
        if shared.aborting.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        thread::sleep(ROOM);
    }
}

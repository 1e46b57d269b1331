//! The process that takes over. Before its shards begin to accept it asks whoever listens on its addresses for the topics;
//! afterwards it shows its predecessor every publication, for the subscribers that one still has.

use std::io::{self, BufReader, BufWriter, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crossbeam_channel::RecvTimeoutError;

use super::wire::{Frame, VERSION, hear, say, unexpected};
use super::{PATIENCE, is_same_user, meeting_point};
use crate::pubsub::Epoch;
use crate::pubsub::succession::Estate;
use crate::shard::mirror::Following;
use crate::shard::shared::Shared;

/// The way to the predecessor, once everything has been taken over.
#[derive(Debug)]
pub struct Link {
    stream: UnixStream,
    following: Following,
}

/// Takes over from whoever listens on one of these addresses; `None` if nobody does who could hand anything over, which is
/// logged.
///
/// # Errors
/// The predecessor has given everything away and has not said that it lets go: this process must not go on, as both would give
/// the same offsets.
pub fn take_over(shared: &Arc<Shared>, listen: &[SocketAddr]) -> io::Result<Option<Link>> {
    let Some(stream) = listen.iter().find_map(|address| ask(*address)) else {
        tracing::info!("there is nobody to take over from: starting without topics");
        return Ok(None);
    };
    let topics = match receive(&stream, shared) {
        Ok(topics) => topics,
        Err(error) => {
            tracing::warn!(%error, "the process that listens here does not hand over: clients cannot recover what it has");
            return Ok(None);
        }
    };
    // Nothing is published here yet; what is from now on, is shown.
    let following = shared.inboxes.1.follow();
    let count = topics.len();
    let now = shared.clock.now();
    for (name, estate) in topics {
        if !shared.topics.install(&name, estate, false, now, &shared.inboxes) {
            tracing::warn!(topic = name, "not taken over: the limits here leave no room for it");
        }
    }
    let settled = say(&mut &stream, &Frame::Taken).and_then(|()| expect_release(&stream));
    settled.map_err(|error| io::Error::other(format!("the process that was to hand over does not let go: {error}")))?;
    tracing::info!(topics = count, "taken over");
    Ok(Some(Link { stream, following }))
}

/// Connects, if somebody is there and runs as the same user.
fn ask(listen: SocketAddr) -> Option<UnixStream> {
    let stream = UnixStream::connect_addr(&meeting_point(listen).ok()?).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    stream.set_write_timeout(Some(PATIENCE)).ok()?;
    if !is_same_user(&stream) {
        tracing::warn!(%listen, "a process of another user listens here: nothing is taken over from it");
        return None;
    }
    Some(stream)
}

/// All topics, in memory: they become this engine's only once they are complete.
fn receive(stream: &UnixStream, shared: &Shared) -> io::Result<Vec<(String, Estate)>> {
    let mut from = BufReader::with_capacity(256 << 10, stream);
    say(&mut &*stream, &Frame::Hello { version: VERSION })?;
    let (mut topics, mut publications, mut buffer) = (Vec::<(String, Estate)>::new(), 0, Vec::new());
    loop {
        let frame = hear(&mut from, &mut buffer)?;
        match frame {
            Frame::Topic { name, epoch, offset } => {
                topics.push((name.to_owned(), Estate { epoch: Epoch(epoch), offset, history: Vec::new() }));
            }
            Frame::Publication { topic, .. } => {
                let publication = frame.publication(&shared.clock, &shared.encodings);
                let own = topics.last_mut().filter(|(name, _)| name == topic);
                let (Some(publication), Some((_, estate))) = (publication, own) else { return Err(unexpected(&frame)) };
                estate.history.push(Arc::new(publication));
                publications += 1;
            }
            Frame::End { topics: said, publications: counted } => {
                let complete = (said, counted) == (topics.len() as u64, publications);
                return if complete { Ok(topics) } else { Err(io::Error::other("some of it is missing")) };
            }
            other => return Err(unexpected(&other)),
        }
    }
}

fn expect_release(mut stream: &UnixStream) -> io::Result<()> {
    match hear(&mut stream, &mut Vec::new())? {
        Frame::Released => Ok(()),
        other => Err(unexpected(&other)),
    }
}

impl Link {
    /// Shows the predecessor every publication until it has ended, on a thread of its own.
    pub fn show(self, shared: Arc<Shared>) -> io::Result<()> {
        thread::Builder::new().name("fanfare-mirror".into()).spawn(move || {
            match self.write() {
                // Its subscribers find out by their position when they come back.
                Ok(()) => tracing::warn!("the predecessor was too slow to follow, and was let go"),
                Err(_) => tracing::info!("the predecessor has ended"),
            }
            shared.inboxes.1.release();
        })?;
        Ok(())
    }

    /// Ends with the predecessor, or when it was let go.
    fn write(&self) -> io::Result<()> {
        let mut to = BufWriter::with_capacity(256 << 10, &self.stream);
        loop {
            let publication = match self.following.next(PATIENCE / 10) {
                Ok(publication) => publication,
                Err(RecvTimeoutError::Timeout) => {
                    self.expect_silence()?;
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            };
            say(&mut to, &Frame::of(&publication))?;
            while let Ok(publication) = self.following.next(Duration::ZERO) {
                say(&mut to, &Frame::of(&publication))?;
            }
            to.flush()?;
        }
    }

    /// An error if the predecessor has ended.
    fn expect_silence(&self) -> io::Result<()> {
        // It says nothing any more: what can be read is its end.
        let mut byte = [0];
        self.stream.set_nonblocking(true)?;
        let peeked = io::Read::read(&mut &self.stream, &mut byte);
        self.stream.set_nonblocking(false)?;
        match peeked {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Ok(_) => Err(io::ErrorKind::UnexpectedEof.into()),
            Err(error) => Err(error),
        }
    }
}

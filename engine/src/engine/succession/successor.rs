//! The process that takes over. Before its shards begin to accept it asks whoever listens on its addresses for the topics;
//! afterwards it shows its predecessor every publication, for the subscribers that one still has.

use std::io::{self, BufReader, BufWriter, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::RecvTimeoutError;

use super::wire::{Frame, VERSION, hear, say, unexpected};
use super::{PATIENCE, START_PATIENCE, is_same_user, meeting_point};
use crate::pubsub::Epoch;
use crate::pubsub::succession::Estate;
use crate::shard::mirror::Following;
use crate::shard::shared::Shared;

/// How soon the predecessor is asked again.
const AGAIN: Duration = Duration::from_millis(10);

/// The way to the predecessor, once everything has been taken over.
#[derive(Debug)]
pub struct Link {
    stream: UnixStream,
    following: Following,
    /// How many were taken over.
    topics: usize,
}

/// Takes over from whoever listens on one of these addresses; `None` if nobody does who could hand anything over, which is
/// logged. `occupied` is whether somebody listens there.
///
/// # Errors
/// Another process is taking over: this one must not go on, as both would give offsets.
pub fn take_over(shared: &Arc<Shared>, listen: &[SocketAddr], occupied: bool) -> io::Result<Option<Link>> {
    let began = Instant::now();
    let mut seen_at = began;
    loop {
        let has_time = began.elapsed() < START_PATIENCE + PATIENCE;
        let Some(stream) = listen.iter().find_map(|address| ask(*address)) else {
            // Whoever has taken over a moment ago will be there in a moment.
            if occupied && seen_at.elapsed() < PATIENCE / 10 {
                thread::sleep(AGAIN);
                continue;
            }
            tracing::info!("there is nobody to take over from: starting without topics");
            return Ok(None);
        };
        seen_at = Instant::now();
        match receive(&stream, shared) {
            Ok(topics) => return Ok(Some(install(stream, topics, shared))),
            // It has ended, or another process is taking over from it.
            Err(error) if is_end(&error) && has_time => thread::sleep(AGAIN),
            Err(error) if is_end(&error) => {
                return Err(io::Error::other("another process is taking over from the one that listens here"));
            }
            Err(error) => {
                tracing::warn!(
                    %error, "the process that listens here does not hand over: clients cannot recover what it has"
                );
                return Ok(None);
            }
        }
    }
}

fn is_end(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionReset | UnexpectedEof)
}

/// Makes the topics this engine's, but for giving offsets.
fn install(stream: UnixStream, topics: Vec<(String, Estate)>, shared: &Arc<Shared>) -> Link {
    // What is published from when it gives offsets on, is shown.
    let following = shared.inboxes.1.follow();
    let (all, now) = (topics.len(), shared.clock.now());
    shared.topics.surrender();
    let install = |(name, estate): (String, Estate)| {
        let installed = shared.topics.install(&name, estate, true, now, &shared.inboxes);
        (!installed).then_some(name)
    };
    let left_out: Vec<String> = topics.into_iter().filter_map(install).collect();
    if let Some(first) = left_out.first() {
        let count = left_out.len();
        tracing::warn!(count, first, "topics are not taken over: topics_max leaves no room for them");
    }
    Link { stream, following, topics: all - left_out.len() }
}

/// Whether the process at the other end, which has closed its end, has ended. It may still be about to.
fn has_gone(stream: &UnixStream) -> bool {
    let Ok(peer) = rustix::net::sockopt::socket_peercred(stream) else { return false };
    let stat = format!("/proc/{}/stat", peer.pid.as_raw_nonzero());
    let until = Instant::now() + PATIENCE / 10;
    loop {
        let has_gone = match std::fs::read_to_string(&stat) {
            // Behind the name, which may hold anything; nobody has waited for the process, but that is all that is left.
            Ok(stat) => stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with(['Z', 'X'])),
            Err(error) => {
                error.kind() == io::ErrorKind::NotFound && std::fs::exists("/proc/self/stat").unwrap_or(false)
            }
        };
        if has_gone || Instant::now() > until {
            return has_gone;
        }
        thread::sleep(AGAIN);
    }
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
                let publication =
                    frame.publication(&shared.clock, &shared.encodings, shared.settings().deflate_min_bytes);
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
    /// We serve: the predecessor lets go, and from here on this engine gives the offsets; the predecessor is shown every
    /// publication until it has ended.
    ///
    /// # Errors
    /// The predecessor has not said that it lets go: this process must not go on, as both would give the same offsets.
    pub fn settle(self, shared: &Arc<Shared>) -> io::Result<()> {
        let settled = say(&mut &self.stream, &Frame::Taken).and_then(|()| expect_release(&self.stream));
        let has_gone = match settled {
            Ok(()) => false,
            Err(error) if is_end(&error) && has_gone(&self.stream) => true,
            Err(error) => {
                let message = format!("the process that was to hand over does not let go: {error}");
                return Err(io::Error::other(message));
            }
        };
        for topic in shared.topics.reclaim() {
            topic.reclaim();
        }
        tracing::info!(topics = self.topics, "taken over");
        if has_gone {
            shared.inboxes.1.release();
            return Ok(());
        }
        self.show(shared.clone())
    }

    /// Shows the predecessor every publication until it has ended, on a thread of its own.
    fn show(self, shared: Arc<Shared>) -> io::Result<()> {
        thread::Builder::new().name("fanfare-mirror".into()).spawn(move || {
            let written = self.write();
            shared.inboxes.1.release();
            use io::ErrorKind::{TimedOut, WouldBlock};
            if written.is_ok() || written.is_err_and(|error| matches!(error.kind(), TimedOut | WouldBlock)) {
                // Its subscribers find out by their position when they come back.
                tracing::warn!("the predecessor was too slow to follow, and was let go");
                // It takes the end of this for the end of this process, and would give offsets again.
                let _ = self.stream.set_read_timeout(None);
                let _ = io::Read::read(&mut &self.stream, &mut [0]);
            }
            tracing::info!("the predecessor has ended");
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

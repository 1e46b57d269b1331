//! The bounded inbox of a shard: publications, and commands from other threads. Wake-ups are coalesced: a producer wakes the
//! shard only if it may be asleep.

use std::any::Any;
use std::fmt;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crossbeam_channel::{Receiver, Sender, TrySendError};
use mio::Waker;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::inspect::{Behind, ConnectionDetails, ConnectionFilter, ConnectionInfo, Page};
use super::mirror::Mirror;
use crate::config::Settings;
use crate::handler::{Subscribe, Terms};
use crate::id::ConnectionId;
use crate::net::tls::TlsSession;
use crate::pubsub::publication::Publication;
use crate::pubsub::topic::{Inboxes, Notice, Topic};
use crate::pubsub::{SubscribeError, Subscribed};

/// One thing in an inbox.
#[derive(Debug)]
pub enum Item {
    /// A publication of a topic with subscribers here.
    Publication(Arc<Topic>, Arc<Publication>),
    /// Something else about a topic.
    Notice(Arc<Topic>, Notice),
    /// Something to do.
    Command(Box<Command>),
}

/// What other threads ask of a shard.
#[derive(Debug)]
pub enum Command {
    /// Send a frame to a connection.
    Send {
        /// The connection.
        id: ConnectionId,
        /// The whole frame.
        frame: Vec<u8>,
    },
    /// Close a connection.
    Close {
        /// The connection.
        id: ConnectionId,
        /// The close code.
        code: u16,
        /// The reason.
        reason: String,
        /// Told whether there was such a connection.
        reply: oneshot::Sender<bool>,
    },
    /// Subscribe a connection.
    Subscribe {
        /// The connection.
        id: ConnectionId,
        /// The topic or pattern.
        topic: String,
        /// How.
        subscribe: Subscribe,
        /// Told the outcome; `None` if there is no such connection.
        reply: oneshot::Sender<Option<Result<Subscribed, SubscribeError>>>,
    },
    /// End a subscription of a connection.
    Unsubscribe {
        /// The connection.
        id: ConnectionId,
        /// The topic or pattern.
        topic: String,
        /// Told whether there was such a subscription.
        reply: oneshot::Sender<bool>,
    },
    /// Give the handler something for a connection.
    Tell {
        /// The connection.
        id: ConnectionId,
        /// What.
        word: Word,
        /// Told whether there is such a connection.
        reply: oneshot::Sender<bool>,
    },
    /// Do something for the connections of a subject, in the order of their slots, some at a time.
    Subject {
        /// Whose.
        subject: Arc<str>,
        /// From this slot on.
        from_slot: u32,
        /// What.
        act: Arc<Act>,
        /// Told for how many.
        reply: oneshot::Sender<Reached>,
    },
    /// List connections in the order of their slots, a part at a time.
    Connections {
        /// Which.
        filter: Arc<ConnectionFilter>,
        /// From this slot on.
        from_slot: u32,
        /// At most so many.
        limit: usize,
        /// Told the list.
        reply: oneshot::Sender<Page>,
    },
    /// Describe one connection.
    Connection {
        /// The connection.
        id: ConnectionId,
        /// Told about it.
        reply: oneshot::Sender<Option<ConnectionInfo>>,
    },
    /// Tell all about one connection.
    Details {
        /// The connection.
        id: ConnectionId,
        /// Told about it.
        reply: oneshot::Sender<Option<ConnectionDetails>>,
    },
    /// Describe some connections.
    Describe {
        /// Which.
        ids: Vec<ConnectionId>,
        /// Told about them, `None` about those that have gone.
        reply: oneshot::Sender<Vec<Option<ConnectionInfo>>>,
    },
    /// Find those with the most that waits, a part at a time.
    Behind {
        /// From this place in the list of those that are behind.
        from: usize,
        /// At most so many.
        most: usize,
        /// Told about them.
        reply: oneshot::Sender<Behind>,
    },
    /// Take over a connection that was upgraded on the control plane.
    Adopt(Adoption),
}

/// A connection that was upgraded on the control plane and now belongs to a shard.
#[derive(Debug)]
pub struct Adoption {
    /// The socket, non-blocking.
    pub stream: TcpStream,
    /// What it is encrypted with.
    pub tls: Option<Box<TlsSession>>,
    /// The client.
    pub peer: SocketAddr,
    /// Whether it is counted among the connections of that address.
    pub counted: bool,
    /// The handler's data.
    pub data: Box<dyn Any + Send>,
    /// What it has beside.
    pub terms: Terms,
    /// What was read behind the upgrade.
    pub rest: Vec<u8>,
}

/// Something that a program says to its own handler.
pub type Word = Arc<dyn Any + Send + Sync>;

/// What is done for the connections of a subject.
pub enum Act {
    /// They are closed.
    Close {
        /// The close code.
        code: u16,
        /// The reason.
        reason: String,
    },
    /// They are sent a frame.
    Send {
        /// The whole frame.
        frame: Vec<u8>,
    },
    /// They are subscribed.
    Subscribe {
        /// The topic or pattern.
        topic: String,
        /// How.
        subscribe: Subscribe,
    },
    /// A subscription of theirs is ended.
    Unsubscribe {
        /// The topic or pattern.
        topic: String,
    },
    /// Their handler is given something.
    Tell {
        /// What.
        word: Word,
    },
}

impl fmt::Debug for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Close { .. } => "Close",
            Self::Send { .. } => "Send",
            Self::Subscribe { .. } => "Subscribe",
            Self::Unsubscribe { .. } => "Unsubscribe",
            Self::Tell { .. } => "Tell",
        })
    }
}

/// For how many connections something was done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reached {
    /// Open connections of the subject.
    pub connections: usize,
    /// Those of them for which it was done.
    pub done: usize,
    /// From which slot on to go on; `None` at the end.
    pub next_slot: Option<u32>,
}

/// What a deferred call was completed with.
pub type Resumed = (ConnectionId, Option<Box<dyn Any + Send>>);

/// Why an inbox did not take a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotTaken {
    /// It is full.
    Full,
    /// Its shard has ended.
    Ended,
}

/// The sending side of a shard's inbox.
#[derive(Debug)]
pub struct Inbox {
    sender: Sender<Item>,
    publications: AtomicUsize,
    bytes: AtomicUsize,
    commands: AtomicUsize,
    publications_max: usize,
    bytes_max: usize,
    commands_max: usize,
    /// Completed deferrals. Bounded by the connections, each of which can have one; so it needs no bound of its own, and
    /// completing never fails.
    resumed: Mutex<Vec<Resumed>>,
    /// Whether the shard will look into the inbox before it sleeps again.
    awake: AtomicBool,
    waker: Waker,
}

impl Inbox {
    /// An inbox and its receiving side.
    #[must_use]
    pub fn new(settings: &Settings, waker: Waker) -> (Self, Receiver<Item>) {
        // Room is reserved by the counters below, so that the channel itself is never full.
        let (sender, receiver) = crossbeam_channel::bounded(settings.inbox_messages + settings.inbox_commands);
        let inbox = Self {
            sender,
            publications: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            commands: AtomicUsize::new(0),
            publications_max: settings.inbox_messages,
            bytes_max: settings.inbox_bytes,
            commands_max: settings.inbox_commands,
            resumed: Mutex::default(),
            awake: AtomicBool::new(true),
            waker,
        };
        (inbox, receiver)
    }

    fn reserve(&self, bytes: usize) -> bool {
        if self.publications.fetch_add(1, Ordering::Relaxed) >= self.publications_max {
            self.publications.fetch_sub(1, Ordering::Relaxed);
            return false;
        }
        let before = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        // One publication always finds room, however large.
        if before > 0 && before + bytes > self.bytes_max {
            self.release(1, bytes);
            return false;
        }
        true
    }

    /// Publications have left the inbox, or never came.
    pub fn release(&self, publications: usize, bytes: usize) {
        self.publications.fetch_sub(publications, Ordering::Relaxed);
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Commands have left the inbox.
    pub fn release_commands(&self, commands: usize) {
        self.commands.fetch_sub(commands, Ordering::Relaxed);
    }

    fn reserve_command(&self) -> bool {
        let room = self.commands.fetch_add(1, Ordering::Relaxed) < self.commands_max;
        if !room {
            self.commands.fetch_sub(1, Ordering::Relaxed);
        }
        room
    }

    /// Uses a reservation; false if the shard has ended.
    fn push(&self, item: Item) -> bool {
        let pushed = self.sender.try_send(item);
        debug_assert!(!matches!(pushed, Err(TrySendError::Full(_))), "room was reserved");
        pushed.is_ok()
    }

    /// Adds a command and wakes the shard.
    ///
    /// # Errors
    /// The inbox is full, or the shard has ended.
    pub fn command(&self, command: Command) -> Result<(), NotTaken> {
        if !self.reserve_command() {
            self.wake();
            return Err(NotTaken::Full);
        }
        if !self.push(Item::Command(Box::new(command))) {
            self.release_commands(1);
            return Err(NotTaken::Ended);
        }
        self.wake();
        Ok(())
    }

    /// Completes a deferral.
    pub fn resume(&self, resumed: Resumed) {
        self.resumed.lock().push(resumed);
        self.wake();
    }

    /// Takes the completed deferrals.
    pub fn take_resumed(&self) -> Vec<Resumed> {
        std::mem::take(&mut *self.resumed.lock())
    }

    /// Wakes the shard, unless it is awake.
    pub fn wake(&self) {
        if !self.awake.swap(true, Ordering::SeqCst) {
            // An eventfd that cannot be written is already readable.
            let _ = self.waker.wake();
        }
    }

    /// The shard is about to sleep; false if there is something to do first. Producers wake it from here on.
    pub fn may_sleep(&self, receiver: &Receiver<Item>) -> bool {
        self.awake.store(false, Ordering::SeqCst);
        // Looked at only after the store: a producer that pushed before it is seen here, one that pushes after it wakes us.
        if receiver.is_empty() && self.resumed.lock().is_empty() {
            return true;
        }
        self.awake.store(true, Ordering::SeqCst);
        false
    }

    /// The shard has woken up.
    pub fn woken(&self) {
        self.awake.store(true, Ordering::SeqCst);
    }

    /// Publications that wait.
    pub fn depth(&self) -> usize {
        self.publications.load(Ordering::Relaxed)
    }

    /// Bytes of publications that wait.
    pub fn depth_bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }
}

/// The inboxes of all shards, as topics see them, and whoever follows all topics.
#[derive(Debug)]
pub struct AllInboxes(pub Vec<Inbox>, pub Mirror);

impl Inboxes for AllInboxes {
    fn reserve(&self, shard: usize, bytes: usize) -> bool {
        self.0[shard].reserve(bytes)
    }

    fn release(&self, shard: usize, bytes: usize) {
        self.0[shard].release(1, bytes);
    }

    fn push(&self, shard: usize, topic: &Arc<Topic>, publication: &Arc<Publication>) {
        self.0[shard].push(Item::Publication(topic.clone(), publication.clone()));
    }

    fn mirror(&self, publication: &Arc<Publication>) {
        self.1.show(publication);
    }

    fn notify(&self, shard: usize, topic: &Arc<Topic>, notice: Notice) -> bool {
        self.0[shard].reserve_command() && self.0[shard].push(Item::Notice(topic.clone(), notice))
    }

    fn wake(&self, shard: usize) {
        self.0[shard].wake();
    }
}

//! What other threads ask of a shard, carried out. What concerns a whole subject is done for so many of its connections at
//! a time, so that a subject with very many of them holds up nobody.

use super::connection::State;
use super::core::{Call, Core};
use super::inbox::{Act, Command, Reached};
use crate::close::CloseCause;

/// Connections of a subject served by one command.
const ACTS_MAX: usize = 256;

impl Core {
    /// Carries out a command.
    pub fn take_command(&mut self, command: Command) {
        // A receiver that has gone away no longer wants the answer.
        match command {
            Command::Send { id, frame } => {
                if let Some(slot) = self.open_slot(id) {
                    self.catch_up(slot);
                    let _ = self.send_frame(slot, frame, None);
                }
            }
            Command::Close { id, code, reason, reply } => {
                let slot = self.open_slot(id);
                if let Some(slot) = slot {
                    self.close(slot, CloseCause::Administrative, code, &reason);
                }
                let _ = reply.send(slot.is_some());
            }
            Command::Subscribe { id, topic, subscribe, reply } => {
                let slot = self.open_slot(id);
                let _ = reply.send(slot.map(|slot| self.subscribe(slot, &topic, subscribe, &mut |_| None)));
            }
            Command::Unsubscribe { id, topic, reply } => {
                let slot = self.open_slot(id);
                let _ = reply.send(slot.is_some_and(|slot| self.unsubscribe(slot, &topic)));
            }
            Command::Tell { id, word, reply } => {
                let slot = self.open_slot(id);
                if let Some(slot) = slot {
                    self.call(slot, Call::Told(word));
                }
                let _ = reply.send(slot.is_some());
            }
            Command::Subject { subject, from_slot, act, reply } => {
                let _ = reply.send(self.act_for(&subject, from_slot, &act));
            }
            Command::Connections { filter, from_slot, limit, reply } => {
                let _ = reply.send(self.list_connections(&filter, from_slot, limit));
            }
            Command::Connection { id, reply } => {
                let _ = reply.send(self.slot(id).and_then(|slot| self.describe(slot)));
            }
            Command::Details { id, reply } => {
                let _ = reply.send(self.slot(id).and_then(|slot| self.details(slot)));
            }
            Command::Describe { ids, reply } => {
                let _ = reply.send(self.describe_all(&ids));
            }
            Command::Behind { from, most, reply } => {
                let _ = reply.send(self.behind(from, most));
            }
            Command::Adopt(adoption) => self.adopted.push(adoption),
        }
    }

    /// Does something for the next connections of a subject.
    fn act_for(&mut self, subject: &str, from_slot: u32, act: &Act) -> Reached {
        let (slots, _) = self.slots_of(subject, from_slot);
        let mut reached = Reached { next_slot: slots.get(ACTS_MAX).copied(), ..Reached::default() };
        for slot in slots.into_iter().take(ACTS_MAX) {
            // What is done for one may end another: it publishes nothing, but it writes.
            if self.connections[slot as usize].state != State::Open {
                continue;
            }
            reached.connections += 1;
            reached.done += usize::from(self.act(slot, act));
        }
        reached
    }

    /// Whether it has been done.
    fn act(&mut self, slot: u32, act: &Act) -> bool {
        match act {
            Act::Close { code, reason } => {
                self.close(slot, CloseCause::Administrative, *code, reason);
                true
            }
            Act::Send { frame } => {
                self.catch_up(slot);
                use crate::handler::SendOutcome::{Queued, Written};
                matches!(self.send_frame(slot, frame.clone(), None), Written | Queued)
            }
            Act::Subscribe { topic, subscribe } => self.subscribe(slot, topic, *subscribe, &mut |_| None).is_ok(),
            Act::Unsubscribe { topic } => self.unsubscribe(slot, topic),
            Act::Tell { word } => {
                self.call(slot, Call::Told(word.clone()));
                true
            }
        }
    }
}

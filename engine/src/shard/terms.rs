//! What a connection is beside a socket: whose it is, and which limits are its own. Open connections are found by their
//! subject through an index of the shard, into which they come and out of which they go here alone.

use std::sync::Arc;

use super::connection::State;
use super::core::Core;
use crate::config::ConnectionLimits;
use crate::handler::Terms;

impl Core {
    /// What was said when it was accepted.
    pub fn agree(&mut self, slot: u32, terms: Terms) {
        if terms.subject.is_some() {
            self.set_subject(slot, terms.subject);
        }
        if terms.limits.is_some() {
            self.set_limits(slot, terms.limits);
        }
        if terms.window.is_some() {
            let connection = self.at(slot);
            connection.window = terms.window;
            connection.session.agree_deflate();
            self.metrics().upgrades_deflated.add(1);
        }
    }

    /// Whose connection it is.
    pub fn subject(&self, slot: u32) -> Option<Arc<str>> {
        self.connections[slot as usize].rare.as_ref()?.subject.clone()
    }

    /// Says whose connection it is.
    pub fn set_subject(&mut self, slot: u32, subject: Option<Arc<str>>) {
        self.forget_subject(slot);
        // Who is closing is not found by a subject any more.
        let is_found = matches!(self.at(slot).state, State::Head | State::Open);
        if let Some(subject) = subject.as_ref().filter(|_| is_found) {
            self.subjects.entry(subject.clone()).or_default().insert(slot);
        }
        self.at(slot).rare().subject = subject;
    }

    /// It is not found by its subject any more: it closes, or gets another one.
    pub fn forget_subject(&mut self, slot: u32) {
        let Some(subject) = self.subject(slot) else { return };
        if let Some(slots) = self.subjects.get_mut(&subject) {
            slots.remove(&slot);
            if slots.is_empty() {
                self.subjects.remove(&subject);
            }
        }
    }

    /// Gives it limits of its own.
    pub fn set_limits(&mut self, slot: u32, limits: Option<Box<ConnectionLimits>>) {
        let connection = self.at(slot);
        connection.rare().limits = limits;
        if connection.state == State::Open {
            self.rearm_one(slot);
        }
    }
}

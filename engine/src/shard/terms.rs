//! What a connection is beside a socket: whose it is, and which limits are its own.

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
    }

    /// Whose connection it is.
    pub fn subject(&self, slot: u32) -> Option<Arc<str>> {
        self.connections[slot as usize].rare.as_ref()?.subject.clone()
    }

    /// Says whose connection it is.
    pub fn set_subject(&mut self, slot: u32, subject: Option<Arc<str>>) {
        self.at(slot).rare().subject = subject;
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

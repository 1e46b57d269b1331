//! What is said and waited for besides publications: the opening, and the answers of a whole connection. Sans-IO.
//!
//! Owner: a client.

use std::sync::Arc;

use memchr::{memchr, memmem};

use crate::target::{Habits, Line};

/// What a message is to the conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard<'a> {
    /// Nothing: it is for the sink.
    Message,
    /// It is dealt with.
    Done,
    /// It is dealt with, and this is said to it.
    Say(&'a [u8]),
}

/// The opening of a connection, as far as it has come.
#[derive(Debug)]
pub(super) struct Opening {
    script: Arc<[Line]>,
    at: usize,
}

impl Opening {
    pub fn new(script: Arc<[Line]>) -> Self {
        Self { script, at: 0 }
    }

    /// Says all lines up to the next that waits. Whether the script is done.
    pub fn go_on(&mut self, mut say: impl FnMut(&[u8])) -> bool {
        while let Some(Line::Send(text)) = self.script.get(self.at) {
            say(text);
            self.at += 1;
        }
        self.at == self.script.len()
    }

    /// Whether this is the message that is waited for; if so, [`Self::go_on`].
    pub fn hear(&mut self, message: &[u8]) -> bool {
        let is_expected = match self.script.get(self.at) {
            Some(Line::Expect(part)) => memmem::find(message, part).is_some(),
            _ => false,
        };
        self.at += usize::from(is_expected);
        is_expected
    }
}

/// What the habits make of a message.
pub(super) fn hear<'h>(habits: &'h Habits, message: &[u8]) -> Heard<'h> {
    match habits.answers.iter().find(|reply| message.starts_with(&reply.to)) {
        None => Heard::Message,
        Some(reply) if reply.send.is_empty() => Heard::Done,
        Some(reply) => Heard::Say(&reply.send),
    }
}

/// The messages in a message: its lines that are not empty, if the habits say that it has several; else itself.
pub(super) fn split<'m>(habits: &Habits, message: &'m [u8], mut each: impl FnMut(&'m [u8])) {
    if !habits.lines {
        return each(message);
    }
    let mut rest = message;
    loop {
        let end = memchr(b'\n', rest).unwrap_or(rest.len());
        if end > 0 {
            each(&rest[..end]);
        }
        if end == rest.len() {
            return;
        }
        rest = &rest[end + 1..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::Reply;

    fn line(text: &str) -> Box<[u8]> {
        text.as_bytes().into()
    }

    #[test]
    fn lines_are_said_in_order_each_wait_met_by_the_next_message_that_contains_its_text() {
        let script = [
            Line::Expect(line("hello")),
            Line::Send(line("a")),
            Line::Send(line("b")),
            Line::Expect(line("x")),
            Line::Expect(line("x")),
            Line::Send(line("c")),
        ];
        let mut opening = Opening::new(script.into());
        let mut said = Vec::new();
        let mut hear = |message: &str| {
            let expected = opening.hear(message.as_bytes());
            let done = opening.go_on(|text| said.extend_from_slice(text));
            (expected, done, String::from_utf8(said.clone()).expect("text"))
        };
        assert_eq!(hear("x"), (false, false, String::new()));
        assert_eq!(hear("oh, hello!"), (true, false, "ab".into()));
        assert_eq!(hear("hello"), (false, false, "ab".into()));
        assert_eq!(hear("axa"), (true, false, "ab".into()));
        assert_eq!(hear("x"), (true, true, "abc".into()));
        assert_eq!(hear("x"), (false, true, "abc".into()));
    }

    #[test]
    fn an_empty_script_is_done_at_once() {
        assert!(Opening::new(Arc::default()).go_on(|_| unreachable!("there is nothing to say")));
    }

    #[test]
    fn the_first_answer_that_fits_the_beginning_of_a_message_is_said() {
        let reply = |to, send| Reply { to: line(to), send: line(send) };
        let answers = vec![reply("2", "3"), reply("ok", ""), reply("22", "never")];
        let habits = Habits { answers, ..Habits::default() };
        assert_eq!(hear(&habits, b"2"), Heard::Say(b"3"));
        assert_eq!(hear(&habits, b"22"), Heard::Say(b"3"));
        assert_eq!(hear(&habits, b"ok then"), Heard::Done);
        assert_eq!(hear(&habits, b"12"), Heard::Message);
        assert_eq!(hear(&habits, b""), Heard::Message);
    }

    #[test]
    fn lines_are_messages_only_where_habits_say_so() {
        let found = |lines, message: &'static str| {
            let habits = Habits { lines, ..Habits::default() };
            let mut found = Vec::new();
            split(&habits, message.as_bytes(), |line| found.push(std::str::from_utf8(line).expect("text")));
            found
        };
        assert_eq!(found(false, "a\nb"), ["a\nb"]);
        assert_eq!(found(false, ""), [""]);
        assert_eq!(found(true, "a\nb"), ["a", "b"]);
        assert_eq!(found(true, "{}\n"), ["{}"]);
        assert_eq!(found(true, "\n\na\n"), ["a"]);
        assert!(found(true, "").is_empty());
    }
}

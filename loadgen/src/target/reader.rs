//! Reads templates of a scenario: no placeholder stands for something that is not set, no header smuggles in another.
//!
//! Owner: [`Target::of`](super::Target::of); it lives only as long as that.

use std::collections::BTreeMap;
use std::path::Path;

use fanfare::ws::handshake::{is_header_name, is_header_value};

use crate::failure::Failure;
use crate::scenario::{AppSettings, TargetSettings};

use super::template::{Place, Template, What};

/// What is set, and so may be spoken of.
pub(super) struct Reader<'a> {
    pub has_tokens: bool,
    pub app: &'a AppSettings,
}

impl Reader<'_> {
    /// Reads one template.
    ///
    /// # Errors
    /// [`Failure::Usage`], naming `part`: what [`Template::parse`] refuses, and placeholders for what is not set.
    pub fn template(&self, part: &str, text: &str, place: Place, allowed: &[What]) -> Result<Template, Failure> {
        let template = Template::parse(part, text, place, allowed)?;
        let unset = |name: &str, setting: &str| {
            Err(Failure::usage(format!("{part} is '{text}': {{{name}}} needs {setting}, which is not set")))
        };
        if template.has(What::Token) && !self.has_tokens {
            return unset("token", "target.token or target.token_file");
        }
        if template.has(What::AppId) && self.app.id.is_none() {
            return unset("app_id", "target.app.id");
        }
        if (template.has(What::AppKey) || template.has(What::PusherAuth)) && self.app.key.is_none() {
            return unset("app_key", "target.app.key");
        }
        if template.has(What::PusherAuth) && self.app.secret.is_none() {
            return unset("pusher_auth", "target.app.secret");
        }
        Ok(template)
    }

    /// Reads a path with its query.
    pub fn path(&self, part: &str, text: &str, allowed: &[What]) -> Result<Template, Failure> {
        if !text.starts_with('/') || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Failure::usage(format!(
                "{part} is '{text}': a path begins with '/' and is percent-encoded, without blanks"
            )));
        }
        self.template(part, text, Place::Path, allowed)
    }

    /// Reads headers, as lines of a request. `reserved` (in small letters) are made by the load generator itself.
    pub fn headers(
        &self,
        part: &str,
        headers: &BTreeMap<String, String>,
        reserved: &[&str],
    ) -> Result<Template, Failure> {
        let mut lines = Template::default();
        for (name, value) in headers {
            if !is_header_name(name) {
                return Err(Failure::usage(format!("{part} has '{}': that is no header's name", name.escape_debug())));
            }
            if reserved.contains(&name.to_ascii_lowercase().as_str()) {
                return Err(Failure::usage(format!("{part} has '{name}': that header is made by the load generator")));
            }
            if !is_header_value(value) {
                return Err(Failure::usage(format!(
                    "{part}.{name} is '{}': a header's value is text on one line",
                    value.escape_debug()
                )));
            }
            let allowed = [What::Client, What::Token, What::AppId, What::AppKey];
            lines.push(&format!("{name}: "));
            lines.append(self.template(&format!("{part}.{name}"), value, Place::Header, &allowed)?);
            lines.push("\r\n");
        }
        Ok(lines)
    }
}

/// The tokens of a scenario: none, one for all, or a file of them.
pub(super) fn tokens(settings: &TargetSettings) -> Result<Box<[Box<str>]>, Failure> {
    match (&settings.token, &settings.token_file) {
        (None, None) => Ok(Box::default()),
        (Some(_), Some(_)) => Err(Failure::usage("target.token and target.token_file exclude each other")),
        (Some(token), None) => {
            if !is_header_value(token) || token.is_empty() {
                return Err(Failure::usage("target.token must be text on one line"));
            }
            Ok([token.as_str().into()].into())
        }
        (None, Some(path)) => tokens_of_file(path),
    }
}

fn tokens_of_file(path: &Path) -> Result<Box<[Box<str>]>, Failure> {
    let shown = path.display();
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::failed(format!("target.token_file: {shown} cannot be read: {error}")))?;
    let mut tokens: Vec<Box<str>> = Vec::new();
    for (n, line) in text.lines().enumerate() {
        let token = line.trim();
        if !is_header_value(token) {
            let n = n + 1;
            return Err(Failure::usage(format!("target.token_file: line {n} of {shown} has control characters")));
        }
        if !token.is_empty() {
            tokens.push(token.into());
        }
    }
    if tokens.is_empty() {
        return Err(Failure::usage(format!("target.token_file: {shown} holds no token")));
    }
    Ok(tokens.into())
}

/// Refuses values of `target.app` that would break a header.
pub(super) fn check_app(app: &AppSettings) -> Result<(), Failure> {
    for (name, value) in [("id", &app.id), ("key", &app.key), ("secret", &app.secret)] {
        if value.as_ref().is_some_and(|value| value.is_empty() || !is_header_value(value)) {
            return Err(Failure::usage(format!("target.app.{name} must be text on one line")));
        }
    }
    Ok(())
}

//! Who a client is, and what it may do.

pub mod settings;

use std::fmt;

pub use self::settings::{AuthSettings, CallbackSettings, JwtKey, Role, Rules, Secret};
use super::http::error::ApiError;
use crate::Arrival;

/// What somebody wants to do with a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Get its publications.
    Subscribe,
    /// Publish to it.
    Publish,
    /// Read what is kept of it, beyond what a subscription brings.
    History,
    /// Look into it and remove things; on `>`: everything, connections and the server itself included.
    Admin,
}

/// Decides who a client is and what it may do. One for the server; what it decides by can be replaced while it runs.
pub struct Auth {}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Auth")
    }
}

impl Auth {
    /// Reads the keys.
    ///
    /// # Errors
    /// A sentence that names the setting and the file, and says what to do.
    pub fn new(_settings: &AuthSettings) -> Result<Self, String> {
        Ok(Self {})
    }

    /// Reads the keys anew and decides by them from now on; keeps what it had if something is wrong.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn reload(&self, _settings: &AuthSettings) -> Result<(), String> {
        Ok(())
    }

    /// Decides whether an HTTP request may do this: on a topic, or on everything.
    ///
    /// # Errors
    /// The answer: 401 without valid credentials, 403 if they do not permit it.
    pub async fn api(
        &self,
        _arrival: &Arrival,
        _headers: &http::HeaderMap,
        _action: Action,
        _topic: Option<&str>,
    ) -> Result<(), ApiError> {
        Ok(())
    }
}

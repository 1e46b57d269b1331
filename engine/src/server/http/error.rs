//! Every HTTP answer that is no success: a status, and `{"code","message"}`. The one place where errors of the engine
//! become statuses.

use axum::extract::rejection::PathRejection;
use axum::response::{IntoResponse, Response};
use http::header::RETRY_AFTER;
use http::{HeaderName, HeaderValue, StatusCode};

use crate::server::query::BadQuery;
use crate::{NameError, PublishError};

/// An answer that says what went wrong: `code` for programs, `message` for people.
#[derive(Debug)]
pub struct ApiError {
    status: StatusCode,
    code: &'static str,
    message: String,
    headers: Vec<(HeaderName, String)>,
}

impl ApiError {
    /// An error.
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), headers: Vec::new() }
    }

    /// 400.
    pub fn bad_request(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }

    /// 404.
    pub fn not_found(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, code, message)
    }

    /// 503, to be tried again in a second.
    pub fn unavailable(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, code, message).header(RETRY_AFTER, "1")
    }

    /// 503, since the shards have no room or do not answer.
    pub fn overloaded() -> Self {
        Self::unavailable("overloaded", "the server cannot take this now: try again")
    }

    /// 500.
    pub fn internal() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the server failed to answer")
    }

    /// With a header; left out if its value is none.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// The error's name.
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.code
    }

    /// The error as a JSON object.
    #[must_use]
    pub fn value(&self) -> serde_json::Value {
        serde_json::json!({ "code": self.code, "message": self.message })
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = super::json(self.status, self.value().to_string().into());
        for (name, value) in self.headers {
            if let Ok(value) = HeaderValue::try_from(value) {
                response.headers_mut().insert(name, value);
            }
        }
        response
    }
}

impl From<BadQuery> for ApiError {
    fn from(BadQuery(message): BadQuery) -> Self {
        Self::bad_request("bad_query", message)
    }
}

impl From<NameError> for ApiError {
    fn from(error: NameError) -> Self {
        Self::bad_request("bad_topic", error.to_string())
    }
}

impl From<PathRejection> for ApiError {
    fn from(rejection: PathRejection) -> Self {
        Self::bad_request("bad_path", rejection.body_text())
    }
}

impl From<PublishError> for ApiError {
    fn from(error: PublishError) -> Self {
        let status = match error {
            PublishError::Overloaded => return Self::overloaded(),
            PublishError::Name(_) => StatusCode::BAD_REQUEST,
            PublishError::TooManyTopics { .. } => StatusCode::TOO_MANY_REQUESTS,
            PublishError::TooBig { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            PublishError::ShuttingDown => return Self::unavailable(error.label(), error.to_string()),
        };
        Self::new(status, error.label(), error.to_string())
    }
}

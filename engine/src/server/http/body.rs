//! The bodies of requests: bounded each, bounded together, and bounded in time, so that neither many nor slow uploads
//! hold memory.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::{Body, HttpBody};
use http::StatusCode;
use http_body_util::BodyExt;

use super::error::ApiError;

/// What all unfinished bodies may hold together, in bytes, unless one alone may be longer.
const BODIES_BYTES_MAX: usize = 64 << 20;

/// How long a body may take.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// The memory of all unfinished bodies.
#[derive(Debug, Default)]
pub struct BodyBudget {
    held_bytes: AtomicUsize,
}

/// What one body holds; given back when its request is done.
#[derive(Debug)]
pub struct Held<'a> {
    budget: &'a BodyBudget,
    bytes: Vec<u8>,
    counted: usize,
}

impl BodyBudget {
    /// Reads a body to its end.
    ///
    /// # Errors
    /// 413 if it has more than `bytes_max` bytes, 408 if it takes too long, 503 if there is no memory for it now, 400
    /// if it breaks off.
    pub async fn read(&self, body: Body, bytes_max: usize) -> Result<Held<'_>, ApiError> {
        match tokio::time::timeout(BODY_TIMEOUT, self.read_all(body, bytes_max)).await {
            Ok(read) => read,
            Err(_) => Err(ApiError::new(StatusCode::REQUEST_TIMEOUT, "timeout", "the body took more than 30 s")),
        }
    }

    async fn read_all(&self, mut body: Body, bytes_max: usize) -> Result<Held<'_>, ApiError> {
        // Said beforehand to be too long: not worth reading.
        if HttpBody::size_hint(&body).lower() > bytes_max as u64 {
            return Err(too_big(bytes_max));
        }
        let mut held = Held { budget: self, bytes: Vec::new(), counted: 0 };
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| ApiError::bad_request("bad_body", "the body broke off"))?;
            if let Ok(data) = frame.into_data() {
                held.push(&data, bytes_max)?;
            }
        }
        Ok(held)
    }
}

impl Held<'_> {
    /// The body.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn push(&mut self, data: &[u8], bytes_max: usize) -> Result<(), ApiError> {
        let length = self.bytes.len() + data.len();
        if length > bytes_max {
            return Err(too_big(bytes_max));
        }
        let total = self.budget.held_bytes.fetch_add(data.len(), Ordering::Relaxed) + data.len();
        self.counted += data.len();
        if total > BODIES_BYTES_MAX.max(bytes_max) {
            return Err(ApiError::overloaded());
        }
        self.bytes.extend_from_slice(data);
        Ok(())
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.budget.held_bytes.fetch_sub(self.counted, Ordering::Relaxed);
    }
}

fn too_big(bytes_max: usize) -> ApiError {
    let message = format!("a body has at most {bytes_max} bytes (message_bytes)");
    ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "message_too_big", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(budget: &BodyBudget) -> Held<'_> {
        Held { budget, bytes: Vec::new(), counted: 0 }
    }

    #[test]
    fn memory_is_bounded_over_all_bodies_and_given_back() {
        let budget = BodyBudget::default();
        let chunk = vec![0; 1 << 20];
        let mut bodies: Vec<_> = (0..64).map(|_| held(&budget)).collect();
        for body in &mut bodies {
            body.push(&chunk, 1 << 20).unwrap();
        }
        assert_eq!(held(&budget).push(&chunk, 1 << 20).unwrap_err().code(), "overloaded");
        bodies.pop();
        held(&budget).push(&chunk, 1 << 20).unwrap();
        drop(bodies);
        assert_eq!(budget.held_bytes.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn one_body_is_bounded() {
        let budget = BodyBudget::default();
        let mut body = held(&budget);
        body.push(b"12345", 9).unwrap();
        assert_eq!(body.push(b"67890", 9).unwrap_err().code(), "message_too_big");
    }
}

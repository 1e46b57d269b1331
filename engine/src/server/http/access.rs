//! Who may do what over HTTP. A route of the API that is not named here is for those who may administer everything, so that
//! a new one is not open by mistake; health checks, pages and files are for everybody.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::{HeaderMap, Method};

use super::error::ApiError;
use super::{Service, Shared};
use crate::Arrival;
use crate::server::auth::{Action, Identity, is_reserved};
use crate::server::query::percent_decode;

/// Who a request is from, for the routes that check each topic themselves.
#[derive(Debug, Clone)]
pub struct Caller(Arc<Identity>);

/// What a request to the API needs.
#[derive(Debug, PartialEq, Eq)]
enum Need {
    /// The route checks each topic that it is asked to publish to.
    Publishing,
    /// Something of a topic.
    Topic(Action, String),
    /// To administer everything.
    Server,
}

impl Need {
    /// Of a path below `/api`, which may have been cut off.
    fn of(method: &Method, path: &str) -> Self {
        let path = path.strip_prefix("/api").unwrap_or(path);
        if matches!(path, "/publish" | "/batch") {
            return Self::Publishing;
        }
        let topic = path.strip_prefix("/topics/").map(|rest| rest.split_once('/').map_or(rest, |(topic, _)| topic));
        let reads = matches!(*method, Method::GET | Method::HEAD);
        match topic.and_then(percent_decode).filter(|topic| !topic.is_empty()) {
            Some(topic) => Self::Topic(if reads { Action::History } else { Action::Admin }, topic),
            None => Self::Server,
        }
    }
}

/// Lets a request to the API through if it may do what it is for.
pub(super) async fn guard(State(service): Shared, mut request: Request, next: Next) -> Result<Response, ApiError> {
    let auth = &service.site.auth;
    let identity = auth.identify(&arrival(&request)?, request.headers()).await?;
    match Need::of(request.method(), request.uri().path()) {
        Need::Publishing => {}
        Need::Topic(action, topic) => auth.check(&identity, action, Some(&topic))?,
        Need::Server => auth.check(&identity, Action::Admin, None)?,
    }
    request.extensions_mut().insert(Caller(identity));
    Ok(next.run(request).await)
}

/// Lets a request through if it may administer everything.
pub(super) async fn guard_server(State(service): Shared, request: Request, next: Next) -> Result<Response, ApiError> {
    let headers: &HeaderMap = request.headers();
    service.site.auth.api(&arrival(&request)?, headers, Action::Admin, None).await?;
    Ok(next.run(request).await)
}

fn arrival(request: &Request) -> Result<Arrival, ApiError> {
    request.extensions().get().cloned().ok_or_else(ApiError::internal)
}

impl Caller {
    /// Checks that this caller may publish to a topic.
    pub(super) fn check_publish(&self, service: &Service, topic: &str) -> Result<(), ApiError> {
        service.site.auth.check(&self.0, Action::Publish, Some(topic))?;
        if is_reserved(topic) {
            let message = "topics that begin with '$' are the server's own: they can be subscribed to";
            return Err(ApiError::new(http::StatusCode::FORBIDDEN, "reserved", message));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_named_is_for_administrators() {
        let of = |method: Method, path: &str| Need::of(&method, path);
        assert_eq!(of(Method::POST, "/publish"), Need::Publishing);
        assert_eq!(of(Method::POST, "/api/batch"), Need::Publishing);
        for path in ["/", "/info", "/topics", "/topics/", "/connections", "/connections/0-1-1", "/reload", "/publish/x"]
        {
            assert_eq!(of(Method::GET, path), Need::Server, "{path}");
        }
        for path in ["/topics/a%2Fb", "/api/topics/a%2Fb/history", "/topics/a%2Fb/whatever/else"] {
            assert_eq!(of(Method::GET, path), Need::Topic(Action::History, "a/b".into()), "{path}");
            assert_eq!(of(Method::DELETE, path), Need::Topic(Action::Admin, "a/b".into()), "{path}");
        }
        assert_eq!(of(Method::GET, "/topics/%ff"), Need::Server, "no name");
    }
}

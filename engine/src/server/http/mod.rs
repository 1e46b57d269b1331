//! HTTP: the API, the page to try it, static files. Runs on the control thread, beside the WebSockets on the same port.
//!
//! [`publish`] publishes, [`inspect`] and [`connections`] tell what there is, [`act`] does something for connections,
//! [`reload`] reads the configuration again, [`pages`] serves files, [`access`] says who may do what, [`body`] bounds what
//! requests bring, and [`error`] is every answer that is no success.

pub mod access;
pub mod act;
pub mod body;
pub mod connections;
pub mod error;
pub mod inspect;
pub mod pages;
pub mod publish;
pub mod reload;

use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http::header::{CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HOST, ORIGIN, UPGRADE, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use crate::server::Auth;
use crate::server::config::reload::Reloads;
use crate::{Arrival, EngineHandle, Origins};
use body::BodyBudget;
use error::ApiError;

/// What the HTTP service needs to know besides the engine.
#[derive(Debug, Clone)]
pub struct Site {
    /// The directory of static files, if there is one.
    pub files: Option<PathBuf>,
    /// Who decides what a request may do.
    pub auth: Arc<Auth>,
    /// The configuration, if it can be read again.
    pub reloads: Option<Arc<Reloads>>,
}

/// What every route has at hand.
#[derive(Debug)]
pub struct Service {
    engine: EngineHandle,
    site: Site,
    bodies: BodyBudget,
}

type Shared = State<Arc<Service>>;

/// All of it.
pub fn router(engine: EngineHandle, site: Site) -> Router {
    if let Some(reloads) = &site.reloads {
        reloads.register(&engine);
    }
    let service = Arc::new(Service { engine, site, bodies: BodyBudget::default() });
    let api = Router::new()
        .route("/publish", post(publish::one))
        .route("/batch", post(publish::batch))
        .route("/reload", post(reload::reload))
        .route("/info", get(inspect::info))
        .route("/topics", get(inspect::topics))
        .route("/topics/{topic}", get(inspect::topic))
        .route("/topics/{topic}/history", get(inspect::history).delete(inspect::remove_history))
        .route("/connections", get(connections::list))
        .route("/connections/{id}", get(connections::one).delete(connections::close))
        .route("/connections/{id}/subscribe", post(act::subscribe_one))
        .route("/connections/{id}/unsubscribe", post(act::unsubscribe_one))
        .route("/connections/{id}/send", post(act::send_one))
        .route("/disconnect", post(act::disconnect))
        .route("/subscribe", post(act::subscribe))
        .route("/unsubscribe", post(act::unsubscribe))
        .route("/send", post(act::send))
        .fallback(not_found)
        .layer(middleware::from_fn_with_state(Arc::clone(&service), access::guard))
        .layer(middleware::from_fn_with_state(Arc::clone(&service), same_origin));
    let metrics =
        get(inspect::metrics).layer(middleware::from_fn_with_state(Arc::clone(&service), access::guard_server));
    Router::new()
        .nest("/api", api)
        .route("/healthz", get(inspect::health))
        .route("/readyz", get(inspect::ready))
        .route("/metrics", metrics)
        .route("/admin", get(pages::admin))
        .route("/ws", get(upgrade_required))
        .route("/topics/{topic}", get(upgrade_required))
        .fallback(pages::serve)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(middleware::map_response(guard_types))
        .with_state(service)
}

/// A page of any site can make its visitor's browser send requests to this server, which stands on the visitor's own
/// machine perhaps. It cannot forge the `Origin`, so what changes something goes by that, as the WebSockets do.
async fn same_origin(State(service): Shared, request: Request, next: Next) -> Result<Response, ApiError> {
    let is_safe = matches!(*request.method(), Method::GET | Method::HEAD);
    let is_tls = request.extensions().get::<Arrival>().is_some_and(|arrival| arrival.tls);
    if !is_safe && !is_allowed(&service.engine.settings().origins, request.headers(), is_tls) {
        return Err(ApiError::new(
            StatusCode::FORBIDDEN,
            "origin_not_allowed",
            "pages of this origin may not change anything here",
        ));
    }
    Ok(next.run(request).await)
}

fn is_allowed(origins: &Origins, headers: &HeaderMap, is_tls: bool) -> bool {
    if !headers.contains_key(ORIGIN) {
        return true;
    }
    let only = |name| {
        let mut values = headers.get_all(name).iter();
        let value = values.next()?.to_str().ok()?;
        values.next().is_none().then_some(value)
    };
    only(ORIGIN).is_some_and(|origin| origins.allows_page(origin, only(HOST), is_tls))
}

/// Browsers shall believe the type that is given, and not guess one from the content.
async fn guard_types(mut response: Response) -> Response {
    response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

async fn not_found() -> ApiError {
    ApiError::not_found("not_found", "there is nothing here")
}

async fn method_not_allowed() -> ApiError {
    ApiError::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method_not_allowed",
        "the header Allow names the methods that go here",
    )
}

async fn upgrade_required() -> Response {
    let error =
        ApiError::new(StatusCode::UPGRADE_REQUIRED, "upgrade_required", "this is for WebSockets (ws:// or wss://)");
    error.header(UPGRADE, "websocket").header(CONNECTION, "Upgrade").into_response()
}

/// A JSON answer that no cache keeps.
fn json(status: StatusCode, body: Vec<u8>) -> Response {
    let headers = [(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-store")];
    (status, headers, body).into_response()
}

/// A successful JSON answer.
fn ok(value: &impl serde::Serialize) -> Result<Response, ApiError> {
    let body = serde_json::to_vec(value).map_err(|_| ApiError::internal())?;
    Ok(json(StatusCode::OK, body))
}

#[cfg(test)]
mod tests;

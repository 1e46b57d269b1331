//! `POST /api/reload`: the configuration is read again. Needs the permission to administer everything.

use axum::Extension;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode};
use serde_json::json;

use super::error::ApiError;
use super::{Shared, ok};
use crate::Arrival;
use crate::server::auth::Action;
use crate::server::config::Refused;
use crate::server::config::reload::Report;

/// Reads the configuration again, and tells what has changed, or what is wrong with it.
pub async fn reload(
    State(service): Shared,
    Extension(arrival): Extension<Arrival>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let Some(reloads) = service.site.reloads.clone() else {
        return Err(ApiError::not_found("not_found", "there is no configuration to read again"));
    };
    reloads.auth().api(&arrival, &headers, Action::Admin, None).await?;
    let engine = service.engine.clone();
    // Files are read: not on the thread that serves everybody else.
    let reloaded = tokio::task::spawn_blocking(move || reloads.reload(&engine)).await;
    match reloaded.map_err(|_| ApiError::internal())? {
        Ok(report) => ok(&told(&report)),
        Err(refused) => Ok(told_mistakes(&refused)),
    }
}

fn told(report: &Report) -> serde_json::Value {
    let changes = report.changes.iter().map(
        |change| json!({ "setting": change.setting, "from": change.from, "to": change.to, "restart": !change.is_live }),
    );
    json!({ "changes": changes.collect::<Vec<_>>(), "restart": report.waiting().collect::<Vec<_>>() })
}

fn told_mistakes(refused: &Refused) -> Response {
    let mistakes: Vec<String> = refused.mistakes().iter().map(ToString::to_string).collect();
    let body = json!({
        "code": "bad_config",
        "message": "the configuration was not changed, as there are mistakes in the new one",
        "mistakes": mistakes,
    });
    super::json(StatusCode::UNPROCESSABLE_ENTITY, body.to_string().into()).into_response()
}

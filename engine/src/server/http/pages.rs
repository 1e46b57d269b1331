//! The page to try it, and the static files of `--static DIR`.
//!
//! A file is found here and streamed by `tower-http`, which knows types and ranges. Found means: a regular file below
//! the directory, also after symbolic links; no segment begins with a dot or is empty.

use std::convert::Infallible;
use std::fs::Metadata;
use std::hash::{DefaultHasher, Hasher};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::UNIX_EPOCH;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH,
    IF_RANGE, LOCATION, RANGE, REFERRER_POLICY,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use tower::ServiceExt;
use tower_http::services::ServeFile;

use super::Shared;
use super::error::ApiError;
use crate::server::query::percent_decode;

/// The page to try it, whole: no other file, no other host.
const INDEX: &str = include_str!("../pages/index.html");

/// The page that shows how the server is; likewise.
const ADMIN: &str = include_str!("../pages/admin.html");

/// Whatever is no route: a file, the page, or nothing.
pub(super) async fn serve(State(service): Shared, request: Request) -> Result<Response, ApiError> {
    let path = request.uri().path().to_owned();
    let found = match service.site.files.clone() {
        Some(root) => locate(root, &path).await,
        None => Found::Nothing,
    };
    let is_page = path == "/" && matches!(found, Found::Nothing);
    if matches!(found, Found::Nothing) && !is_page {
        return Err(ApiError::not_found("not_found", "there is nothing here"));
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let message = "the header Allow names the methods that go here";
        let error = ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message);
        return Err(error.header(ALLOW, "GET,HEAD"));
    }
    match found {
        Found::File(path, metadata) => Ok(file(request, &path, &metadata).await),
        Found::Directory => redirect(&request),
        Found::Nothing => Ok(page(request.headers())),
    }
}

/// The page of `GET /`.
fn page(headers: &HeaderMap) -> Response {
    static SHOWN: OnceLock<Shown> = OnceLock::new();
    SHOWN.get_or_init(|| Shown::new(INDEX)).answer(headers)
}

/// A built-in page and what is said with it.
struct Shown {
    text: &'static str,
    tag: String,
    policy: String,
}

impl Shown {
    fn new(text: &'static str) -> Self {
        let mut hasher = DefaultHasher::new();
        hasher.write(text.as_bytes());
        Self { text, tag: format!("\"{:016x}\"", hasher.finish()), policy: policy_of(text) }
    }

    fn answer(&self, headers: &HeaderMap) -> Response {
        let common = [(ETAG, self.tag.as_str()), (CACHE_CONTROL, "no-cache")];
        if names_tag(headers, IF_NONE_MATCH, &self.tag) {
            return (StatusCode::NOT_MODIFIED, common).into_response();
        }
        let own = [
            (CONTENT_TYPE, "text/html; charset=utf-8"),
            (CONTENT_SECURITY_POLICY, &*self.policy),
            (REFERRER_POLICY, "no-referrer"),
        ];
        (common, own, self.text).into_response()
    }
}

/// Only the style and the script that stand in the page, known by their hashes, and connections to where it came from; no
/// text becomes markup or code.
fn policy_of(page: &str) -> String {
    let (style, script) = (hash_of(page, "style"), hash_of(page, "script"));
    format!(
        "default-src 'none'; style-src '{style}'; script-src '{script}'; connect-src 'self' ws: wss:; img-src data:; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types \
         'none'"
    )
}

/// The hash of what stands in the only element of this name, as a Content Security Policy names it.
fn hash_of(page: &str, element: &str) -> String {
    let begin = page.find(&format!("<{element}>")).map_or(0, |at| at + element.len() + 2);
    let end = page.find(&format!("</{element}>")).unwrap_or(begin);
    let digest = ring::digest::digest(&ring::digest::SHA256, &page.as_bytes()[begin..end]);
    format!("sha256-{}", BASE64.encode(digest.as_ref()))
}

/// The page of `GET /admin`.
pub(super) async fn admin(headers: HeaderMap) -> Response {
    static SHOWN: OnceLock<Shown> = OnceLock::new();
    SHOWN.get_or_init(|| Shown::new(ADMIN)).answer(&headers)
}

/// What a path leads to.
#[derive(Debug)]
enum Found {
    File(PathBuf, Metadata),
    /// One with an index, asked for without the slash at the end.
    Directory,
    Nothing,
}

/// Files lie on disks: looked for where waiting holds up nobody.
async fn locate(root: PathBuf, path: &str) -> Found {
    let Some(relative) = relative(path) else { return Found::Nothing };
    let is_directory = path.ends_with('/');
    let found = tokio::task::spawn_blocking(move || locate_now(&root, &relative, is_directory)).await;
    found.ok().flatten().unwrap_or(Found::Nothing)
}

fn locate_now(root: &Path, relative: &Path, is_directory: bool) -> Option<Found> {
    let root = root.canonicalize().ok()?;
    let mut file = root.join(relative).canonicalize().ok()?;
    let mut metadata = file.metadata().ok()?;
    if metadata.is_dir() {
        file = file.join("index.html").canonicalize().ok()?;
        metadata = file.metadata().ok()?;
        if !is_directory {
            return (metadata.is_file() && file.starts_with(&root)).then_some(Found::Directory);
        }
    } else if is_directory {
        return None;
    }
    // Neither by a symbolic link out of the directory, nor to a pipe or device, whose reading would not end.
    (metadata.is_file() && file.starts_with(&root)).then_some(Found::File(file, metadata))
}

/// The path below the directory; none if a segment is empty, begins with a dot, or has a byte that parts paths.
fn relative(path: &str) -> Option<PathBuf> {
    if path == "/" {
        return Some(PathBuf::new());
    }
    let path = path.strip_prefix('/')?;
    let path = path.strip_suffix('/').unwrap_or(path);
    path.split('/').map(percent_decode).map(|segment| segment.filter(|segment| is_plain(segment))).collect()
}

fn is_plain(segment: &str) -> bool {
    !segment.is_empty() && !segment.starts_with('.') && !segment.contains(['/', '\\', '\0'])
}

/// Relative links of an index work only below the slash.
fn redirect(request: &Request) -> Result<Response, ApiError> {
    // No `//host`: a path with an empty segment leads nowhere.
    let uri = request.uri();
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    let location = HeaderValue::from_str(&format!("{}/{query}", uri.path())).map_err(|_| ApiError::internal())?;
    Ok((StatusCode::PERMANENT_REDIRECT, [(LOCATION, location)]).into_response())
}

async fn file(mut request: Request, path: &Path, metadata: &Metadata) -> Response {
    let tag = tag(metadata);
    if request.headers().contains_key(IF_MATCH) && !names_tag(request.headers(), IF_MATCH, &tag) {
        return StatusCode::PRECONDITION_FAILED.into_response();
    }
    if names_tag(request.headers(), IF_NONE_MATCH, &tag) {
        return (StatusCode::NOT_MODIFIED, [(ETAG, tag.as_str()), (CACHE_CONTROL, "no-cache")]).into_response();
    }
    settle(request.headers_mut(), &tag);
    let response: Result<_, Infallible> = ServeFile::new(path).oneshot(request).await;
    let Ok(response) = response;
    if response.status() == StatusCode::NOT_FOUND {
        return ApiError::not_found("not_found", "there is nothing here").into_response();
    }
    let mut response = response.map(Body::new);
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        headers.insert(ETAG, tag);
    }
    name_charset(headers);
    response
}

/// Takes away what `tower-http` would get wrong, as it does not know the tag (RFC 9110, sections 13.1.3, 13.1.5, 14.2).
fn settle(headers: &mut HeaderMap, tag: &str) {
    if headers.contains_key(IF_NONE_MATCH) {
        headers.remove(IF_MODIFIED_SINCE);
    }
    let is_stale = headers.get(IF_RANGE).is_some_and(|value| value.as_bytes() != tag.as_bytes());
    let is_many = headers.get(RANGE).is_some_and(|value| value.as_bytes().contains(&b','));
    if is_stale || is_many {
        headers.remove(RANGE);
    }
}

fn name_charset(headers: &mut HeaderMap) {
    let Some(name) = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()) else { return };
    if name.starts_with("text/")
        && !name.contains("charset")
        && let Ok(value) = HeaderValue::from_str(&format!("{name}; charset=utf-8"))
    {
        headers.insert(CONTENT_TYPE, value);
    }
}

/// A strong tag: another time of change or another length is another content.
fn tag(metadata: &Metadata) -> String {
    let changed = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    format!("\"{:x}-{:x}\"", changed.unwrap_or_default().as_nanos(), metadata.len())
}

/// Whether a list of tags has this one. `If-None-Match` compares weakly, and a weak tag is only ever ours made weak by
/// a proxy.
fn names_tag(headers: &HeaderMap, name: http::HeaderName, tag: &str) -> bool {
    let lists = headers.get_all(name);
    let mut tags = lists.iter().filter_map(|list| list.to_str().ok()).flat_map(|list| list.split(',')).map(str::trim);
    tags.any(|named| named == "*" || named.trim_start_matches("W/") == tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policies_of_the_pages_name_all_that_is_in_them() {
        for page in [ADMIN, INDEX] {
            for (element, times) in [("<style", 1), ("<script", 1), (" style=", 0), (" on", 0)] {
                let found = page.match_indices(element).filter(|(at, _)| element != " on" || is_handler(&page[*at..]));
                assert_eq!(found.count(), times, "{element}");
            }
        }
        assert_eq!(hash_of("<style>a{}</style>", "style"), "sha256-X1RutGBrXCt9KkSaXMK7tHftWiRscFHOhxsS8tv8hBk=");
        assert_eq!(policy_of(ADMIN).matches("'sha256-").count(), 2);
        assert_eq!(policy_of(INDEX).matches("'sha256-").count(), 2);
    }

    /// Whether an attribute such as `onclick="` stands here.
    fn is_handler(text: &str) -> bool {
        let name = text.trim_start().split('=').next().unwrap_or("");
        name.len() < 20
            && name.bytes().all(|byte| byte.is_ascii_lowercase())
            && text[name.len() + 1..].starts_with("=\"")
    }

    #[test]
    fn no_path_leads_out_of_the_directory_or_to_a_hidden_file() {
        for path in [
            "/../x",
            "/a/../../x",
            "/%2e%2e/x",
            "/.git/config",
            "/%2egit",
            "/a//b",
            "//host",
            "/a%2Fb",
            "/a%5Cb",
            "/a%00",
            "/..%2f",
            "/./a",
            "/%ff",
            "//",
        ] {
            assert_eq!(relative(path), None, "{path}");
        }
        assert_eq!(relative("/"), Some(PathBuf::new()));
        assert_eq!(relative("/a/b%20c.txt"), Some("a/b c.txt".into()));
        assert_eq!(relative("/a/"), Some("a".into()));
    }
}

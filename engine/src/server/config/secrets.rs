//! Secrets that are kept in files: read once, and only if nobody else can read them.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::Config;
use super::mistake::{Mistake, Source};
use super::table::known;
use super::value::{Kind, Value};
use crate::server::auth::Secret;

/// No token is longer.
const TOKEN_BYTES_MAX: u64 = 4096;

/// Puts the API's token in place; what is wrong with it.
pub fn read(config: &mut Config) -> Vec<Mistake> {
    let mut mistakes = Vec::new();
    if let (Some(_), Source::File { path, .. }) = (&config.api_token, config.source("api_token"))
        && let Err(text) = check_private(Path::new(&path))
    {
        mistakes.push(Mistake::new(config.source("api_token"), format!("network.api_token is a secret, but {text}")));
    }
    config.auth.api_token.clone_from(&config.api_token);
    let Some(file) = config.api_token_file.clone() else { return mistakes };
    let source = config.source("api_token_file");
    if config.api_token.is_some() {
        let other = config.source("api_token");
        mistakes.push(Mistake::new(source, format!("api_token_file and api_token ({other}) are both given: drop one")));
        return mistakes;
    }
    match read_token(&file) {
        Ok(token) => config.auth.api_token = Some(token),
        Err(text) => mistakes.push(Mistake::new(source, format!("api_token_file: {text}"))),
    }
    mistakes
}

fn read_token(path: &Path) -> Result<Secret, String> {
    let name = path.display();
    check_private(path)?;
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(TOKEN_BYTES_MAX).read_to_string(&mut text))
        .map_err(|error| format!("{name} cannot be read: {error}"))?;
    let token = text.trim_end_matches(['\r', '\n']);
    if token.is_empty() {
        return Err(format!("{name} is empty: it must hold the token"));
    }
    let Kind::Text { .. } = known("api_token").row.kind else { return Ok(Secret(token.to_owned())) };
    match known("api_token").row.kind.read_text(token) {
        Ok(Value::Text(token)) => Ok(Secret(token)),
        Ok(_) => Err(format!("{name} holds no token")),
        Err(allowed) => Err(format!("what {name} holds is no token: {allowed}")),
    }
}

/// Refuses a file that is there for everybody to read.
fn check_private(path: &Path) -> Result<(), String> {
    let name = path.display();
    let metadata = path.metadata().map_err(|error| format!("{name} cannot be read: {error}"))?;
    if !metadata.is_file() {
        return Err(format!("{name} is no regular file"));
    }
    if metadata.permissions().mode() & 0o004 != 0 {
        return Err(format!("every user of this machine can read {name}: chmod o-r {name}"));
    }
    Ok(())
}

//! What single texts must be: addresses, origins, paths, keys. Each says what it must be, as the end of a sentence.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use ipnet::IpNet;

use crate::ClientAuth;
use crate::server::auth::JwtKey;
use crate::server::config::listen::Listen;

/// What tokens can be signed with.
const ALGORITHMS: [&str; 4] = ["HS256", "RS256", "ES256", "EdDSA"];

/// Any text is fine.
pub fn any(_: &str) -> Result<(), String> {
    Ok(())
}

pub fn address(text: &str) -> Result<(), String> {
    text.parse::<Listen>().map(|_| ())
}

pub fn client_auth(text: &str) -> Option<ClientAuth> {
    ClientAuth::ALL.into_iter().find(|auth| auth.label() == text)
}

pub fn is_client_auth(text: &str) -> Result<(), String> {
    client_auth(text).map(|_| ()).ok_or_else(|| "it must be one of none, optional, required".into())
}

/// Addresses as CIDR; a single address stands for itself.
pub fn network(text: &str) -> Option<IpNet> {
    text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

pub fn is_network(text: &str) -> Result<(), String> {
    network(text).map(|_| ()).ok_or_else(|| "it must be an address or a CIDR, as 10.0.0.0/8 or fd00::/8".into())
}

pub fn origin(text: &str) -> Result<(), String> {
    let is_origin = text.split_once("://").is_some_and(|(scheme, host)| {
        let is_host = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]*".contains(&byte);
        !scheme.is_empty()
            && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
            && !host.is_empty()
            && host.bytes().all(is_host)
            && !host.trim_start_matches("*.").contains('*')
    });
    if is_origin || text == "any" || text == "null" {
        Ok(())
    } else {
        Err("it must be SCHEME://HOST[:PORT] without a path, 'null', or 'any'".into())
    }
}

/// What goes into an `Authorization` header, a query and a subprotocol as it is.
pub fn token(text: &str) -> Result<(), String> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte));
    if is_plain && text.len() <= 1024 {
        Ok(())
    } else {
        Err("it must be at most 1024 letters, digits and characters of -._~+/= (as `openssl rand -hex 32` gives)"
            .into())
    }
}

pub fn cookie(text: &str) -> Result<(), String> {
    let is_name = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte));
    if is_name { Ok(()) } else { Err("it must be the name of a cookie, without '=', ';' and blanks".into()) }
}

pub fn url(text: &str) -> Result<(), String> {
    let uri = text.parse::<http::Uri>().ok();
    let is_url = uri.is_some_and(|uri| {
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        matches!(uri.scheme_str(), Some("http" | "https")) && !authority.is_empty() && !authority.contains('@')
    });
    if is_url {
        Ok(())
    } else {
        Err("it must be http://HOST[:PORT]/PATH or https://…, without user and password".into())
    }
}

/// `ALG[:KID]=FILE`. No name of an algorithm has '=' or ':', so both are parted at the first.
pub fn jwt_key(text: &str) -> Option<JwtKey> {
    let (name, file) = text.split_once('=')?;
    let (algorithm, kid) = name.split_once(':').map_or((name, None), |(algorithm, kid)| (algorithm, Some(kid)));
    let is_key = ALGORITHMS.contains(&algorithm) && kid.is_none_or(|kid| !kid.is_empty()) && !file.is_empty();
    is_key.then(|| JwtKey { algorithm: algorithm.to_owned(), kid: kid.map(str::to_owned), file: PathBuf::from(file) })
}

pub fn is_jwt_key(text: &str) -> Result<(), String> {
    let form = || format!("it must be ALG=FILE or ALG:KID=FILE, where ALG is one of {}", ALGORITHMS.join(", "));
    jwt_key(text).map(|_| ()).ok_or_else(form)
}

pub fn jwt_key_text(key: &JwtKey) -> String {
    let kid = key.kid.as_deref().map_or(String::new(), |kid| format!(":{kid}"));
    format!("{}{kid}={}", key.algorithm, key.file.display())
}

pub fn log(text: &str) -> Result<(), String> {
    let levels = "error, warn, info, debug, trace, off";
    // A bare word that is no level would be taken for the name of a part, and nothing be logged.
    let is_level = |part: &str| part.parse::<tracing::level_filters::LevelFilter>().is_ok();
    let is_valid = text.split(',').all(|part| is_level(part.rsplit_once('=').map_or(part, |(_, level)| level)));
    if !text.is_empty() && is_valid && tracing_subscriber::EnvFilter::try_new(text).is_ok() {
        Ok(())
    } else {
        Err(format!("it must be one of {levels}, or a list of PART=LEVEL"))
    }
}

pub fn path_text(path: &Path) -> String {
    path.display().to_string()
}

pub fn path(text: &str) -> Option<PathBuf> {
    Some(Path::new(text).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_tokens_have_an_algorithm_perhaps_a_name_and_a_file() {
        let key = |text| jwt_key(text).map(|key| (key.algorithm, key.kid, key.file));
        assert_eq!(key("HS256=a=b:c"), Some(("HS256".into(), None, "a=b:c".into())));
        assert_eq!(key("ES256:k:1=x"), Some(("ES256".into(), Some("k:1".into()), "x".into())));
        for text in ["", "HS256", "HS256=", "HS256:=x", "none=x", "hs256=x", "=x"] {
            assert!(key(text).is_none(), "{text}");
        }
    }

    #[test]
    fn what_does_not_fit_is_told() {
        assert!(url("https://auth.example/hook").is_ok() && url("http://127.0.0.1:1").is_ok());
        for text in ["auth.example", "ftp://x/", "/hook", "http://u:p@host/", "http://"] {
            assert!(url(text).is_err(), "{text}");
        }
        assert!(token("dG9rZW4=").is_ok() && token("a b").is_err() && token(&"x".repeat(1025)).is_err());
        assert!(cookie("__Host-token").is_ok() && cookie("a=b").is_err() && cookie("a b").is_err());
        assert!(is_network("10.0.0.0/8").is_ok() && is_network("::1").is_ok() && is_network("10.0.0.0/33").is_err());
        assert!(address("[::1]:0").is_ok() && address("localhost:80").is_err() && address("127.0.0.1").is_err());
    }
}

//! JSON Web Tokens (RFC 7519), as far as they are signed (RFC 7515). The algorithm is that of the key; what the token says
//! about it must agree, and decides nothing.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::Denied;
use super::claims::Claims;
use super::keys::{Algorithm, Keys};
use super::settings::AuthSettings;

/// The longest token, in bytes. A longer one is not looked at.
pub const TOKEN_BYTES_MAX: usize = 16 << 10;

/// Reads and checks tokens.
#[derive(Debug)]
pub struct Verifier {
    keys: Keys,
    issuer: Option<String>,
    audience: Vec<String>,
    leeway_s: u64,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    crit: Option<IgnoredAny>,
}

impl Verifier {
    /// Reads the keys.
    ///
    /// # Errors
    /// A sentence that names the setting and the file.
    pub fn new(settings: &AuthSettings) -> Result<Self, String> {
        Ok(Self {
            keys: Keys::read(settings)?,
            issuer: settings.jwt_issuer.clone(),
            audience: settings.jwt_audience.clone(),
            leeway_s: settings.jwt_leeway.as_secs(),
        })
    }

    /// Whether a text looks like a token that this can decide on: three parts.
    #[must_use]
    pub fn is_jwt(token: &str) -> bool {
        token.bytes().filter(|byte| *byte == b'.').count() == 2
    }

    /// By how many seconds clocks may differ.
    #[must_use]
    pub fn leeway_s(&self) -> u64 {
        self.leeway_s
    }

    /// Reads a token and checks all there is to check at this time, in seconds since 1970.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn verify(&self, token: &str, now: u64) -> Result<Claims, Denied> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(Denied::TooLong);
        }
        if !Self::is_jwt(token) {
            return Err(Denied::Malformed);
        }
        let (message, signature) = token.rsplit_once('.').ok_or(Denied::Malformed)?;
        let (header, payload) = message.split_once('.').ok_or(Denied::Malformed)?;
        let (header, signature) = (decode(header)?, decode(signature)?);
        let header: Header = serde_json::from_slice(&header).map_err(|_| Denied::Malformed)?;
        if header.crit.is_some() {
            return Err(Denied::Critical);
        }
        let algorithm = Algorithm::named(&header.alg).ok_or(Denied::Algorithm)?;
        let key = self.keys.get(header.kid.as_deref()).ok_or(Denied::UnknownKey)?;
        if key.algorithm() != algorithm {
            return Err(Denied::Algorithm);
        }
        if !key.verify(message.as_bytes(), &signature) {
            return Err(Denied::Signature);
        }
        // Only what is signed is worth reading.
        let claims = Claims::parse(&decode(payload)?)?;
        self.check(&claims, now)?;
        Ok(claims)
    }

    fn check(&self, claims: &Claims, now: u64) -> Result<(), Denied> {
        let expires_at = claims.expires_at.ok_or(Denied::NoExpiry)?;
        if now >= expires_at.saturating_add(self.leeway_s) {
            return Err(Denied::Expired);
        }
        let latest = now.saturating_add(self.leeway_s);
        if claims.not_before.is_some_and(|time| time > latest) {
            return Err(Denied::NotYet);
        }
        if claims.issued_at.is_some_and(|time| time > latest) {
            return Err(Denied::FromFuture);
        }
        if self.issuer.is_some() && claims.issuer != self.issuer {
            return Err(Denied::Issuer);
        }
        if !self.audience.is_empty() && !claims.audience.iter().any(|audience| self.audience.contains(audience)) {
            return Err(Denied::Audience);
        }
        Ok(())
    }
}

fn decode(part: &str) -> Result<Vec<u8>, Denied> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| Denied::Malformed)
}

//! The keys that sign tokens: read from files, checked, made ready. Each is for one algorithm and no other, whatever a
//! token says. The signatures are checked by `ring`.

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents};
use ring::signature::{UnparsedPublicKey, VerificationAlgorithm};
use ring::{agreement, hmac, rand};
use rustls::pki_types::pem::{PemObject, SectionKind};
use serde_json::Value;

use super::settings::{AuthSettings, JwtKey};

/// The longest file of a key or of keys, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// RFC 7518, section 3.2: as long as the hash.
const SECRET_BYTES_MIN: usize = 32;

/// RFC 7518, section 3.3, and the most that is computed with.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// The beginning of a `SubjectPublicKeyInfo` (RFC 5280) of a P-256 key; the point follows.
const P256_PREFIX: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce,
    0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
/// Likewise of an Ed25519 key (RFC 8410).
const ED25519_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
/// The algorithm identifier of an RSA key.
const RSA_IDENTIFIER: [u8; 15] =
    [0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00];

/// How tokens are signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// HMAC with SHA-256: a secret that both sides know.
    Hs256,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// Ed25519.
    EdDsa,
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Hs256, Self::Rs256, Self::Es256, Self::EdDsa];

    /// The name in tokens and settings.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Hs256 => "HS256",
            Self::Rs256 => "RS256",
            Self::Es256 => "ES256",
            Self::EdDsa => "EdDSA",
        }
    }

    /// The one of this name. Case matters, as in RFC 7515.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }
}

/// A key that is ready.
pub enum Key {
    /// A secret.
    Hs256(hmac::Key),
    /// Modulus and exponent, big-endian.
    Rs256 {
        /// Modulus.
        n: Vec<u8>,
        /// Exponent.
        e: Vec<u8>,
    },
    /// An uncompressed point.
    Es256(Vec<u8>),
    /// A compressed point.
    EdDsa(Vec<u8>),
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.algorithm().name())
    }
}

impl Key {
    /// What it is for, and nothing else.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        match self {
            Self::Hs256(_) => Algorithm::Hs256,
            Self::Rs256 { .. } => Algorithm::Rs256,
            Self::Es256(_) => Algorithm::Es256,
            Self::EdDsa(_) => Algorithm::EdDsa,
        }
    }

    /// Whether the signature is of this key.
    #[must_use]
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        let by = |algorithm: &'static dyn VerificationAlgorithm, key: &[u8]| {
            UnparsedPublicKey::new(algorithm, key).verify(message, signature).is_ok()
        };
        match self {
            Self::Hs256(key) => hmac::verify(key, message, signature).is_ok(),
            Self::Rs256 { n, e } => {
                RsaPublicKeyComponents { n, e }.verify(&RSA_PKCS1_2048_8192_SHA256, message, signature).is_ok()
            }
            Self::Es256(point) => by(&ECDSA_P256_SHA256_FIXED, point),
            Self::EdDsa(point) => by(&ED25519, point),
        }
    }

    fn secret(secret: &[u8]) -> Result<Self, String> {
        if secret.len() < SECRET_BYTES_MIN {
            let length = secret.len();
            return Err(format!(
                "the secret has {length} bytes: HS256 needs at least {SECRET_BYTES_MIN} (make one with: openssl rand -base64 48)"
            ));
        }
        Ok(Self::Hs256(hmac::Key::new(hmac::HMAC_SHA256, secret)))
    }

    fn rsa(n: &[u8], e: &[u8]) -> Result<Self, String> {
        let (n, e) = (trim_zeros(n), trim_zeros(e));
        let bits = n.len() * 8 - n.first().map_or(0, |first| first.leading_zeros() as usize);
        if !RSA_BITS.contains(&bits) {
            return Err(format!(
                "the RSA key has {bits} bits: it must have from {} to {}",
                RSA_BITS.start(),
                RSA_BITS.end()
            ));
        }
        if e.is_empty() || e.len() > 4 || e.last().is_none_or(|last| last % 2 == 0) || e == [1] {
            return Err("the exponent of the RSA key is none".into());
        }
        Ok(Self::Rs256 { n: n.to_vec(), e: e.to_vec() })
    }

    fn p256(point: &[u8]) -> Result<Self, String> {
        // `ring` looks whether it lies on the curve only when it computes with it.
        let own = agreement::EphemeralPrivateKey::generate(&agreement::ECDH_P256, &rand::SystemRandom::new());
        let peer = agreement::UnparsedPublicKey::new(&agreement::ECDH_P256, point);
        let on_curve = own.is_ok_and(|own| agreement::agree_ephemeral(own, &peer, |_| ()).is_ok());
        if on_curve { Ok(Self::Es256(point.to_vec())) } else { Err("the key is no point on the curve P-256".into()) }
    }

    fn ed25519(point: &[u8]) -> Result<Self, String> {
        if point.len() == 32 { Ok(Self::EdDsa(point.to_vec())) } else { Err("an Ed25519 key has 32 bytes".into()) }
    }

    fn from_pem(algorithm: Algorithm, pem: &[u8]) -> Result<Self, String> {
        let openssl = "give the public key: openssl pkey -pubout";
        let (kind, der) = <(SectionKind, Vec<u8>)>::from_pem_slice(pem)
            .map_err(|_| format!("there is no key in PEM form in it ({openssl})"))?;
        match kind {
            SectionKind::PublicKey => Self::from_spki(algorithm, &der),
            SectionKind::Certificate => {
                Err("it is a certificate: give its public key (openssl x509 -pubkey -noout)".into())
            }
            SectionKind::RsaPrivateKey | SectionKind::PrivateKey | SectionKind::EcPrivateKey => {
                Err(format!("it is a private key, which has no business on this machine: {openssl}"))
            }
            _ => Err(format!("it is no public key ({openssl})")),
        }
    }

    fn from_spki(algorithm: Algorithm, der: &[u8]) -> Result<Self, String> {
        match algorithm {
            Algorithm::Rs256 => {
                let (n, e) = rsa_of_spki(der).ok_or("it is no RSA key")?;
                Self::rsa(n, e)
            }
            Algorithm::Es256 => Self::p256(der.strip_prefix(&P256_PREFIX).ok_or("it is no key on the curve P-256")?),
            Algorithm::EdDsa => Self::ed25519(der.strip_prefix(&ED25519_PREFIX).ok_or("it is no Ed25519 key")?),
            Algorithm::Hs256 => Err("HS256 has a secret, no public key".into()),
        }
    }
}

fn trim_zeros(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    &number[zeros..]
}

/// Modulus and exponent of an RSA key: `SEQUENCE { algorithm, BIT STRING { SEQUENCE { INTEGER n, INTEGER e } } }`.
fn rsa_of_spki(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (outer, rest) = element(der, 0x30)?;
    let (bits, none) = element(outer.strip_prefix(&RSA_IDENTIFIER)?, 0x03)?;
    let (numbers, end) = element(bits.strip_prefix(&[0])?, 0x30)?;
    let (n, after) = element(numbers, 0x02)?;
    let (e, last) = element(after, 0x02)?;
    [rest, none, end, last].iter().all(|rest| rest.is_empty()).then_some((n, e))
}

/// The content of a DER element with this tag, and what follows it.
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let rest = der.strip_prefix(&[tag])?;
    let (first, rest) = rest.split_first()?;
    let (length, rest) = match *first {
        short @ 0..=0x7f => (usize::from(short), rest),
        0x81 => rest.split_first().map(|(length, rest)| (usize::from(*length), rest))?,
        0x82 => rest.split_first_chunk::<2>().map(|(length, rest)| (usize::from(u16::from_be_bytes(*length)), rest))?,
        _ => return None,
    };
    rest.split_at_checked(length)
}

/// All keys, by the name that tokens give.
#[derive(Debug, Default)]
pub struct Keys(HashMap<Option<String>, Key>);

impl Keys {
    /// Reads all files.
    ///
    /// # Errors
    /// A sentence that names the setting and the file, and says what to do.
    pub fn read(settings: &AuthSettings) -> Result<Self, String> {
        let mut keys = Self::default();
        for key in &settings.jwt_keys {
            let within = |what: String| format!("jwt_keys: {}: {what}", key.file.display());
            keys.add(key.kid.clone(), read_key(key).map_err(within)?).map_err(within)?;
        }
        if let Some(file) = &settings.jwks_file {
            keys.add_set(file).map_err(|what| format!("jwks_file: {}: {what}", file.display()))?;
        }
        Ok(keys)
    }

    /// The key of a name.
    #[must_use]
    pub fn get(&self, kid: Option<&str>) -> Option<&Key> {
        self.0.get(&kid.map(str::to_owned))
    }

    fn add(&mut self, kid: Option<String>, key: Key) -> Result<(), String> {
        if self.0.contains_key(&kid) {
            return Err(match kid {
                Some(kid) => format!("there are two keys with the kid '{kid}': each needs one of its own"),
                None => "there are two keys without a kid: only one can stand for the tokens without one".into(),
            });
        }
        self.0.insert(kid, key);
        Ok(())
    }

    /// Adds the keys of a JWKS (RFC 7517). Those that are for something else are left out, as it demands.
    fn add_set(&mut self, file: &Path) -> Result<(), String> {
        let (bytes, is_readable_by_all) = read_file(file)?;
        let set: Value = serde_json::from_slice(&bytes).map_err(|error| format!("it is no JSON: {error}"))?;
        let Some(Value::Array(keys)) = set.get("keys") else {
            return Err("it is no JWKS: it must be an object with an array 'keys' (RFC 7517)".into());
        };
        let mut added = 0;
        for (index, jwk) in keys.iter().enumerate() {
            let within = |what: String| format!("key {} of the array: {what}", index + 1);
            let Some((kid, key)) = read_jwk(jwk).map_err(within)? else { continue };
            if matches!(key, Key::Hs256(_)) && is_readable_by_all {
                return Err(within(readable_by_all(file)));
            }
            self.add(kid, key).map_err(within)?;
            added += 1;
        }
        if added == 0 {
            return Err("there is no key in it that signs with HS256, RS256, ES256 or EdDSA".into());
        }
        Ok(())
    }
}

fn read_key(key: &JwtKey) -> Result<Key, String> {
    let names = Algorithm::ALL.map(Algorithm::name).join(", ");
    let algorithm = Algorithm::named(&key.algorithm)
        .ok_or_else(|| format!("the algorithm is '{}': it must be one of {names}", key.algorithm))?;
    let (bytes, is_readable_by_all) = read_file(&key.file)?;
    if algorithm != Algorithm::Hs256 {
        return Key::from_pem(algorithm, &bytes);
    }
    if is_readable_by_all {
        return Err(readable_by_all(&key.file));
    }
    if bytes.starts_with(b"-----BEGIN") {
        // With it, everybody who knows the public key could sign.
        return Err("it is a key in PEM form: HS256 needs a secret".into());
    }
    let secret = bytes.strip_suffix(b"\n").map_or(&*bytes, |line| line.strip_suffix(b"\r").unwrap_or(line));
    Key::secret(secret)
}

fn readable_by_all(file: &Path) -> String {
    format!("everybody on this machine can read the secret: chmod o-r '{}'", file.display())
}

/// A file, and whether everybody may read it.
fn read_file(file: &Path) -> Result<(Vec<u8>, bool), String> {
    use std::os::unix::fs::PermissionsExt;
    let failed = |error: std::io::Error| format!("it cannot be read: {error}");
    // A pipe would have to be waited for.
    if !std::fs::metadata(file).map_err(failed)?.is_file() {
        return Err("it is no regular file".into());
    }
    let open = File::open(file).map_err(failed)?;
    let metadata = open.metadata().map_err(failed)?;
    let mut bytes = Vec::new();
    open.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(format!("it has more than {FILE_BYTES_MAX} bytes"));
    }
    Ok((bytes, metadata.permissions().mode() & 0o004 != 0))
}

/// A key of a JWKS; none if it is for something else.
fn read_jwk(jwk: &Value) -> Result<Option<(Option<String>, Key)>, String> {
    let text = |name: &str| match jwk.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.as_str())),
        Some(_) => Err(format!("'{name}' must be a string")),
    };
    let bytes = |name: &str| {
        let digits = text(name)?.ok_or_else(|| format!("'{name}' is missing"))?;
        URL_SAFE_NO_PAD.decode(digits).map_err(|_| format!("'{name}' must be base64url without padding"))
    };
    let (kty, curve) = (text("kty")?.ok_or("'kty' is missing")?, text("crv")?);
    let algorithm = match (kty, curve) {
        ("oct", _) => Algorithm::Hs256,
        ("RSA", _) => Algorithm::Rs256,
        ("EC", Some("P-256")) => Algorithm::Es256,
        ("OKP", Some("Ed25519")) => Algorithm::EdDsa,
        _ => return Ok(None),
    };
    let is_for_another = text("alg")?.is_some_and(|name| name != algorithm.name());
    if is_for_another || text("use")?.is_some_and(|purpose| purpose != "sig") {
        return Ok(None);
    }
    if kty != "oct" && jwk.get("d").is_some() {
        return Err(
            "it is a private key, which has no business on this machine: leave out 'd' and what belongs to it".into()
        );
    }
    let key = match algorithm {
        Algorithm::Hs256 => Key::secret(&bytes("k")?)?,
        Algorithm::Rs256 => Key::rsa(&bytes("n")?, &bytes("e")?)?,
        Algorithm::Es256 => Key::p256(&[&[4], &*bytes("x")?, &*bytes("y")?].concat())?,
        Algorithm::EdDsa => Key::ed25519(&bytes("x")?)?,
    };
    Ok(Some((text("kid")?.map(Into::into), key)))
}

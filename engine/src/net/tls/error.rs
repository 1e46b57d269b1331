//! What can be wrong with certificates and keys: each says which file it is, what is wrong with it, and what to do.

use std::fmt;

/// Certificates or keys that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsError {
    input: String,
    problem: Problem,
}

/// What is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// The file cannot be read.
    Unreadable {
        /// What the system says.
        error: String,
        /// Whether that is for lack of permission.
        is_denied: bool,
    },
    /// It is longer than `identity::FILE_BYTES_MAX`.
    TooLong,
    /// It has no certificate in it.
    NoCertificate(Found),
    /// It has no private key in it.
    NoKey(Found),
    /// It has so many private keys in it.
    SeveralKeys(usize),
    /// Its private key can only be read with a passphrase.
    EncryptedKey,
    /// It is no PEM, as far as it begins like one.
    Damaged(String),
    /// A certificate, counted from 1, cannot be read.
    BadCertificate {
        /// Which.
        position: usize,
        /// Why.
        reason: String,
    },
    /// The private key is of a kind that is not supported, or weak.
    BadKey,
    /// The certificate is for a key of a kind that is not supported, or weak.
    BadPublicKey(String),
    /// A certificate, counted from 1, is signed by an algorithm that nobody trusts any more.
    WeakSignature {
        /// Which.
        position: usize,
        /// How.
        algorithm: &'static str,
    },
    /// The key is of another certificate than the one in this file.
    NotItsKey(String),
    /// The server's own certificate is not the first, but that at this position, counted from 1.
    OwnNotFirst(usize),
    /// The certificate at this position, counted from 1, is not of the issuer of one before it.
    OutOfOrder {
        /// Which.
        position: usize,
        /// Whose it is.
        subject: String,
    },
    /// It does not hold now, and would replace one that does.
    Worse {
        /// Whose.
        name: String,
        /// What is wrong with its time.
        lapse: String,
    },
    /// There is no certificate to show.
    Nothing,
    /// Certificates of clients are asked for, but no authority is given that they must come from.
    NoAuthority,
    /// The system has no randomness to give, or what else must not fail.
    Internal(String),
}

/// What is in a file instead of what was looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// Nothing that is known.
    Nothing,
    /// The other half: a key instead of a certificate, or the other way round.
    Other,
    /// Binary (DER) instead of text (PEM).
    Binary,
}

impl TlsError {
    pub(super) fn new(input: &str, problem: Problem) -> Self {
        Self { input: input.to_owned(), problem }
    }

    pub(super) fn internal(error: impl fmt::Display) -> Self {
        Self::new("TLS", Problem::Internal(error.to_string()))
    }

    /// The file, or what else it was read from.
    #[must_use]
    pub fn input(&self) -> &str {
        &self.input
    }

    /// Whether the very same files may do at another time: what is wrong with them is their dates, or not with them at all.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        matches!(self.problem, Problem::Worse { .. } | Problem::Internal(_))
    }

    /// What is wrong.
    #[cfg(test)]
    pub(super) fn problem(&self) -> &Problem {
        &self.problem
    }
}

/// The keys that there can be, in all sentences.
const KEYS: &str = "RSA of 2048 to 4096 bits, ECDSA P-256 or P-384, or Ed25519";

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let input = &self.input;
        write!(f, "{input} ")?;
        match &self.problem {
            Problem::Unreadable { error, is_denied: false } => write!(f, "cannot be read: {error}"),
            Problem::Unreadable { error, is_denied: true } => {
                write!(f, "cannot be read: {error}: the user that runs the server must be able to")
            }
            Problem::TooLong => f.write_str("has more than 1 MiB: that is neither a certificate nor a key"),
            Problem::NoCertificate(found) => {
                f.write_str("has no certificate in it: ")?;
                match found {
                    Found::Nothing => f.write_str("it must be PEM, with lines '-----BEGIN CERTIFICATE-----'"),
                    Found::Other => f.write_str("it has a private key; are certificate and key swapped?"),
                    Found::Binary => write!(f, "it is no PEM; try `openssl x509 -inform der -in {input} -out NEW.pem`"),
                }
            }
            Problem::NoKey(found) => {
                f.write_str("has no private key in it: ")?;
                match found {
                    Found::Nothing => f.write_str("it must be PEM, with a line '-----BEGIN PRIVATE KEY-----'"),
                    Found::Other => f.write_str("it has a certificate; are certificate and key swapped?"),
                    Found::Binary => write!(f, "it is no PEM; try `openssl pkey -inform der -in {input} -out NEW.pem`"),
                }
            }
            Problem::SeveralKeys(count) => {
                write!(f, "has {count} private keys in it: it must be the one of the certificate")
            }
            Problem::EncryptedKey => write!(
                f,
                "is encrypted with a passphrase, and nobody is there to enter it: decrypt it with `openssl pkey -in {input} \
                 -out NEW.pem` into a file that only the server can read"
            ),
            Problem::Damaged(reason) => write!(f, "is damaged: {reason}"),
            Problem::BadCertificate { position, reason } => {
                write!(f, "has a certificate that cannot be used, the {}: {reason}", ordinal(*position))
            }
            Problem::BadKey => write!(f, "has a private key that cannot be used: it must be {KEYS}"),
            Problem::BadPublicKey(seen) => write!(f, "has a certificate for a key of {seen}: it must be {KEYS}"),
            Problem::WeakSignature { position, algorithm } => write!(
                f,
                "has a certificate, the {}, that is signed with {algorithm}, which clients do not trust: have it issued anew",
                ordinal(*position)
            ),
            Problem::NotItsKey(certificate) => {
                write!(
                    f,
                    "is not the private key of the certificate {certificate}: give the two that were made together"
                )
            }
            Problem::OwnNotFirst(position) => write!(
                f,
                "has its certificates in the wrong order: the {} is the server's own and must come first, then that of its \
                 issuer, and so on",
                ordinal(*position)
            ),
            Problem::OutOfOrder { position, subject } => write!(
                f,
                "has its certificates in the wrong order, or one that does not belong there: the {} ('{subject}') is not of \
                 the issuer of one before it; first comes the server's own, then that of its issuer, and so on",
                ordinal(*position)
            ),
            Problem::Worse { name, lapse } => {
                write!(f, "has a certificate of {name} that {lapse}, and the one there is holds: it stays")
            }
            Problem::Nothing => f.write_str("needs a certificate and its key"),
            Problem::NoAuthority => {
                f.write_str("asks clients for certificates, but there is no authority that they must come from")
            }
            Problem::Internal(error) => write!(f, "cannot be set up: {error}"),
        }
    }
}

impl std::error::Error for TlsError {}

fn ordinal(position: usize) -> String {
    let end = match (position % 100, position % 10) {
        (11..=13, _) => "th",
        (_, 1) => "st",
        (_, 2) => "nd",
        (_, 3) => "rd",
        _ => "th",
    };
    format!("{position}{end}")
}

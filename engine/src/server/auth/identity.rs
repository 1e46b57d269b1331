//! Who somebody is, once that is known.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::value::RawValue;

use super::Denied;
use super::claims::{Claims, SUBJECT_BYTES_MAX};
use super::permissions::Permissions;
use super::settings::Role;
use crate::{ClientCertificate, ConnectionLimits};

/// Somebody, and what he may do. Shared by all who come with the same token.
#[derive(Debug, Default)]
pub struct Identity {
    /// Who it is; none if that was not said.
    pub subject: Option<Arc<str>>,
    /// What it may do.
    pub permissions: Permissions,
    /// From when on this does not hold any more, as was said, in seconds since 1970.
    pub expires_at: Option<u64>,
    /// Likewise, after which nothing is done for it: that and by how much clocks may differ.
    pub ends_at: Option<u64>,
    /// Limits of its connections.
    pub limits: ConnectionLimits,
    /// What others may be told of it.
    pub info: Option<Box<RawValue>>,
    /// Whether it has shown something by which it is known; not if it may come in without.
    pub is_authenticated: bool,
}

impl Identity {
    /// Somebody who has shown nothing.
    #[must_use]
    pub fn nobody(permissions: Permissions) -> Self {
        Self { permissions, ..Self::default() }
    }

    /// What claims and roles make of somebody.
    #[must_use]
    pub fn new(claims: Claims, roles: &[Role], leeway_s: u64) -> Self {
        let mut permissions = Permissions::new(claims.rules);
        for role in roles.iter().filter(|role| role.name == "default" || claims.roles.contains(&role.name)) {
            permissions.add(role, claims.subject.as_deref());
        }
        Self {
            subject: claims.subject.map(Into::into),
            permissions,
            expires_at: claims.expires_at,
            ends_at: claims.expires_at.map(|time| time.saturating_add(leeway_s)),
            limits: claims.limits,
            info: claims.info,
            is_authenticated: true,
        }
    }

    /// Who has shown a certificate that was verified: somebody of the role `default`, called by its common name, or, if it has
    /// none, by the first DNS name, mail address or URI it is for. One that is called by none of them has no name, but is
    /// somebody. So has one whose common name is of no use: authorities may check that one and leave the others to whoever
    /// asks, who must not choose what he is called by spoiling it.
    #[must_use]
    pub fn of_certificate(certificate: &ClientCertificate, roles: &[Role]) -> Self {
        let alternatives = [certificate.dns_names(), certificate.email_addresses(), certificate.uris()];
        // As of tokens: so it can be shown, and be part of a topic.
        let is_name =
            |name: &&str| (1..=SUBJECT_BYTES_MAX).contains(&name.len()) && !name.chars().any(char::is_control);
        let subject = if certificate.has_common_name() {
            certificate.common_name().filter(is_name)
        } else {
            alternatives.into_iter().flatten().map(String::as_str).find(is_name)
        };
        let subject = subject.map(str::to_owned);
        Self::new(Claims { subject, ..Claims::default() }, roles, 0)
    }

    /// Whether it holds at this time.
    ///
    /// # Errors
    /// It does not any more.
    pub fn check_time(&self, now: u64) -> Result<(), Denied> {
        if self.ends_at.is_some_and(|end| now >= end) { Err(Denied::Expired) } else { Ok(()) }
    }

    /// An estimate of the memory it takes, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let subject = self.subject.as_ref().map_or(0, |subject| subject.len());
        let info = self.info.as_ref().map_or(0, |info| info.get().len());
        512 + subject + info + self.permissions.bytes()
    }
}

/// Seconds since 1970.
#[must_use]
pub fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs())
}

//! Certificates that change while the server runs: their files are looked at, and what has changed in them is put in place for
//! the connections that come. Whatever is wrong with it, what is in use stays.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::Config;
use super::mistake::Mistake;
use super::reload::{Change, Reloads, Report};
use super::table::settings;
use super::value::quoted;
use crate::server::tls::{Certificates, unix_now};
use crate::{EngineHandle, TlsError};

/// How often it is seen whether it is time to look.
const TICK: Duration = Duration::from_secs(1);
/// How often it is said again that a certificate is about to expire.
const DAY: Duration = Duration::from_secs(86_400);

/// What the last looks have shown.
#[derive(Debug, Default)]
pub struct Watched {
    /// What was seen once, and is taken if it is the same a moment later: files are written one after the other.
    unsettled: Option<[u8; 32]>,
    /// What was refused, and is not tried again until it is something else.
    refused: Option<[u8; 32]>,
    /// What was refused for now, as its dates are not right: that is said once, and it is tried again each time.
    waiting: Option<[u8; 32]>,
}

/// What a look has shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// Nothing new.
    Same,
    /// Something is changing: it should be looked again soon.
    Unsettled,
    /// Something else is in place.
    Replaced,
    /// What is there now cannot be used.
    Refused,
}

impl Config {
    /// A mistake about certificates or keys.
    pub(super) fn tls_mistake(&self, error: &TlsError) -> Mistake {
        let (key, sentence) = self.tls.sentence(error);
        Mistake::new(self.source(key), sentence)
    }
}

/// Looks at the files as often as is set, and once a day says which certificates are about to expire. Runs beside the HTTP
/// service, which it does not keep: files are read on a thread for that.
pub fn start(engine: &EngineHandle, reloads: Arc<Reloads>) {
    let task = engine.clone();
    engine.spawn(async move {
        let (mut looked, mut warned) = (Instant::now(), Instant::now());
        let mut is_unsettled = false;
        loop {
            tokio::time::sleep(TICK).await;
            let interval = Duration::from_secs(reloads.watch_s.load(Ordering::Relaxed));
            if is_unsettled || !interval.is_zero() && looked.elapsed() >= interval {
                looked = Instant::now();
                let (reloads, engine) = (Arc::clone(&reloads), task.clone());
                let look = tokio::task::spawn_blocking(move || reloads.look_at_certificates(&engine)).await;
                is_unsettled = look.is_ok_and(|look| look == Look::Unsettled);
            }
            if warned.elapsed() >= DAY {
                warned = Instant::now();
                reloads.warn_of_certificates();
            }
        }
    });
}

impl Reloads {
    /// Looks whether the files of certificates and keys have changed, and puts what they hold now in place. Blocks for as long
    /// as reading them takes; not for a shard.
    pub fn look_at_certificates(&self, engine: &EngineHandle) -> Look {
        self.look_at(engine, unix_now())
    }

    /// The same at this time, in seconds since 1970.
    fn look_at(&self, engine: &EngineHandle, now: i64) -> Look {
        // Read without the lock: files that do not answer must not keep a reload waiting.
        let (settings, shown) = {
            let present = self.present.lock();
            let Some(shown) = present.certificates.clone() else { return Look::Same };
            (present.tls.clone(), shown)
        };
        let reading = Certificates::read(&settings, Some(&shown));
        let mut present = self.present.lock();
        let is_present = |own: &Certificates| own.tls.digest() == shown.tls.digest();
        if present.tls != settings || !present.certificates.as_ref().is_some_and(is_present) {
            // It was not these files that should have been read, or they have been compared by a reload.
            return Look::Unsettled;
        }
        let reading = match reading {
            Ok(Some(reading)) => reading,
            Ok(None) => return Look::Same,
            Err(error) => {
                tracing::error!("the development certificate cannot be made anew: {error}");
                return Look::Same;
            }
        };
        let mut watched = self.watched.lock();
        let digest = reading.digest();
        if digest == shown.tls.digest() {
            *watched = Watched::default();
            return Look::Same;
        }
        if watched.refused == Some(digest) {
            return Look::Same;
        }
        let is_new = watched.unsettled != Some(digest) && watched.waiting != Some(digest);
        if is_new && !shown.is_development_over() {
            watched.unsettled = Some(digest);
            return Look::Unsettled;
        }
        watched.unsettled = None;
        let checked = reading.check().and_then(|next| next.tls.may_replace(&shown.tls, now).map(|()| next));
        match checked {
            Ok(next) => {
                tracing::info!("new certificates: {} -> {}", shown.summary(), next.summary());
                self.show(&next, engine);
                present.certificates = Some(next);
                *watched = Watched::default();
                Look::Replaced
            }
            Err(error) => {
                let is_told = watched.waiting == Some(digest);
                let note = Some(digest);
                (watched.waiting, watched.refused) = if error.is_passing() { (note, None) } else { (None, note) };
                if is_told {
                    return Look::Same;
                }
                self.counts.tls_refused.fetch_add(1, Ordering::Relaxed);
                let mistake = present.tls_mistake(&error);
                tracing::error!("the certificates stay as they are, as the new ones cannot be used: {mistake}");
                Look::Refused
            }
        }
    }

    /// Has newcomers be shown something else.
    pub(super) fn show(&self, next: &Certificates, engine: &EngineHandle) {
        engine.set_tls(next.tls.clone());
        self.shown.store(Some(Arc::new(next.clone())));
        self.counts.tls_accepted.fetch_add(1, Ordering::Relaxed);
        next.warnings().iter().for_each(|warning| tracing::warn!("{warning}"));
    }

    /// Says which certificates are about to expire.
    fn warn_of_certificates(&self) {
        if let Some(shown) = self.shown.load_full() {
            shown.warnings().iter().for_each(|warning| tracing::warn!("{warning}"));
        }
    }
}

/// Decides between the certificates that there are and those that were read anew, and gives back the latter if they are to be
/// put in place. Addresses speak what they spoke at the start, so TLS begins and ends with a restart.
///
/// # Errors
/// The new ones must not replace the present ones.
pub(super) fn settle(
    present: &Config,
    next: &mut Config,
    report: &mut Report,
) -> Result<Option<Certificates>, Mistake> {
    if present.tls.is_on() != next.tls.is_on() {
        for setting in settings().iter().filter(|setting| setting.section.name == "tls") {
            setting.row.set(next, &setting.row.get(present));
        }
        report
            .changes
            .iter_mut()
            .filter(|change| change.setting.starts_with("tls."))
            .for_each(|change| change.is_live = false);
        next.certificates.clone_from(&present.certificates);
        next.auth.client_certificates = next.tls.asks_clients();
        return Ok(None);
    }
    let (Some(old), Some(new)) = (&present.certificates, &next.certificates) else { return Ok(None) };
    if present.tls.shows_as(&next.tls) && old.tls.digest() == new.tls.digest() {
        // The very same: tickets of those who come back go on being good.
        next.certificates.clone_from(&present.certificates);
        return Ok(None);
    }
    new.tls.may_replace(&old.tls, unix_now()).map_err(|error| next.tls_mistake(&error))?;
    if present.tls.shows_as(&next.tls) {
        let setting = "tls.tls_cert".to_owned();
        report.changes.push(Change {
            setting,
            from: quoted(&old.summary()),
            to: quoted(&new.summary()),
            is_live: true,
        });
    }
    Ok(Some(new.clone()))
}

#[cfg(test)]
#[path = "renewal_tests.rs"]
mod tests;

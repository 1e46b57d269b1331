//! What looks at certificates find, with a clock of the test's own.

use std::fs;
use std::path::Path;

use time::{Duration, OffsetDateTime};

use super::*;
use crate::Engine;
use crate::server::prepare;

const DAY_S: i64 = 86_400;

/// A running server with a certificate in a folder, at which nobody looks but the test.
struct Setup {
    folder: tempfile::TempDir,
    engine: Engine,
    reloads: Arc<Reloads>,
}

impl Setup {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        put(folder.path(), -30, 90);
        let name = |file: &str| folder.path().join(file).display().to_string();
        let (cert, key) = (name("cert"), name("key"));
        let flags = ["--tls-cert", &cert, "--tls-key", &key, "--tls-watch-s=0", "--listen=127.0.0.1:0", "--shards=1"];
        let (builder, reloads) = prepare(&Config::from_flags(flags).unwrap()).unwrap();
        Self { folder, engine: builder.start().unwrap(), reloads }
    }

    /// Looks so many days from now.
    fn look(&self, day: i64) -> Look {
        self.reloads.look_at(self.engine.handle(), unix_now() + day * DAY_S)
    }

    fn refused(&self) -> u64 {
        self.reloads.counts.tls_refused.load(Ordering::Relaxed)
    }
}

/// Writes a certificate that holds from one day to another, counted from now, and its key.
fn put(folder: &Path, from: i64, to: i64) {
    let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let day = |day| OffsetDateTime::now_utc() + Duration::days(day);
    (params.not_before, params.not_after) = (day(from), day(to));
    let key = rcgen::KeyPair::generate().unwrap();
    fs::write(folder.join("cert"), params.self_signed(&key).unwrap().pem()).unwrap();
    fs::write(folder.join("key"), key.serialize_pem()).unwrap();
}

#[test]
fn what_does_not_hold_yet_is_put_in_place_once_it_does() {
    let setup = Setup::new();
    assert_eq!(setup.look(0), Look::Same);
    put(setup.folder.path(), 10, 90);
    assert_eq!((setup.look(0), setup.look(0), setup.refused()), (Look::Unsettled, Look::Refused, 1));
    assert_eq!((setup.look(1), setup.look(9), setup.refused()), (Look::Same, Look::Same, 1), "it is said once");
    assert_eq!((setup.look(11), setup.look(11)), (Look::Replaced, Look::Same));
}

#[test]
fn what_has_expired_is_put_in_place_once_what_is_there_has_expired_too() {
    let setup = Setup::new();
    put(setup.folder.path(), -30, -1);
    assert_eq!((setup.look(0), setup.look(0), setup.look(89)), (Look::Unsettled, Look::Refused, Look::Same));
    assert_eq!((setup.look(91), setup.refused()), (Look::Replaced, 1));
}

#[test]
fn what_is_broken_is_not_tried_again_until_it_is_something_else() {
    let setup = Setup::new();
    let key = fs::read(setup.folder.path().join("key")).unwrap();
    put(setup.folder.path(), -30, 90);
    let own = fs::read(setup.folder.path().join("key")).unwrap();
    fs::write(setup.folder.path().join("key"), key).unwrap();
    assert_eq!((setup.look(0), setup.look(0), setup.look(0)), (Look::Unsettled, Look::Refused, Look::Same));
    fs::write(setup.folder.path().join("key"), own).unwrap();
    assert_eq!((setup.look(0), setup.look(0), setup.refused()), (Look::Unsettled, Look::Replaced, 1));
}

#[test]
fn a_reload_that_is_refused_leaves_nothing_behind_that_keeps_good_files_out() {
    let setup = Setup::new();
    let key = fs::read(setup.folder.path().join("key")).unwrap();
    put(setup.folder.path(), -30, 90);
    let own = fs::read(setup.folder.path().join("key")).unwrap();
    fs::write(setup.folder.path().join("key"), key).unwrap();
    assert!(setup.reloads.reload(setup.engine.handle()).is_err());
    // Whatever is remembered of it, it is not what is there a moment later.
    assert_eq!(setup.reloads.watched.lock().refused, None);
    fs::write(setup.folder.path().join("key"), own).unwrap();
    assert_eq!((setup.look(0), setup.look(0)), (Look::Unsettled, Look::Replaced));
}

#[test]
fn files_are_read_without_the_lock_of_a_reload_and_once() {
    let setup = Setup::new();
    let (settings, shown) = {
        let present = setup.reloads.present.lock();
        (present.tls.clone(), present.certificates.clone().unwrap())
    };
    put(setup.folder.path(), -30, 80);
    let reading = Certificates::read(&settings, Some(&shown)).unwrap().unwrap();
    // What becomes of them then is of no account to what was read.
    put(setup.folder.path(), -30, 70);
    let digest = reading.digest();
    assert_eq!(digest, reading.check().unwrap().tls.digest());
    assert_ne!(digest, Certificates::load(&settings, Some(&shown)).unwrap().unwrap().tls.digest());
}

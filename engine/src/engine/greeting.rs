//! TLS handshakes on the control plane: those of listeners for HTTP only, as all others have had theirs on a shard.

use std::net::SocketAddr;

use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::control::{FIRST_REQUEST, Plane};
use crate::close::RefusalCause;
use crate::config::Settings;
use crate::handler::Handler;
use crate::net::http_socket::{HttpSocket, NoHandshake};
use crate::shard::{NOT_TLS, error_answer};

impl<H: Handler> Plane<H> {
    /// Waits for the first bytes on a listener for HTTP only, and completes the TLS handshake if there has to be one, in the
    /// time there is for it; false if the connection is done with.
    pub async fn greet(
        &self,
        socket: &mut HttpSocket,
        peer: SocketAddr,
        settings: &Settings,
        mut farewell: watch::Receiver<()>,
    ) -> bool {
        if socket.has_begun() {
            return true;
        }
        let ending = async {
            let _ = farewell.changed().await;
            sleep(FIRST_REQUEST).await;
        };
        let not_tls = error_answer(RefusalCause::PlainOnTls.label(), NOT_TLS, 400, &[]);
        let greeted = tokio::select! {
            greeted = timeout(settings.handshake_timeout, socket.shake_hands(&not_tls)) => greeted,
            () = ending => return false,
        };
        let control = &self.engine.shared().control;
        let (cause, why, last) = match greeted {
            Ok(Ok(())) => {
                if let Some(tls) = socket.tls() {
                    control.tls_handshakes.note(tls.is_tls13().unwrap_or_default(), tls.is_resumed());
                }
                return true;
            }
            Ok(Err((why, last))) => (cause_of(&why), why.to_string(), last),
            // Of who says nothing at all in the clear nothing was said before there was TLS, either.
            Err(_) if socket.tls().is_none() => return false,
            Err(_) => (RefusalCause::HandshakeTimeout, "the TLS handshake took too long".to_owned(), Vec::new()),
        };
        control.refusals[cause as usize].add(1);
        self.tell_no_handshake(peer, cause, &why);
        if !last.is_empty() {
            let _ = timeout(settings.handshake_timeout, socket.part(&last)).await;
        }
        false
    }

    /// Logs that there was none.
    pub fn tell_no_handshake(&self, peer: SocketAddr, cause: RefusalCause, why: &str) {
        if let Some(left_out) = self.told.lock().admit(self.engine.shared().clock.nanos() / 1_000_000_000) {
            let left_out = (left_out > 0).then_some(left_out);
            tracing::info!(target: "fanfare::connections", %peer, cause = cause.label(), why, left_out, "refused");
        }
    }
}

fn cause_of(why: &NoHandshake) -> RefusalCause {
    match why {
        NoHandshake::Gone => RefusalCause::Gone,
        NoHandshake::NotTls => RefusalCause::PlainOnTls,
        NoHandshake::TlsOnPlain => RefusalCause::TlsOnPlain,
        NoHandshake::Failed(_) => RefusalCause::TlsHandshake,
    }
}

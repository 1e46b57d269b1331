//! Listeners for HTTP only, which the control thread serves itself: they answer even if no shard does.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Router;
use tokio::sync::{Semaphore, watch};
use tokio::time::sleep;

use super::control::{Plane, serve_connection};
use crate::close::RefusalCause;
use crate::handler::Handler;
use crate::net::handover::Handover;
use crate::net::takeover::Holding;
use crate::net::tls::Security;
use crate::shard::begin_tls;
use crate::shard::ending::Phase;

/// How soon it is tried again to accept after a failure.
const RETRY: Duration = Duration::from_millis(50);

/// Accepts until the engine has ended, or somebody else does in our place.
pub async fn serve<H: Handler>(
    plane: Arc<Plane<H>>,
    router: Router,
    listener: TcpListener,
    security: Security,
    holding: Arc<Holding>,
    mut farewell: watch::Receiver<()>,
) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
    let mut news = plane.engine.shared().ending.news();
    let left = async {
        // Never an error as long as the engine is there.
        let _ = news.wait_for(|phase| *phase >= Phase::Stopping).await;
        if !holding.is_left_to_others() {
            std::future::pending::<()>().await;
        }
    };
    let farewells = farewell.clone();
    tokio::select! {
        () = left => {}
        _ = farewell.changed() => {}
        () = accept_all(&plane, &router, &listener, security, &farewells) => {}
    }
}

async fn accept_all<H: Handler>(
    plane: &Arc<Plane<H>>,
    router: &Router,
    listener: &tokio::net::TcpListener,
    security: Security,
    farewell: &watch::Receiver<()>,
) {
    let shared = plane.engine.shared();
    // Places of its own: who fills those of the public address does not keep anybody from here.
    let places = Arc::new(Semaphore::new(shared.settings().http_connections_max));
    loop {
        // Those beyond the bound wait in the listener's queue: here there is nobody who has to be told to go away.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let Ok((stream, peer)) = listener.accept().await else {
            sleep(RETRY).await;
            continue;
        };
        let Ok(stream) = stream.into_std() else { continue };
        let tls = match begin_tls(shared, security) {
            Ok(tls) => tls,
            Err(why) => {
                shared.control.refusals[RefusalCause::TlsHandshake as usize].add(1);
                plane.tell_no_handshake(peer, RefusalCause::TlsHandshake, &why);
                continue;
            }
        };
        shared.connections.fetch_add(1, Ordering::Relaxed);
        shared.http_connections.fetch_add(1, Ordering::Relaxed);
        let (plane, router, farewell) = (plane.clone(), router.clone(), farewell.clone());
        tokio::spawn(async move {
            let handover =
                Handover { stream, tls, peer, client: peer, proxied: false, counted: false, read: Vec::new() };
            serve_connection(plane, router, handover, true, farewell).await;
            drop(place);
        });
    }
}

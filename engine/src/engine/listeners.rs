//! The listeners of an engine: opened, given by the program, or taken over from another process; and which shard gets which.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::config::Settings;
use crate::net::listener::{self, Acceptor};
use crate::net::takeover::{self, Holding, Predecessor};
use crate::net::tls::Security;
use crate::shard::shared::Listening;

/// How long a process that has taken over may take until it offers its listeners in turn, and how soon it is asked again.
const HANDING_ON: Duration = Duration::from_secs(1);
const AGAIN: Duration = Duration::from_millis(10);

/// Where to listen.
#[derive(Debug, Default)]
pub struct Wanted {
    /// Addresses.
    pub addrs: Vec<(SocketAddr, Security)>,
    /// Listeners that there are already; whether somebody else holds them, too.
    pub given: Vec<(TcpListener, bool, Security)>,
}

/// The listeners of one address.
struct Listeners {
    addr: SocketAddr,
    security: Security,
    sockets: Vec<TcpListener>,
    inherited: bool,
    predecessor: Option<Predecessor>,
    occupied: bool,
}

/// What there is to listen on.
#[derive(Debug, Default)]
pub struct Opened {
    /// By shard.
    pub acceptors: Vec<Vec<Acceptor>>,
    /// For HTTP only.
    pub http: Vec<(TcpListener, Arc<Holding>, Security)>,
    /// What is to be offered to others, and who has offered it to us.
    pub offers: Vec<(Arc<Holding>, Option<Predecessor>)>,
    /// Whether another process listens on one of the addresses, and is to be replaced.
    pub occupied: bool,
    /// All of it, as others see it.
    pub listening: Listening,
}

/// Opens all of them.
///
/// # Errors
/// One cannot be opened, which is named.
pub fn open(wanted: Wanted, wanted_http: Wanted, shards: usize, settings: &Settings) -> io::Result<Opened> {
    let mut opened = Opened { acceptors: (0..shards).map(|_| Vec::new()).collect(), ..Opened::default() };
    for listeners in collect(wanted, shards, settings)? {
        opened.listening.addrs.push(listeners.addr);
        opened.occupied |= listeners.occupied;
        let shares = distribute(&listeners.sockets, shards)?;
        let security = listeners.security;
        opened.note(listeners.addr, security);
        let holding = opened.hold(listeners);
        for (own, share) in opened.acceptors.iter_mut().zip(shares) {
            own.extend(share.into_iter().map(|socket| Acceptor::new(socket, Arc::clone(&holding), security)));
        }
    }
    // One thread accepts from these.
    for listeners in collect(wanted_http, 1, settings)? {
        opened.listening.http_addrs.push(listeners.addr);
        let own = listeners.sockets.iter().map(TcpListener::try_clone).collect::<io::Result<Vec<_>>>()?;
        let security = listeners.security;
        opened.note(listeners.addr, security);
        let holding = opened.hold(listeners);
        opened.http.extend(own.into_iter().map(|socket| (socket, Arc::clone(&holding), security)));
    }
    Ok(opened)
}

impl Wanted {
    /// Whether something is to speak TLS.
    #[must_use]
    pub fn speaks_tls(&self) -> bool {
        self.addrs
            .iter()
            .map(|(_, security)| security)
            .chain(self.given.iter().map(|(_, _, security)| security))
            .any(|security| *security == Security::Tls)
    }
}

impl Opened {
    fn note(&mut self, addr: SocketAddr, security: Security) {
        if security == Security::Tls {
            self.listening.tls_addrs.push(addr);
        }
    }

    fn hold(&mut self, listeners: Listeners) -> Arc<Holding> {
        let holding = Holding::new(listeners.addr, listeners.sockets, listeners.inherited);
        self.listening.holdings.push(Arc::clone(&holding));
        self.offers.push((Arc::clone(&holding), listeners.predecessor));
        holding
    }
}

fn collect(wanted: Wanted, sockets: usize, settings: &Settings) -> io::Result<Vec<Listeners>> {
    let mut all: Vec<Listeners> = Vec::new();
    for (addr, security) in wanted.addrs {
        check_security(&all, addr, security)?;
        let named = |error: io::Error| {
            let advice = match error.kind() {
                io::ErrorKind::AddrInUse if settings.takeover => "; it does not share it, so end it first",
                io::ErrorKind::AddrInUse => {
                    "; if what listens there is to be replaced and runs as the same user, set takeover"
                }
                _ => "",
            };
            io::Error::new(error.kind(), format!("cannot listen on {addr}: {error}{advice}"))
        };
        all.push(listen(addr, security, sockets, settings).map_err(named)?);
    }
    for (socket, inherited, security) in wanted.given {
        let invalid =
            |error: io::Error| io::Error::new(error.kind(), format!("a listener that was given is of no use: {error}"));
        let addr = socket.local_addr().map_err(invalid)?;
        listener::adopt(&socket, settings).map_err(invalid)?;
        check_security(&all, addr, security)?;
        match all.iter_mut().find(|listeners| listeners.addr == addr) {
            Some(listeners) => listeners.sockets.push(socket),
            None => {
                let sockets = vec![socket];
                all.push(Listeners { addr, security, sockets, inherited, predecessor: None, occupied: false });
            }
        }
    }
    Ok(all)
}

/// One address cannot be both in the clear and through TLS.
fn check_security(all: &[Listeners], addr: SocketAddr, security: Security) -> io::Result<()> {
    if all.iter().any(|listeners| listeners.addr == addr && listeners.security != security) {
        let message = format!("{addr} is to be listened on twice, with TLS and without");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    Ok(())
}

/// The listeners of an address: those of another process that we replace, and as many new ones as are missing.
fn listen(addr: SocketAddr, security: Security, wanted: usize, settings: &Settings) -> io::Result<Listeners> {
    let occupied = settings.takeover && addr.port() != 0 && listener::probe(addr).is_err();
    let (mut sockets, predecessor) = if settings.takeover && addr.port() != 0 {
        take_over(addr, settings)
    } else {
        listener::probe(addr)?;
        (Vec::new(), None)
    };
    let mut bound = addr;
    while sockets.len() < wanted {
        match listener::open(bound, settings) {
            Ok(socket) => {
                bound = socket.local_addr()?;
                sockets.push(socket);
            }
            // What was taken over may be of a kind that shares its address with nobody; the shards share it then.
            Err(_) if !sockets.is_empty() => break,
            Err(error) => return Err(error),
        }
    }
    Ok(Listeners { addr: bound, security, sockets, inherited: false, predecessor, occupied })
}

fn take_over(addr: SocketAddr, settings: &Settings) -> (Vec<TcpListener>, Option<Predecessor>) {
    let took = || {
        let taken = takeover::take(addr)?;
        if let Some(taken) = &taken {
            taken.listeners.iter().try_for_each(|socket| listener::adopt(socket, settings))?;
        }
        io::Result::Ok(taken)
    };
    let until = Instant::now() + HANDING_ON;
    loop {
        let taken = took();
        // Whoever listens there may be about to offer what it has just taken over itself, and who had it does not any more.
        let passing = match &taken {
            Ok(Some(_)) => false,
            Ok(None) => listener::probe(addr).is_err(),
            Err(error) => error.kind() == io::ErrorKind::ConnectionReset,
        };
        if passing && Instant::now() < until {
            thread::sleep(AGAIN);
            continue;
        }
        match taken {
            Ok(Some(taken)) => return (taken.listeners, Some(taken.predecessor)),
            Ok(None) if passing => tracing::warn!(
                address = %addr,
                "another process listens here and does not offer its listeners: who waits in their queues when it ends \
                 is lost"
            ),
            Ok(None) => {}
            Err(error) => tracing::warn!(
                address = %addr, %error,
                "cannot take over the listeners of the process there: who waits in their queues when it ends is lost"
            ),
        }
        return (Vec::new(), None);
    }
}

/// The same number for each shard, and those that are left over for all of them.
fn distribute(sockets: &[TcpListener], shards: usize) -> io::Result<Vec<Vec<TcpListener>>> {
    let each = sockets.len() / shards;
    let (own, common) = sockets.split_at(each * shards);
    let share = |shard: usize| {
        let own = &own[shard * each..(shard + 1) * each];
        own.iter().chain(common).map(TcpListener::try_clone).collect()
    };
    (0..shards).map(share).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(sockets: usize, shards: usize) -> Vec<Vec<SocketAddr>> {
        let sockets: Vec<_> = (0..sockets).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let shares = distribute(&sockets, shards).unwrap();
        shares.iter().map(|share| share.iter().map(|socket| socket.local_addr().unwrap()).collect()).collect()
    }

    #[test]
    fn an_address_with_tls_and_without_is_refused_and_named() {
        let settings = Settings::default();
        let addr = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let both = vec![(addr, Security::Plain), (addr, Security::Tls)];
        let error = collect(Wanted { addrs: both, given: Vec::new() }, 1, &settings).err().unwrap();
        assert!(
            error.kind() == io::ErrorKind::InvalidInput && error.to_string().contains(&addr.to_string()),
            "{error}"
        );
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = socket.local_addr().unwrap();
        for (securities, fits) in [
            ([Security::Tls, Security::Plain], false),
            ([Security::Plain, Security::Tls], false),
            ([Security::Tls; 2], true),
        ] {
            let given = securities.map(|security| (socket.try_clone().unwrap(), false, security)).into();
            match collect(Wanted { addrs: Vec::new(), given }, 1, &settings) {
                Ok(all) => assert!(fits && all.len() == 1),
                Err(error) => {
                    assert!(!fits && error.kind() == io::ErrorKind::InvalidInput);
                    assert!(error.to_string().contains(&addr.to_string()), "{error}");
                }
            }
        }
    }

    #[test]
    fn every_listener_is_somebodys_and_every_shard_has_one() {
        for (sockets, shards) in [(1, 1), (1, 4), (2, 2), (3, 2), (4, 2), (2, 3), (7, 3)] {
            let shares = numbers(sockets, shards);
            assert_eq!(shares.len(), shards);
            let mut all: Vec<_> = shares.concat();
            all.sort_unstable();
            all.dedup();
            assert_eq!(all.len(), sockets, "{sockets} for {shards}");
            assert!(shares.iter().all(|share| share.len() == shares[0].len() && !share.is_empty()));
        }
    }
}

//! A client's end of a connection: in the clear, or through TLS with rustls' own client.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use rustls::crypto::ring;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use socket2::SockRef;

use crate::net::tls::{Tls, TlsSession};
use crate::shard::connection::Connection;

/// What the server shows, and clients of both versions that trust it.
static WORLD: LazyLock<(Tls, [Arc<ClientConfig>; 2])> = LazyLock::new(|| {
    let own = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let tls = Tls::from_pem(own.cert.pem().as_bytes(), own.signing_key.serialize_pem().as_bytes()).unwrap();
    let clients = [&rustls::version::TLS12, &rustls::version::TLS13].map(|version| {
        let mut roots = RootCertStore::empty();
        roots.add(own.cert.der().clone()).unwrap();
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[version]).unwrap();
        Arc::new(builder.with_root_certificates(roots).with_no_client_auth())
    });
    (tls, clients)
});

/// What a server shows whom the clients here trust.
pub fn certificate() -> Tls {
    WORLD.0.clone()
}

/// A client whose handshake is still to come.
pub fn client(version: usize) -> ClientConnection {
    ClientConnection::new(WORLD.1[version].clone(), ServerName::try_from("localhost").unwrap()).unwrap()
}

#[derive(Debug)]
pub struct Wire {
    socket: TcpStream,
    tls: Option<Box<ClientConnection>>,
}

impl Wire {
    /// Both ends of it: the handshake, if there is one, has been made already.
    pub fn new(socket: TcpStream, version: Option<usize>) -> (Self, Option<Box<TlsSession>>) {
        let Some(version) = version else { return (Self { socket, tls: None }, None) };
        let (mut client, mut server) = (client(version), TlsSession::new(WORLD.0.config()).unwrap());
        let (mut plain, mut said) = (Vec::new(), Vec::new());
        while client.is_handshaking() || !server.is_open() {
            let mut heard = Vec::new();
            while client.wants_write() {
                client.write_tls(&mut heard).unwrap();
            }
            server.receive(&mut heard, &mut plain, &mut said).unwrap();
            let mut said = &said.split_off(0)[..];
            while !said.is_empty() {
                client.read_tls(&mut said).unwrap();
                client.process_new_packets().unwrap();
            }
        }
        (Self { socket, tls: Some(Box::new(client)) }, Some(Box::new(server)))
    }

    /// The socket will be reset when it is closed.
    pub fn reset(&self) {
        SockRef::from(&self.socket).set_linger(Some(Duration::ZERO)).unwrap();
    }

    /// What a client sends that says this through TLS, and then that it says no more; nothing is sent.
    pub fn encrypted(&mut self, bytes: &[u8], goodbye: bool) -> Vec<u8> {
        let tls = self.tls.as_mut().unwrap();
        let mut cipher = Vec::new();
        for piece in bytes.chunks(16 << 10) {
            tls.writer().write_all(piece).unwrap();
            while tls.wants_write() {
                tls.write_tls(&mut cipher).unwrap();
            }
        }
        if goodbye {
            tls.send_close_notify();
            tls.write_tls(&mut cipher).unwrap();
        }
        cipher
    }

    /// Sends what is encrypted; false if some of it has to wait.
    fn send(&mut self) -> io::Result<bool> {
        let Some(tls) = &mut self.tls else { return Ok(true) };
        while tls.wants_write() {
            match tls.write_tls(&mut self.socket) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}

impl Write for Wire {
    /// Through TLS all or nothing.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !self.send()? {
            return Err(ErrorKind::WouldBlock.into());
        }
        let Some(tls) = &mut self.tls else { return self.socket.write(bytes) };
        tls.writer().write_all(bytes)?;
        self.send()?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.send().map(drop)
    }
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.send()?;
        let Self { socket, tls: Some(tls) } = self else { return self.socket.read(buffer) };
        loop {
            match tls.reader().read(buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                read => return read,
            }
            if tls.read_tls(socket)? == 0 {
                return Ok(0);
            }
            tls.process_new_packets().map_err(io::Error::other)?;
        }
    }
}

/// What of a connection is counted among all that waits, which is what it should be.
pub fn booked(connection: &Connection) -> isize {
    let Connection { outbound, tls, behind, .. } = connection;
    let queued = outbound.as_ref().map_or((0, 0), |outbound| (outbound.booked, outbound.bytes()));
    let kept = tls.as_ref().map_or((0, 0), |tls| (tls.booked, tls.kept_bytes().len()));
    for (booked, waits) in [queued, kept] {
        assert_eq!(booked, if *behind { waits } else { 0 });
    }
    assert!(
        kept.1 == 0 || (outbound.is_some() && (connection.blocked || connection.dirty)),
        "what is kept will go out"
    );
    (queued.0 + kept.0).cast_signed()
}

//! Peers that are made by hand and speak TLS: an agent with a key, and somebody in between.

use crate::{sandbox::Sandbox, server::free_loopback, wait::limit, wire::Stream};
use protocol::{KeyFingerprint, ServerAddress, ServerTrust};
use rustls::{
    ClientConfig, ClientConnection, ServerConfig, ServerConnection,
    crypto::ring::sign::any_supported_type,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    sign::{CertifiedKey, SingleCertAndKey},
};
use std::{
    io::{self, Read},
    net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread::{self, JoinHandle},
};
use trust::{Credentials, Known};

/// A key, and the certificate for it.
#[derive(Debug, Clone)]
pub struct Keys {
    credentials: Credentials,
    path: PathBuf,
    /// Whose certificate is shown in the place of one's own.
    pretended: Option<PathBuf>,
}

impl Keys {
    /// New ones.
    #[must_use]
    pub fn new(sandbox: &Sandbox) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = sandbox.dir("keys").join(format!("{count}.pem"));
        let credentials = Credentials::create(&path, "tests").expect("a key");
        Self {
            credentials,
            path,
            pretended: None,
        }
    }

    /// New ones that are shown with the certificate in `path`, of somebody whose key is not known.
    #[must_use]
    pub fn pretending(sandbox: &Sandbox, path: &Path) -> Self {
        Self {
            pretended: Some(path.to_owned()),
            ..Self::new(sandbox)
        }
    }

    /// Those of a daemon.
    #[must_use]
    pub fn of(path: &Path) -> Self {
        Self {
            credentials: Credentials::load(path).expect("a key"),
            path: path.to_owned(),
            pretended: None,
        }
    }

    /// Which key this is.
    #[must_use]
    pub const fn fingerprint(&self) -> KeyFingerprint {
        self.credentials.fingerprint()
    }

    /// Connects to the server of `link` and proves to have this key. The invitation of `link` is
    /// not shown.
    ///
    /// # Errors
    ///
    /// If the server does not answer, or has another key.
    pub fn connect(&self, link: &str) -> io::Result<Stream> {
        let (mut connection, address) = self.begin(link)?;
        let mut socket = TcpStream::connect_timeout(&address, limit())?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(limit()))?;
        socket.set_write_timeout(Some(limit()))?;
        while connection.is_handshaking() {
            connection.complete_io(&mut socket)?;
        }
        let stream = rustls::StreamOwned::new(connection, socket);
        Ok(Stream::Tls(Box::new(stream)))
    }

    /// The first bytes of a connection to the server of `link`.
    #[must_use]
    pub fn client_hello(&self, link: &str) -> Vec<u8> {
        let (mut connection, _) = self.begin(link).expect("a server's address");
        let mut bytes = Vec::new();
        connection.write_tls(&mut bytes).expect("a vector");
        bytes
    }

    fn connecting(&self, known: Known) -> Result<Arc<ClientConfig>, rustls::Error> {
        let mut config = trust::connecting(&self.credentials, known)?;
        if let Some(shown) = self.shown() {
            Arc::make_mut(&mut config).client_auth_cert_resolver = shown;
        }
        Ok(config)
    }

    fn accepting(&self) -> Result<Arc<ServerConfig>, rustls::Error> {
        let mut config = trust::accepting(&self.credentials)?;
        if let Some(shown) = self.shown() {
            Arc::make_mut(&mut config).cert_resolver = shown;
        }
        Ok(config)
    }

    /// A certificate with a key that does not belong to it.
    fn shown(&self) -> Option<Arc<SingleCertAndKey>> {
        let certificate = CertificateDer::from_pem_file(self.pretended.as_ref()?);
        let key = PrivateKeyDer::from_pem_file(&self.path).expect("a key");
        let key = any_supported_type(&key).expect("a key");
        let pair = CertifiedKey::new(vec![certificate.expect("a certificate")], key);
        Some(Arc::new(pair.into()))
    }

    fn begin(&self, link: &str) -> io::Result<(ClientConnection, SocketAddr)> {
        let link = ServerAddress::parse(link).map_err(io::Error::other)?;
        let ServerTrust::Key { key, next, .. } = link.trust else {
            return Err(io::Error::other("a link with a key is needed"));
        };
        let known = Known::Keys(std::iter::once(key).chain(next).collect());
        let config = self.connecting(known).map_err(io::Error::other)?;
        let name = ServerName::try_from(link.host().to_owned()).map_err(io::Error::other)?;
        let connection = ClientConnection::new(config, name).map_err(io::Error::other)?;
        let address = link.place().to_socket_addrs()?.next();
        Ok((connection, address.ok_or(io::ErrorKind::NotFound)?))
    }
}

/// Somebody who answers for a server with a key of their own, and keeps what they are told. Ends
/// when dropped.
#[derive(Debug)]
pub struct Impostor {
    address: SocketAddr,
    keys: Keys,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    stopping: AtomicBool,
    met: AtomicU32,
    heard: Mutex<Vec<u8>>,
}

impl Impostor {
    /// One with a new key that listens on a loopback address of its own.
    #[must_use]
    pub fn start(sandbox: &Sandbox) -> Self {
        Self::with_keys(Keys::new(sandbox))
    }

    /// The same, with these keys.
    #[must_use]
    pub fn with_keys(keys: Keys) -> Self {
        let address = free_loopback();
        let listener = TcpListener::bind(address).expect("a free address");
        let config = keys.accepting().expect("TLS");
        let shared = Arc::<Shared>::default();
        let listening = Arc::clone(&shared);
        let acceptor = thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                if listening.stopping.load(Ordering::Relaxed) {
                    return;
                }
                let (config, shared) = (Arc::clone(&config), Arc::clone(&listening));
                thread::spawn(move || {
                    let connection = ServerConnection::new(config).expect("TLS");
                    shared.listen(connection, socket);
                    shared.met.fetch_add(1, Ordering::Relaxed);
                });
            }
        });
        Self {
            address,
            keys,
            shared,
            acceptor: Some(acceptor),
        }
    }

    /// Where it answers.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its key.
    #[must_use]
    pub const fn key(&self) -> KeyFingerprint {
        self.keys.fingerprint()
    }

    /// How many connections have come and gone.
    #[must_use]
    pub fn met(&self) -> u32 {
        self.shared.met.load(Ordering::Relaxed)
    }

    /// All that it was told inside of TLS.
    #[must_use]
    pub fn heard(&self) -> Vec<u8> {
        let heard = self.shared.heard.lock();
        heard.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Shared {
    /// Takes whatever comes until the other end has enough.
    fn listen(&self, connection: ServerConnection, socket: TcpStream) {
        let _ = socket.set_read_timeout(Some(limit()));
        let mut stream = rustls::StreamOwned::new(connection, socket);
        let mut chunk = [0; 4_096];
        while let Ok(count @ 1..) = stream.read(&mut chunk) {
            let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
            heard.extend_from_slice(&chunk[..count]);
        }
    }
}

impl Drop for Impostor {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::Relaxed);
        // Wakes the acceptor, which then sees that it should stop.
        let _ = TcpStream::connect(self.address);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

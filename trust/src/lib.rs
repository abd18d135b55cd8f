//! How hosts know each other: keys, certificates, and TLS 1.3 made of them.
//!
//! * [`Credentials`] are a key and a certificate for it, in files that nobody else reads. Both
//!   daemons make their own the first time.
//! * [`accepting()`] is TLS for a server: whoever connects must prove to have a key, and which key
//!   that is, is told by [`Peer`]. Whether it is let in, the server decides with its first words.
//! * [`connecting()`] is TLS for an agent: the server must have a key that the agent knows, or a
//!   certificate for its name from an authority of the agent's settings.
//!
//! Only TLS 1.3 is spoken, without early data and without resumption: every connection begins
//! with a proof of both keys, and nothing of it can be replayed.

#![cfg_attr(not(test), deny(clippy::unwrap_used))]

mod accepting;
mod connecting;
mod credentials;
mod files;
mod peer;
mod signatures;

pub use accepting::accepting;
pub use connecting::{Explained, KeyMismatch, Known, connecting, explain};
pub use credentials::{Credentials, CredentialsError};
pub use files::{Authorities, authorities, remove};
pub use peer::Peer;

use rustls::crypto::{CryptoProvider, ring};
use std::sync::Arc;

/// What both ends say that they speak inside TLS, so that no other protocol's connection is taken
/// for one of ours (RFC 7301).
const ALPN: &[u8] = b"chat/1";

/// The cryptography, named wherever it is used so that no process-wide default is needed.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

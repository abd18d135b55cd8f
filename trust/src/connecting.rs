//! TLS of an agent.

use crate::{ALPN, Authorities, Credentials, peer::key_of, provider, signatures::Signatures};
use protocol::KeyFingerprint;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, InvalidMessage, OtherError,
    SignatureScheme,
    client::{
        Resumption, WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    pki_types::{CertificateDer, ServerName, UnixTime},
    version::TLS13,
};
use std::{io, sync::Arc};
use thiserror::Error;

/// By what an agent knows its server.
#[derive(Debug, Clone)]
pub enum Known {
    /// By one of these keys.
    Keys(Vec<KeyFingerprint>),
    /// By a certificate for its name from one of these authorities.
    Authorities(Authorities),
}

/// The server has another key than it should.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the server's key is {found}")]
pub struct KeyMismatch {
    /// The key it has.
    pub found: KeyFingerprint,
}

/// TLS with `credentials`, to a server that is `known`.
///
/// # Errors
///
/// If the key cannot be used with the certificate, or there are no authorities.
pub fn connecting(credentials: &Credentials, known: Known) -> Result<Arc<ClientConfig>, Error> {
    let Credentials { chain, key, .. } = credentials.clone();
    let provider = provider();
    let verifier: Arc<dyn ServerCertVerifier> = match known {
        Known::Keys(keys) => Arc::new(KnownKey {
            keys,
            signatures: Signatures(provider.signature_verification_algorithms),
        }),
        Known::Authorities(roots) => {
            WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider))
                .build()
                .map_err(|error| Error::General(error.to_string()))?
        }
    };
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_auth_cert(chain, key)?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// What a failed handshake means to people, where its own words do not say.
#[must_use]
pub fn explain(error: &io::Error) -> Option<Explained> {
    let found = error.get_ref()?.downcast_ref::<Error>()?;
    match found {
        Error::InvalidCertificate(CertificateError::Other(OtherError(reason))) => reason
            .downcast_ref::<KeyMismatch>()
            .map(|mismatch| Explained::OtherKey(*mismatch)),
        Error::InvalidMessage(InvalidMessage::InvalidContentType) => Some(Explained::NoTls),
        Error::InvalidCertificate(reason) => Some(Explained::BadCertificate(reason.to_string())),
        _ => None,
    }
}

/// Why a server is not the one that was meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Explained {
    /// It has another key.
    OtherKey(KeyMismatch),
    /// It does not speak TLS.
    NoTls,
    /// No authority vouches for it.
    BadCertificate(String),
}

/// Takes a server for the right one by its key alone: names and dates say nothing.
#[derive(Debug)]
struct KnownKey {
    keys: Vec<KeyFingerprint>,
    signatures: Signatures,
}

impl ServerCertVerifier for KnownKey {
    fn verify_server_cert(
        &self,
        own: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let found = key_of(own).map_err(|_| CertificateError::BadEncoding)?;
        if self.keys.contains(&found) {
            return Ok(ServerCertVerified::assertion());
        }
        let mismatch = OtherError(Arc::new(KeyMismatch { found }));
        Err(CertificateError::Other(mismatch).into())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Signatures::refuse_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signatures.verify(message, cert, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.signatures.schemes()
    }
}

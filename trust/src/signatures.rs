//! The proof that somebody has the key of the certificate they show: the same at both ends.

use rustls::{
    DigitallySignedStruct, Error, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature},
    pki_types::CertificateDer,
};

/// The signatures that count.
#[derive(Debug)]
pub(crate) struct Signatures(pub(crate) WebPkiSupportedAlgorithms);

impl Signatures {
    /// What a handshake of an older version gets: there is none with us.
    pub(crate) fn refuse_tls12() -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.3 only".to_owned()))
    }

    /// Whether the key of `certificate` has signed this handshake.
    pub(crate) fn verify(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.0)
    }

    /// Their names, for the other end.
    pub(crate) fn schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}

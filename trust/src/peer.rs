//! Who is at the other end of a TLS connection.

use crate::Authorities;
use protocol::{HostName, KeyFingerprint};
use rustls::{
    CommonState,
    pki_types::{CertificateDer, UnixTime},
};
use webpki::{EndEntityCert, KeyUsage};

/// The key that the other end has proved to have, and the host names that an authority vouches
/// for it by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its key.
    pub key: KeyFingerprint,
    /// The names in its certificate if one of the given authorities issued it; else none.
    pub vouched: Vec<HostName>,
}

impl Peer {
    /// The agent at the other end; `None` if it has shown no usable certificate, which
    /// [`accepting`](crate::accepting()) lets nobody get away with.
    #[must_use]
    pub fn of(connection: &CommonState, authorities: Option<&Authorities>) -> Option<Self> {
        let [own, issuers @ ..] = connection.peer_certificates()? else {
            return None;
        };
        let vouched = authorities.map_or_else(Vec::new, |authorities| {
            vouched(own, issuers, authorities).unwrap_or_default()
        });
        Some(Self {
            key: key_of(own).ok()?,
            vouched,
        })
    }
}

/// The names that one of `authorities` vouches for; `None` if none of them does.
fn vouched(
    own: &CertificateDer<'_>,
    issuers: &[CertificateDer<'_>],
    authorities: &Authorities,
) -> Option<Vec<HostName>> {
    let certificate = EndEntityCert::try_from(own).ok()?;
    certificate
        .verify_for_usage(
            webpki::ALL_VERIFICATION_ALGS,
            &authorities.roots,
            issuers,
            UnixTime::now(),
            KeyUsage::client_auth(),
            None,
            None,
        )
        .ok()?;
    let names = certificate.valid_dns_names();
    Some(
        names
            .filter_map(|name| HostName::parse(name).ok())
            .collect(),
    )
}

/// The key that a certificate is for.
pub(crate) fn key_of(certificate: &CertificateDer<'_>) -> Result<KeyFingerprint, webpki::Error> {
    let parsed = EndEntityCert::try_from(certificate)?;
    Ok(KeyFingerprint::of_spki(&parsed.subject_public_key_info()))
}

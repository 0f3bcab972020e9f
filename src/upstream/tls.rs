//! Which certificates of upstream are trusted.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use serde::{Deserialize, Serialize};

/// Which certificates are trusted; `[upstream.tls]` as it is written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// The certificate authorities to start from.
    pub roots: Roots,
    /// A PEM file with further certificate authorities.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extra_ca_file: Option<PathBuf>,
}

/// A list of trusted certificate authorities.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Roots {
    /// The list of the operating system.
    Os,
    /// Mozilla's list, compiled in.
    Bundled,
}

/// The trusted certificates cannot be read. Names the key of the configuration.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// There is no list to start from.
    #[error(
        "upstream.tls.roots = \"os\": the operating system has no certificates; \
         install them (package ca-certificates) or use \"bundled\""
    )]
    NoSystemRoots,
    /// The file cannot be read, or holds something else.
    #[error("upstream.tls.extra_ca_file: {}: {reason}", file.display())]
    ExtraCaFile {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The TLS library rejects its own defaults.
    #[error("TLS cannot be set up: {0}")]
    Library(rustls::Error),
}

impl Tls {
    /// The client's side of TLS, without ALPN.
    pub(super) fn client_config(&self) -> Result<ClientConfig, TlsError> {
        let mut roots = RootCertStore::empty();
        match self.roots {
            Roots::Bundled => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
            Roots::Os => {
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
                if roots.is_empty() {
                    return Err(TlsError::NoSystemRoots);
                }
            }
        }
        self.add_extra(&mut roots)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Library)?;
        Ok(builder.with_root_certificates(roots).with_no_client_auth())
    }

    fn add_extra(&self, roots: &mut RootCertStore) -> Result<(), TlsError> {
        let Some(file) = &self.extra_ca_file else {
            return Ok(());
        };
        let invalid = |reason: String| TlsError::ExtraCaFile {
            file: file.clone(),
            reason,
        };
        let certificates =
            CertificateDer::pem_file_iter(file).map_err(|error| invalid(error.to_string()))?;
        let before = roots.len();
        for certificate in certificates {
            let certificate = certificate.map_err(|error| invalid(error.to_string()))?;
            let added = roots.add(certificate);
            added.map_err(|error| invalid(error.to_string()))?;
        }
        if roots.len() == before {
            return Err(invalid("holds no certificate in PEM form".to_owned()));
        }
        Ok(())
    }
}

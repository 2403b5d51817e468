//! What a client trusts, who it is, and which versions it speaks, as rustls wants to know it.

use super::pem::Pem;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::version::{TLS12, TLS13};
use rustls::{
    CertificateError, ClientConfig, ConfigBuilder, DigitallySignedStruct, RootCertStore,
    SignatureScheme, WantsVerifier,
};
use std::sync::Arc;
use tidewatch_client_core::options::TlsOptions;

/// Versions are chosen; what is trusted comes next.
type Builder = ConfigBuilder<ClientConfig, WantsVerifier>;

/// # Errors
/// Why there can be no TLS so, naming the option to change.
pub(super) fn client_config(options: &TlsOptions) -> Result<ClientConfig, String> {
    let (builder, provider) = builder(options)?;
    let roots = Arc::new(match own_roots(options)? {
        Some(roots) => roots,
        None => system_roots()?,
    });
    let builder = match options.verify_host {
        true => builder.with_root_certificates(roots),
        false => {
            let verifier = AnyHost::new(roots, provider)?;
            builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(verifier))
        }
    };
    let Some((key, chain)) = identity(options)? else {
        return Ok(builder.with_no_client_auth());
    };
    let (from, key) = (key.from.clone(), key.private_key()?);
    builder
        .with_client_auth_cert(chain.certificates()?, key)
        .map_err(|why| format!("{from} does not hold a key for its certificate: {why}"))
}

/// As [`client_config`], for an endpoint that is no broker.
pub(super) fn endpoint_config(options: &TlsOptions) -> Result<ClientConfig, String> {
    let (builder, _) = builder(options)?;
    let roots = match own_roots(options)? {
        Some(mut roots) => {
            roots.extend(system_roots().unwrap_or(RootCertStore::empty()).roots);
            roots
        }
        None => system_roots()?,
    };
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

fn builder(options: &TlsOptions) -> Result<(Builder, Arc<CryptoProvider>), String> {
    check_processor()?;
    let provider = Arc::new(rustls_graviola::default_provider());
    let versions: Vec<_> = [(options.tls12, &TLS12), (options.tls13, &TLS13)]
        .into_iter()
        .filter_map(|(enabled, version)| enabled.then_some(version))
        .collect();
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&versions)
        .map_err(|why| format!("ssl.enabled.protocols cannot be spoken: {why}"))?;
    Ok((builder, provider))
}

/// Where this client's key and its chain are, if it has any.
fn identity(options: &TlsOptions) -> Result<Option<(Pem, Pem)>, String> {
    const LOCATION: &str = "ssl.keystore.location";
    if let Some(path) = &options.keystore_location {
        return Ok(Some((
            Pem::file(LOCATION, path)?,
            Pem::file(LOCATION, path)?,
        )));
    }
    let texts = options.keystore_key.as_ref();
    let texts = texts.zip(options.keystore_certificate_chain.as_ref());
    Ok(texts.map(|(key, chain)| {
        let key = Pem::inline("ssl.keystore.key", key.expose());
        (key, Pem::inline("ssl.keystore.certificate.chain", chain))
    }))
}

/// Those that the options name.
fn own_roots(options: &TlsOptions) -> Result<Option<RootCertStore>, String> {
    let pem = match (
        &options.truststore_location,
        &options.truststore_certificates,
    ) {
        (Some(path), _) => Pem::file("ssl.truststore.location", path)?,
        (None, Some(text)) => Pem::inline("ssl.truststore.certificates", text),
        (None, None) => return Ok(None),
    };
    let mut roots = RootCertStore::empty();
    for certificate in pem.certificates()? {
        let added = roots.add(certificate);
        added.map_err(|why| format!("{} holds no authority: {why}", pem.from))?;
    }
    Ok(Some(roots))
}

fn system_roots() -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err(
            "this system has no store of trusted authorities: set ssl.truststore.location \
                    to the PEM file of the brokers' authority"
                .to_owned(),
        );
    }
    Ok(roots)
}

/// The cryptography panics on a processor without these.
fn check_processor() -> Result<(), String> {
    let missing = missing_instructions();
    if missing.is_empty() {
        return Ok(());
    }
    Err(format!(
        "security.protocol asks for TLS, for which this processor lacks the instructions {}",
        missing.join(", ")
    ))
}

#[cfg(target_arch = "x86_64")]
fn missing_instructions() -> Vec<&'static str> {
    let needed = [
        ("aes", is_x86_feature_detected!("aes")),
        ("pclmulqdq", is_x86_feature_detected!("pclmulqdq")),
        ("bmi1", is_x86_feature_detected!("bmi1")),
        ("bmi2", is_x86_feature_detected!("bmi2")),
        ("adx", is_x86_feature_detected!("adx")),
        ("avx", is_x86_feature_detected!("avx")),
        ("avx2", is_x86_feature_detected!("avx2")),
    ];
    absent(&needed)
}

#[cfg(target_arch = "aarch64")]
fn missing_instructions() -> Vec<&'static str> {
    use std::arch::is_aarch64_feature_detected;
    let needed = [
        ("neon", is_aarch64_feature_detected!("neon")),
        ("aes", is_aarch64_feature_detected!("aes")),
        ("pmull", is_aarch64_feature_detected!("pmull")),
        ("sha2", is_aarch64_feature_detected!("sha2")),
    ];
    absent(&needed)
}

fn absent(needed: &[(&'static str, bool)]) -> Vec<&'static str> {
    let absent = needed.iter().filter(|(_, present)| !present);
    absent.map(|(name, _)| *name).collect()
}

/// Checks everything about a broker's certificate but its host, as
/// `ssl.endpoint.identification.algorithm=` asks.
#[derive(Debug)]
struct AnyHost(Arc<WebPkiServerVerifier>);

impl AnyHost {
    fn new(roots: Arc<RootCertStore>, provider: Arc<CryptoProvider>) -> Result<Self, String> {
        let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider).build();
        verifier.map(Self).map_err(|why| why.to_string())
    }
}

impl ServerCertVerifier for AnyHost {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verified =
            self.0
                .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        match verified {
            // The host is what is looked at last.
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_processor_lacks_is_named() {
        assert_eq!(absent(&[("aes", true), ("adx", false)]), ["adx"]);
    }

    #[test]
    fn no_version_is_refused() {
        let options = TlsOptions::default();
        let said = client_config(&options).unwrap_err();
        assert!(said.contains("ssl.enabled.protocols"), "{said}");
    }
}

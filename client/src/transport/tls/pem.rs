//! Keys and certificates in PEM, from files or from text.

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::fs::File;
use std::io::Read;
use tidewatch_client_core::options::Secret;

/// The longest file read: a system's whole bundle has a fifth of it.
const FILE_MAX_BYTES: u64 = 1 << 20;

/// A text in PEM, and the option that it is the value of.
pub(super) struct Pem {
    /// As errors name it.
    pub(super) from: String,
    /// It may hold a private key.
    text: Secret,
}

impl Pem {
    /// The value of `option` itself.
    pub(super) fn inline(option: &str, text: &str) -> Self {
        Self {
            from: option.to_owned(),
            text: Secret::new(text),
        }
    }

    /// The file that `option` names.
    pub(super) fn file(option: &str, path: &str) -> Result<Self, String> {
        let failed = |why: &dyn std::fmt::Display| format!("failed to read {option} {path}: {why}");
        let mut text = String::new();
        let file = File::open(path).map_err(|why| failed(&why))?;
        let mut bounded = file.take(FILE_MAX_BYTES + 1);
        bounded
            .read_to_string(&mut text)
            .map_err(|why| failed(&why))?;
        if text.len() as u64 > FILE_MAX_BYTES {
            return Err(failed(&format!("it is longer than {FILE_MAX_BYTES} bytes")));
        }
        Ok(Self {
            from: format!("{option} {path}"),
            text: Secret::new(text),
        })
    }

    /// Every certificate in it, in order; at least one.
    pub(super) fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, String> {
        let from = &self.from;
        let found: Result<Vec<_>, _> =
            CertificateDer::pem_slice_iter(self.text.expose().as_bytes()).collect();
        match found {
            Ok(found) if found.is_empty() => Err(format!("{from} holds no certificate in PEM")),
            Ok(found) => Ok(found),
            Err(why) => Err(format!("{from} holds no PEM: {why}")),
        }
    }

    /// The private key in it.
    pub(super) fn private_key(&self) -> Result<PrivateKeyDer<'static>, String> {
        let from = &self.from;
        let text = self.text.expose();
        if text.contains("ENCRYPTED PRIVATE KEY") || text.contains("Proc-Type: 4,ENCRYPTED") {
            return Err(format!(
                "{from} holds an encrypted key, which is not supported: decrypt it by `openssl pkcs8`, \
                 and protect the file by its permissions"
            ));
        }
        // The reader's own error could quote what it read.
        PrivateKeyDer::from_pem_slice(text.as_bytes())
            .map_err(|_| format!("{from} holds no private key in PEM"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn what_is_no_pem_is_named_by_its_option() {
        let pem = Pem::inline("ssl.keystore.key", "hunter2");
        let said = pem.private_key().unwrap_err();
        assert_eq!(said, "ssl.keystore.key holds no private key in PEM");
        assert!(pem.certificates().unwrap_err().contains("no certificate"));
        let text =
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
        let pem = Pem::inline("ssl.keystore.key", text);
        assert!(pem.private_key().unwrap_err().contains("decrypt it"));
    }

    #[test]
    fn a_file_is_named_and_not_read_without_end() {
        let said = Pem::file("ssl.truststore.location", "/nowhere.pem").err();
        assert!(
            said.unwrap()
                .contains("ssl.truststore.location /nowhere.pem: No such file")
        );
        if Path::new("/dev/zero").exists() {
            let said = Pem::file("ssl.truststore.location", "/dev/zero").err();
            assert!(said.unwrap().contains("longer than 1048576 bytes"));
        }
    }
}

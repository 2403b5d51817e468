//! The rows of the table that say how connections are secured.

use super::Accepts::{Jaas, OneOf, SecretText, Text, TlsVersions};
use super::{Row, row};
use crate::options::jaas::Login;
use crate::options::security::{Mechanism, SecurityProtocol};

/// TLS, then SASL.
pub(in crate::options) static SECURITY: &[Row] = &[
    row(
        "security.protocol",
        "PLAINTEXT",
        OneOf(&["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]),
        "How connections are secured: SSL is TLS, SASL authenticates.",
        |o, v| o.client.security.protocol = SecurityProtocol::parse(v.text),
    ),
    row(
        "ssl.truststore.type",
        "PEM",
        OneOf(&["PEM"]),
        "The format of the trust store.",
        |_, _| {},
    ),
    row(
        "ssl.truststore.location",
        "",
        Text,
        "A PEM file of the authorities that are trusted; without one the system's are.",
        |o, v| o.client.security.tls.truststore_location = Some(v.text()),
    ),
    row(
        "ssl.truststore.certificates",
        "",
        Text,
        "The authorities that are trusted, as PEM text.",
        |o, v| o.client.security.tls.truststore_certificates = Some(v.text()),
    ),
    row(
        "ssl.keystore.type",
        "PEM",
        OneOf(&["PEM"]),
        "The format of the key store.",
        |_, _| {},
    ),
    row(
        "ssl.keystore.location",
        "",
        Text,
        "A PEM file of this client's private key, not encrypted, and its certificate chain.",
        |o, v| o.client.security.tls.keystore_location = Some(v.text()),
    ),
    row(
        "ssl.keystore.key",
        "",
        SecretText,
        "This client's private key, not encrypted, as PEM text.",
        |o, v| o.client.security.tls.keystore_key = Some(v.secret()),
    ),
    row(
        "ssl.keystore.certificate.chain",
        "",
        Text,
        "This client's certificate chain, as PEM text.",
        |o, v| o.client.security.tls.keystore_certificate_chain = Some(v.text()),
    ),
    row(
        "ssl.endpoint.identification.algorithm",
        "https",
        OneOf(&["https", ""]),
        "Whether a broker's certificate must carry the host name by which it is reached.",
        |o, v| o.client.security.tls.verify_host = v.text == "https",
    ),
    row(
        "ssl.enabled.protocols",
        "TLSv1.2,TLSv1.3",
        TlsVersions,
        "The versions of TLS that may be spoken.",
        |o, v| {
            let versions = v.list();
            o.client.security.tls.tls12 = versions.iter().any(|version| version == "TLSv1.2");
            o.client.security.tls.tls13 = versions.iter().any(|version| version == "TLSv1.3");
        },
    ),
    row(
        "sasl.mechanism",
        "",
        OneOf(Mechanism::NAMES),
        "How this client authenticates. Java's default, GSSAPI, is not supported.",
        |o, v| o.client.security.sasl.mechanism = Mechanism::parse(v.text),
    ),
    row(
        "sasl.jaas.config",
        "",
        Jaas,
        "Name and password, or the options of OAUTHBEARER, as Java's clients take them.",
        |o, v| o.client.security.sasl.jaas = Login::parse(v.text),
    ),
    row(
        "sasl.username",
        "",
        Text,
        "The name for PLAIN and SCRAM, as librdkafka takes it.",
        |o, v| o.client.security.sasl.username = Some(v.text()),
    ),
    row(
        "sasl.password",
        "",
        SecretText,
        "The password for PLAIN and SCRAM, as librdkafka takes it.",
        |o, v| o.client.security.sasl.password = Some(v.secret()),
    ),
    row(
        "sasl.oauthbearer.token.endpoint.url",
        "",
        Text,
        "Where OIDC's client credentials flow gets its tokens.",
        |o, v| o.client.security.sasl.endpoint = Some(v.text()),
    ),
    row(
        "sasl.oauthbearer.client.credentials.client.id",
        "",
        Text,
        "The client's id at the token endpoint.",
        |o, v| o.client.security.sasl.client_id = Some(v.text()),
    ),
    row(
        "sasl.oauthbearer.client.credentials.client.secret",
        "",
        SecretText,
        "The client's secret at the token endpoint.",
        |o, v| o.client.security.sasl.client_secret = Some(v.secret()),
    ),
    row(
        "sasl.oauthbearer.scope",
        "",
        Text,
        "The scope that is asked for at the token endpoint.",
        |o, v| o.client.security.sasl.scope = Some(v.text()),
    ),
];

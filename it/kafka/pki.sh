#!/bin/sh
# pki.sh DIR: keys for the suite of secure connections, PEM only. An authority with identities for a
# server at 127.0.0.1 (one of them expired, one for another name) and a client, and an authority that
# nobody trusts, with a client of its own. NAME.both.pem is a key store: the PKCS#8 key, then the chain.
# And RSA keys to sign tokens with: the issuer's, whose modulus stands in a file, and another's.
set -eu
mkdir -p "$1"
cd "$1"

key() { openssl genpkey -quiet -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1.key"; }

authority() { # name
  key "$1"
  openssl req -x509 -new -key "$1.key" -days 3650 -subj "/CN=$1" -out "$1.pem" \
    -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign
}

identity() { # name, authority, days, subject, extensions
  key "$1"
  openssl req -new -key "$1.key" -subj "$4" -out "$1.csr"
  printf '%s\nbasicConstraints=CA:FALSE\n' "$5" >"$1.ext"
  openssl x509 -req -in "$1.csr" -CA "$2.pem" -CAkey "$2.key" -CAcreateserial -days "$3" \
    -extfile "$1.ext" -out "$1.pem" 2>/dev/null
  cat "$1.key" "$1.pem" >"$1.both.pem"
}

here='subjectAltName=IP:127.0.0.1,DNS:localhost
extendedKeyUsage=serverAuth,clientAuth'
elsewhere='subjectAltName=DNS:elsewhere.invalid
extendedKeyUsage=serverAuth'

authority trusted
authority unknown
identity server trusted 3650 /CN=localhost "$here"
identity expired trusted -1 /CN=localhost "$here"
identity wronghost trusted 3650 /CN=elsewhere "$elsewhere"
identity client trusted 3650 /O=tidewatch/CN=collector extendedKeyUsage=clientAuth
identity stranger unknown 3650 /CN=stranger extendedKeyUsage=clientAuth

for signer in issuer forger; do
  openssl genpkey -quiet -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out "$signer.key"
done
openssl rsa -in issuer.key -noout -modulus -out issuer.modulus

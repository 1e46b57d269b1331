# shellcheck shell=bash
# make_certificate DIRECTORY: certificate.pem and key.pem for localhost and 127.0.0.1, ECDSA P-256, signed by nobody else. To be
# read by other scripts.
make_certificate() {
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 -subj /CN=localhost \
    -addext subjectAltName=DNS:localhost,IP:127.0.0.1 -addext basicConstraints=critical,CA:FALSE \
    -keyout "$1/key.pem" -out "$1/certificate.pem" 2>"$1/openssl.log"
  chmod 600 "$1/key.pem"
}

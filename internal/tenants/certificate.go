package tenants

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"
)

const (
	fileCert = "server.crt"
	fileKey  = "server.key"
	dirTLS   = "tls"

	certLife  = 397 * 24 * time.Hour // What browsers take at most, and a year with some days to notice.
	certSpare = 30 * 24 * time.Hour  // One that ends sooner is made anew.
)

// CertFile and CertKeyFile are where SelfSign writes. Clients check the server by the first.
func (d Dir) CertFile() string    { return filepath.Join(d.path, dirTLS, fileCert) }
func (d Dir) CertKeyFile() string { return filepath.Join(d.path, dirTLS, fileKey) }

// SelfSign makes a certificate for the server's names and addresses, signed by itself: whoever has it as the authority that they trust
// knows the server, and nobody else can make another that they trust. One that is there stays, unless it is for others or ends soon.
func (d Dir) SelfSign(names []string, now time.Time) error {
	unlock, err := d.lock(true)
	if err != nil {
		return err
	}
	defer unlock()
	if certIsGood(d.CertFile(), d.CertKeyFile(), names, now) {
		return nil
	}
	if err := os.MkdirAll(filepath.Join(d.path, dirTLS), 0o700); err != nil {
		return err
	}
	cert, key, err := selfSigned(names, now)
	if err != nil {
		return fmt.Errorf("make a certificate for %q: %w", names, err)
	}
	defer clear(key)
	// The certificate is removed first: a pair that does not match is never taken for a good one.
	if err := os.Remove(d.CertFile()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := writeFile(d.CertKeyFile(), key); err != nil {
		return err
	}
	return writeFile(d.CertFile(), cert)
}

// certIsGood reports whether the certificate that is there may stay.
func certIsGood(certFile, keyFile string, names []string, now time.Time) bool {
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil || now.Add(certSpare).After(pair.Leaf.NotAfter) {
		return false
	}
	return !slices.ContainsFunc(names, func(name string) bool { return pair.Leaf.VerifyHostname(name) != nil })
}

// selfSigned returns a certificate and its key, in PEM.
func selfSigned(names []string, now time.Time) (cert, key []byte, err error) {
	if len(names) == 0 {
		return nil, nil, errors.New("it needs a name")
	}
	pair, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, nil, err
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "Hersh's NATS server"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(certLife), // An hour for clocks that differ.
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true, IsCA: true, MaxPathLenZero: true, // An authority for itself only.
	}
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &pair.PublicKey, pair)
	if err != nil {
		return nil, nil, err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(pair)
	if err != nil {
		return nil, nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}), nil
}

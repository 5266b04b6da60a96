package config_test

import (
	"crypto/sha256"
	"reflect"
	"strings"
	"testing"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/config"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/tlsopts"
)

func TestFolderReadsEveryKey(t *testing.T) {
	t.Parallel()
	got, err := config.ParseFolder("/certs/a.example/tls.yaml", []byte(`
profile: legacy
min_version: TLSv1
max_version: TLSv1.2
ciphers: HIGH
honor_cipher_order: false
curves: [P-256]
alpn: [smtp]
ocsp_stapling: off
client_auth: {mode: require, pins: ["sha256/47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="]}
passphrase_file: ../passphrase
`))
	if err != nil {
		t.Fatal(err)
	}
	want := &config.Folder{
		Profile: tlsopts.Legacy, MinVersion: tlsopts.TLS10, MaxVersion: tlsopts.TLS12, Ciphers: "HIGH",
		HonorCipherOrder: tlsopts.ClientOrder, Curves: "P-256", ALPN: "smtp", Stapling: config.StaplingOff,
		ClientAuth: config.FolderClientAuth{Mode: tlsopts.ClientAuthRequire, Pins: []tlsopts.Pin{sha256.Sum256(nil)}},
		Passphrase: "../passphrase",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
	if got.PassphraseFile() != "../passphrase" || got.Options().Ciphers != "HIGH" {
		t.Error("what the folder says does not come through")
	}
}

func TestFolderThatSetsNothing(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "# nothing\n", "{}\n", "ciphers:\n"} {
		if got, err := config.ParseFolder("tls.yaml", []byte(text)); err != nil || !reflect.DeepEqual(got, &config.Folder{}) {
			t.Errorf("%q: got %+v and %v", text, got, err)
		}
	}
}

func TestFolderFaults(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ text, want string }{
		{"ciphres: HIGH\n", `tls.yaml:1:1: unknown key "ciphres": did you mean "ciphers"?`},
		{"profile: modern\nmin_version: TLSv1.4\n", `tls.yaml:2:14: "TLSv1.4" is not a TLS version`},
		{"min_version: TLSv1.3\nmax_version: TLSv1.2\n", "tls.yaml:1: min_version TLSv1.3 is above max_version TLSv1.2"},
		{"session_tickets: {}\n", `tls.yaml:1:1: unknown key "session_tickets": the keys here are profile, min_version`},
		{"- a\n", "tls.yaml:1:1: want keys with values, found a list"},
		{"a: [\n", "not valid YAML"},
		{"\xff", "not UTF-8 text"},
	} {
		_, err := config.ParseFolder("tls.yaml", []byte(test.text))
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%q: got %v, want %s", test.text, err, test.want)
		}
	}
}

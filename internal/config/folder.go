package config

import (
	"github.com/smtp-tlsproxy/smtp-tlsproxy/tlsopts"
)

// Folder is the tls.yaml of a certificate folder: what of the tls group is
// otherwise for its domain. What is not set is as the listener has it.
type Folder struct {
	Profile          tlsopts.Profile     `yaml:"profile"`
	MinVersion       tlsopts.Version     `yaml:"min_version"`
	MaxVersion       tlsopts.Version     `yaml:"max_version"`
	Ciphers          tlsopts.Ciphers     `yaml:"ciphers"`
	HonorCipherOrder tlsopts.CipherOrder `yaml:"honor_cipher_order"`
	Curves           tlsopts.Curves      `yaml:"curves"`
	ALPN             tlsopts.ALPN        `yaml:"alpn"`
	// Stapling is empty where the folder leaves it to the listener.
	Stapling Stapling `yaml:"ocsp_stapling"`
	// ClientAuth has an empty Mode where the folder leaves it to the listener.
	ClientAuth FolderClientAuth `yaml:"client_auth"`
	// Passphrase is the file with the passphrase of the folder's keys; empty
	// is the file "passphrase" in it, if there is one.
	Passphrase string `yaml:"passphrase_file"`
}

// FolderClientAuth is the client_auth group of a folder. Its authorities are
// those of the folder's ca.pem, or else the listener's.
type FolderClientAuth struct {
	Mode tlsopts.ClientAuthMode `yaml:"mode"`
	Pins []tlsopts.Pin          `yaml:"pins"`
}

// ParseFolder checks the content of a folder's tls.yaml. An empty file sets
// nothing. An error is always of type [Faults].
func ParseFolder(file string, data []byte) (*Folder, error) {
	if line, text := unreadable(data); text != "" {
		return nil, Faults{{File: file, Line: line, Text: text}}
	}
	s := &source{file: file, origins: make(map[any]origin)}
	folder := &Folder{}
	if s.decode(data, folder) {
		// What only the listener can tell, such as a version above its
		// highest, shows where the two meet.
		if _, err := folder.Options().Config(); err != nil {
			s.report(origin{line: 1}, "%v", err)
		}
	}
	if len(s.faults) > 0 {
		s.faults.sort()
		return nil, s.faults
	}
	return folder, nil
}

// Options are the part of f that package tlsopts resolves, to be merged over
// those of a listener.
func (f *Folder) Options() tlsopts.Options {
	return tlsopts.Options{
		Profile: f.Profile, MinVersion: f.MinVersion, MaxVersion: f.MaxVersion, Ciphers: f.Ciphers,
		HonorCipherOrder: f.HonorCipherOrder, Curves: f.Curves, ALPN: f.ALPN,
	}
}

// PassphraseFile names the file with the passphrase of the keys.
func (f *Folder) PassphraseFile() string { return f.Passphrase }

package main

import (
	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/config"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/proxy"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/sni"
)

// folder is what the tls.yaml of a certificate folder says, as packages sni and
// proxy ask for it.
type folder struct{ *config.Folder }

// readFolder is for sni.Options.FolderOptions.
func readFolder(path string, data []byte) (any, error) {
	f, err := config.ParseFolder(path, data)
	if err != nil {
		return nil, err
	}
	return folder{f}, nil
}

// OCSPStapling tells package sni whether to staple.
func (f folder) OCSPStapling() sni.OCSP { return stapling(f.Stapling) }

// Override tells package proxy what is otherwise than on the listener.
func (f folder) Override() proxy.Override {
	return proxy.Override{TLS: f.Options(), ClientAuthMode: f.ClientAuth.Mode, ClientAuthPins: f.ClientAuth.Pins, Staple: f.Stapling == config.StaplingAuto}
}

package config

import (
	"maps"
	"net"
	"slices"
)

// Preset is a mail server by name, and stands for how it wants to be told of
// clients.
type Preset string

// PresetGeneric is for servers without a preset of their own.
const PresetGeneric Preset = "generic"

// told is how a server is told of clients: client_info, proxy_tlvs and
// max_header_bytes.
type told struct {
	info     ClientInfo
	maxBytes int
}

// presets have what was measured, or read in the servers' sources: the most
// bytes of a version 2 header that each takes, or that it reads version 1 only.
var presets = map[Preset]told{
	PresetGeneric: {ClientInfoProxyV2, 232}, // what the strictest takes
	"postfix":     {ClientInfoProxyV2, 536},
	"exim":        {ClientInfoProxyV2, 232},
	"dovecot":     {ClientInfoProxyV2, 1500},
	"opensmtpd":   {ClientInfoProxyV2, 4096},
	"stalwart":    {ClientInfoProxyV2, 536},
	"haraka":      {ClientInfoProxyV1, 0},
	"smtp-server": {ClientInfoProxyV1, 0},
	"chasquid":    {ClientInfoProxyV1, 0},
}

// UnmarshalText reads the name of a preset.
func (p *Preset) UnmarshalText(text []byte) error {
	return oneOf(p, text, "a preset", slices.Sorted(maps.Keys(presets))...)
}

var defaultProxyTLVs = []string{"ssl", "authority", "unique_id", "crc32c"}

// completeBackend fills in what the file leaves to the preset, and to others.
func (s *source) completeBackend(b *Backend) {
	if b.Preset == "" {
		b.Preset = PresetGeneric
	}
	preset := presets[b.Preset]
	if !s.isSet(&b.ClientInfo) {
		b.ClientInfo = preset.info
	}
	if b.ClientInfo == ClientInfoProxyV2 {
		if !s.isSet(&b.ProxyTLVs) {
			b.ProxyTLVs = slices.Clone(defaultProxyTLVs)
		}
		if !s.isSet(&b.MaxHeaderBytes) {
			b.MaxHeaderBytes = preset.maxBytes
		}
		if b.MaxHeaderBytes == 0 && !s.isSet(&b.MaxHeaderBytes) { // version 2 to a server that reads version 1
			b.MaxHeaderBytes = presets[PresetGeneric].maxBytes
		}
	}
	t := &b.TLS
	if t.Mode == "" {
		t.Mode = BackendTLSNone
	}
	if t.Mode != BackendTLSNone && !s.isSet(&t.ServerName) && (t.CA != "" || len(t.Pins) == 0) {
		t.ServerName = hostInCommon(b.Addresses)
	}
	for _, file := range []*string{&t.CA, &t.Certificate, &t.Key} {
		s.resolve(file)
	}
}

// hostInCommon is the host of all addresses, "" if they have several or none.
func hostInCommon(addresses []string) (host string) {
	for i, address := range addresses {
		this, _, err := net.SplitHostPort(address)
		if err != nil || i > 0 && this != host {
			return ""
		}
		host = this
	}
	return host
}

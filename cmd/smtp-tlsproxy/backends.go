package main

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/config"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/proxy"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/tlsopts"
)

// backendsOf turns the backends of a configuration into what package proxy
// connects to, and reads the files that they name.
func backendsOf(cfg *config.Config) (map[string]proxy.Backend, error) {
	backends := make(map[string]proxy.Backend)
	var faults config.Faults
	for _, name := range slices.Sorted(maps.Keys(cfg.Backends)) {
		b := cfg.Backends[name]
		secured, fault := backendTLSOf(cfg, b)
		faults = append(faults, fault...)
		backends[name] = proxy.Backend{
			Name:           name,
			Addresses:      b.Addresses,
			ConnectTimeout: cfg.Timeouts.Connect,
			ClientInfo:     proxy.ClientInfo(b.ClientInfo),
			ProxyTLVs:      b.ProxyTLVs,
			MaxHeaderBytes: b.MaxHeaderBytes,
			TLS:            secured,
			TraceHeader:    b.TraceHeader,
			Balance:        proxy.Balance(b.Balance),
			HealthCheck:    proxy.HealthCheck(b.HealthCheck),
		}
	}
	if len(faults) > 0 {
		return nil, faults
	}
	return backends, nil
}

var backendTLSModes = map[config.BackendTLSMode]proxy.BackendTLSMode{
	config.BackendTLSNone:     proxy.PlainText,
	config.BackendTLSSTARTTLS: proxy.BackendSTARTTLS,
	config.BackendTLSImplicit: proxy.BackendImplicit,
}

func backendTLSOf(cfg *config.Config, b *config.Backend) (proxy.BackendTLS, config.Faults) {
	from := &b.TLS
	to := proxy.BackendTLS{Mode: backendTLSModes[from.Mode], Auth: tlsopts.ServerAuth{ServerName: from.ServerName, Pins: from.Pins}}
	if from.Mode == config.BackendTLSNone {
		return to, nil
	}
	var faults config.Faults
	fault := func(field *string, err error) {
		faults = append(faults, cfg.FaultAt(field, err.Error()))
	}
	if from.CA != "" {
		data, err := os.ReadFile(from.CA)
		if err == nil {
			to.Auth.CA, err = tlsopts.ParseAuthorities(data)
		}
		if err != nil {
			fault(&from.CA, fmt.Errorf("tls.ca: %s: %w", from.CA, withoutPath(err)))
		}
	}
	if from.Certificate == "" {
		return to, faults
	}
	chain, err := os.ReadFile(from.Certificate)
	if err != nil {
		fault(&from.Certificate, fmt.Errorf("tls.certificate: %s: %w", from.Certificate, withoutPath(err)))
		return to, faults
	}
	key, err := os.ReadFile(from.Key)
	if err != nil {
		fault(&from.Key, fmt.Errorf("tls.key: %s: %w", from.Key, withoutPath(err)))
		return to, faults
	}
	if to.Certificate, err = tlsopts.ParsePair(chain, key); err != nil {
		fault(&from.Certificate, fmt.Errorf("tls.certificate: %s with %s: %w", from.Certificate, from.Key, err))
	}
	return to, faults
}

// withoutPath is the cause of a failure to read a file, whose path stands
// before it already.
func withoutPath(err error) error {
	if failed, ok := errors.AsType[*os.PathError](err); ok {
		return failed.Err
	}
	return err
}

// routesOf are the routes, which all listeners share.
func routesOf(cfg *config.Config, backends map[string]proxy.Backend) []proxy.Route {
	var routes []proxy.Route
	for _, r := range cfg.Routes {
		routes = append(routes, proxy.Route{ServerNames: r.ServerNames, Backend: backends[r.Backend]})
	}
	return routes
}

// filesOfBackends are the fields that name a file.
func filesOfBackends(cfg *config.Config) (fields []*string) {
	for _, name := range slices.Sorted(maps.Keys(cfg.Backends)) {
		b := cfg.Backends[name]
		for _, field := range []*string{&b.TLS.CA, &b.TLS.Certificate, &b.TLS.Key} {
			if *field != "" {
				fields = append(fields, field)
			}
		}
	}
	return fields
}

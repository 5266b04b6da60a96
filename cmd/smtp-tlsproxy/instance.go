package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/admin"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/config"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/metrics"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/proxy"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/starttls"
)

// instance is the running program: what a configuration became. Its methods
// are called one at a time, but for ready, status and drain.
type instance struct {
	log                *logging
	registry           *prometheus.Registry
	process            *metrics.Process
	certificateMetrics *metrics.Certificates
	proxyMetrics       *proxy.Metrics
	recent             metrics.Recent
	began              time.Time

	config       *config.Config
	certificates *certificates
	secrets      *secrets
	digestOf     func(file string) digest // for files
	files        *follower
	sockets      inherited
	server       *proxy.Server
	admin        *adminServer
	started      atomic.Bool // clients are served
	draining     atomic.Bool
	shown        atomic.Pointer[shown]   // what is in force, for the pages of the admin address
	refused      atomic.Pointer[refusal] // nil if the last reload was not
	confined     atomic.Pointer[confinement]
}

func newInstance(log *logging) *instance {
	registry := prometheus.NewRegistry()
	return &instance{
		log:                log,
		began:              time.Now(),
		digestOf:           digestOf,
		registry:           registry,
		process:            metrics.NewProcess(registry, build()),
		certificateMetrics: metrics.NewCertificates(registry),
		proxyMetrics:       proxy.NewMetrics(registry),
	}
}

// apply puts a configuration into force, whole or not at all: the first one
// and each reload go the same way.
func (i *instance) apply(cfg *config.Config) (err error) {
	certs, admin := i.certificates, i.admin
	secrets, err := openSecrets(cfg, i.secrets, i.log)
	defer func() {
		if err != nil { // give back what was opened in vain
			secrets.closeBut(i.secrets)
			if certs != nil && certs != i.certificates && certs.Store != nil {
				_ = certs.Close()
			}
			if admin != nil && admin != i.admin {
				admin.close()
			}
		}
	}()
	if err != nil {
		return err
	}
	if certs == nil || certs.from != directoryOf(cfg) {
		if certs, err = openCertificates(directoryOf(cfg), i); err != nil {
			return err
		}
	}
	if admin == nil || admin.from != cfg.Admin {
		if admin, err = i.openAdmin(cfg.Admin); err != nil {
			return err
		}
	}
	listeners, err := i.listenersOf(cfg, certs, secrets)
	if err != nil {
		return err
	}
	if i.server == nil {
		i.server, err = proxy.Listen(proxy.Config{
			Listeners: listeners, Limits: limitsOf(cfg), Metrics: i.proxyMetrics, Logger: i.log.Logger,
		})
	} else if err = i.server.Reload(listeners); err == nil {
		i.server.SetLimits(limitsOf(cfg))
	}
	if err != nil {
		return err
	}
	i.secrets.closeBut(secrets)
	i.secrets = secrets
	i.secrets.renew(i.log)
	i.adopt(cfg, certs, admin)
	return nil
}

// adopt makes what apply opened the instance's own. Nothing can fail any more.
func (i *instance) adopt(cfg *config.Config, certs *certificates, admin *adminServer) {
	i.log.follow(cfg.Log)
	i.config = cfg
	certs.ForgetConfigs() // those of listeners that are no more
	if certs != i.certificates {
		certs.takeOver(i.certificates)
		i.certificates = certs
	}
	if admin != i.admin {
		if i.admin != nil {
			i.admin.close()
		}
		i.admin = admin
		admin.serve(i.log)
	}
	i.process.ConfigLoaded()
	i.show()
	i.tell(cfg)
}

// tell logs what is in force, at the start and after each reload.
func (i *instance) tell(cfg *config.Config) {
	i.log.Info("configuration in force", "certificates", cfg.Certificates.Directory, "admin", cfg.Admin.Address)
	if text := fewDescriptors(cfg.Limits.Connections, openFiles()); text != "" {
		i.log.Warn(text)
	}
	i.sockets.warnUnused(cfg, i.log)
	for _, path := range slices.Sorted(maps.Keys(i.secrets.keyLogs)) {
		i.log.Warn("the secrets of every session go into a file: who can read it can read all mail", "key_log_file", path)
	}
	for _, l := range cfg.Listeners {
		attributes := []any{"listener", l.Name, "address", i.server.Addr(l.Name).String(), "mode", string(l.Mode)}
		if l.STARTTLS != "" {
			attributes = append(attributes, "starttls", string(l.STARTTLS))
		}
		if trusted := trustedOf(l); trusted != nil {
			attributes = append(attributes, "proxy_protocol_trusted", trusted)
		}
		b := cfg.Backends[l.Backend]
		attributes = append(attributes, "min_version", l.TLS.MinVersion.String(), "backend", l.Backend,
			"backend_addresses", b.Addresses, "client_info", string(b.ClientInfo))
		i.log.Info("listening", attributes...)
	}
	for _, r := range cfg.Routes {
		i.log.Info("route", "server_names", r.ServerNames, "backend", r.Backend,
			"backend_addresses", cfg.Backends[r.Backend].Addresses, "client_info", string(cfg.Backends[r.Backend].ClientInfo))
	}
	for _, name := range slices.Sorted(maps.Keys(cfg.Backends)) {
		if cfg.Backends[name].ClientInfo == config.ClientInfoNone {
			i.log.Warn("the backend takes every client for the proxy itself: its address must not be one that it relays for", "backend", name)
		}
	}
}

// reload reads the configuration file and the certificates anew. A fault
// leaves everything as it was; once a file is changed that it names, it is read
// again.
func (i *instance) reload(from source) {
	i.files.look()
	cfg, err := from.load()
	if err == nil {
		i.files.use(filesOf(from, cfg), cfg.Certificates.Rescan)
		err = i.permits(cfg)
	}
	if err == nil {
		served := i.certificates
		if err = i.apply(cfg); err == nil && i.certificates == served {
			// What is wrong with single folders was told by their events, and
			// their last good certificates stay.
			_ = i.certificates.Reload(context.Background())
		}
	}
	if i.draining.Load() {
		return // it has no meaning any more
	}
	if err != nil {
		i.process.ConfigFailed()
		text := err.Error() + i.whyNotBound(err)
		i.refused.Store(&refusal{time.Now(), text})
		i.log.Error("configuration refused; the one before it stays in force", "file", from.String(), "error", text)
		return
	}
	i.refused.Store(nil)
	i.log.Info("configuration reloaded", "file", from.String())
}

// reloadChanged reloads where the files are not what they were when they were
// read, as they are where a SIGHUP came before the notification.
func (i *instance) reloadChanged(from source) {
	if i.files.differs() {
		i.log.Info("the configuration was changed", "file", from.String())
		i.reload(from)
	}
}

// ready tells why no client should be sent here now, for /readyz.
func (i *instance) ready() error {
	shown := i.shown.Load()
	switch {
	case i.draining.Load():
		return errors.New("shutting down")
	case shown == nil || !i.started.Load():
		return errors.New("starting")
	case !shown.certificates.Usable():
		return errors.New("no certificate can be served")
	case shown.config.Admin.ReadyNeedsBackend:
		return i.server.BackendsUp()
	}
	return nil
}

// close ends what apply began.
func (i *instance) close() {
	if i.server != nil {
		_ = i.server.Close()
	}
	if i.admin != nil {
		i.admin.close()
	}
	if i.certificates != nil {
		_ = i.certificates.Close()
	}
	i.secrets.closeBut(nil)
}

// listenersOf turns the configuration into what package proxy serves.
func (i *instance) listenersOf(cfg *config.Config, certs *certificates, secrets *secrets) ([]proxy.Listener, error) {
	backends, err := backendsOf(cfg)
	if err != nil {
		return nil, err
	}
	var listeners []proxy.Listener
	for _, l := range cfg.Listeners {
		clientAuth, err := clientAuthOf(l.TLS.ClientAuth)
		if err != nil {
			return nil, fmt.Errorf("listener %s: client_auth: %w", l.Name, err)
		}
		listeners = append(listeners, proxy.Listener{
			Name:             l.Name,
			Address:          l.Address,
			Open:             i.sockets.opener(l.Address),
			Mode:             modes[l.Mode],
			TrustedProxies:   trustedOf(l),
			STARTTLS:         policies[l.STARTTLS],
			TLS:              l.TLS.Options(),
			ClientAuth:       clientAuth,
			Tickets:          secrets.ticketsOf(l.TLS.SessionTickets),
			TicketContext:    l.TLS.SessionTickets.Context,
			KeyLog:           secrets.keyLogOf(l.TLS.KeyLogFile),
			NoStapling:       l.TLS.Stapling == config.StaplingOff,
			Certificates:     certs.Store,
			RejectUnknownSNI: l.TLS.UnknownSNI == config.UnknownSNIReject,
			HandshakeTimeout: l.TLS.HandshakeTimeout,
			Hostname:         hostname(l),
			AsBackend:        l.Hostname == "",
			GreetDelay:       l.GreetDelay,
			MaxPlainCommands: cfg.Limits.PreTLSCommands,
			MaxPlainErrors:   cfg.Limits.PreTLSErrors,
			Timeouts: proxy.Timeouts{
				PlainIdle: cfg.Timeouts.PreTLSIdle,
				Greeting:  cfg.Timeouts.Greeting,
				RelayIdle: cfg.Timeouts.RelayIdle,
				HalfClose: cfg.Timeouts.HalfClose,
			},
			Backend: backends[l.Backend],
			Routes:  routesOf(cfg, backends),
		})
	}
	return listeners, nil
}

// trustedOf are the load balancers in front of a listener; nil is none.
func trustedOf(l config.Listener) []netip.Prefix {
	var trusted []netip.Prefix
	for _, r := range l.ProxyProtocol.Trusted {
		trusted = append(trusted, r.Prefix)
	}
	return trusted
}

var modes = map[config.Mode]proxy.Mode{
	config.ModeImplicitTLS: proxy.ModeImplicitTLS,
	config.ModeSTARTTLS:    proxy.ModeSTARTTLS,
}

var policies = map[config.STARTTLS]starttls.Policy{
	config.STARTTLSRequired: starttls.Required,
	config.STARTTLSOptional: starttls.Optional,
}

func limitsOf(cfg *config.Config) proxy.Limits {
	return proxy.Limits{
		Connections:                  cfg.Limits.Connections,
		ConnectionsPerClient:         cfg.Limits.ConnectionsPerClient,
		HandshakesPerSecondPerClient: cfg.Limits.HandshakeRate,
		ConcurrentHandshakes:         cfg.Limits.ConcurrentHandshakes,
	}
}

// hostname is the name in replies of ours.
func hostname(l config.Listener) string {
	if l.Hostname != "" {
		return l.Hostname
	}
	name, err := os.Hostname()
	if err != nil || name == "" {
		return "localhost"
	}
	return name
}

// adminServer serves the admin address, or nothing if that is off.
type adminServer struct {
	from      config.Admin
	listeners []net.Listener
	server    *admin.Server
}

func (i *instance) openAdmin(from config.Admin) (*adminServer, error) {
	a := &adminServer{from: from}
	if from.Address == config.AdminOff {
		return a, nil
	}
	var err error
	if a.listeners, err = i.sockets.listen("admin", from.Address); err != nil {
		return nil, err
	}
	a.server = admin.NewServer(admin.Config{
		Gatherer: i.registry, Ready: i.ready, Status: i.status, Pprof: from.Pprof, Logger: i.log.Logger,
	})
	return a, nil
}

func (a *adminServer) serve(log *logging) {
	if a.server == nil {
		return
	}
	for _, l := range a.listeners {
		go func() {
			if err := a.server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
				log.Error("admin address: no metrics are served any more", "address", l.Addr().String(), "error", err)
			}
		}()
	}
}

func (a *adminServer) close() {
	if a.server == nil {
		return
	}
	_ = a.server.Close()
	for _, l := range a.listeners {
		_ = l.Close() // where it was never served
	}
}

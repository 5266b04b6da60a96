// Package proxy is the server: it accepts mail clients, takes TLS off their
// connections and gives plain SMTP to a backend, with a PROXY protocol header
// that tells who the client is.
//
// [Listen] binds every address of a [Config], [Server.Serve] accepts clients,
// [Server.Reload] changes the configuration while sessions go on with the one
// that they began with, [Server.Shutdown] lets them finish and [Server.Close]
// does not. All of them may be called from any goroutine.
//
// A session's life is session.run: the plain phase on a STARTTLS port, the
// handshake, the backend, the relay. A panic in one ends that one alone.
//
// The package reads no configuration file, serves no metrics, and neither
// obtains nor chooses certificates: package sni does the latter.
package proxy

// Package starttls is the SMTP that a TLS-terminating proxy speaks.
//
//   - [Server] performs the plain phase of a session on a connection from a
//     client, from the greeting to the 220 that answers STARTTLS (RFC 3207).
//     The caller then does the handshake. Where TLS is optional, the client may
//     go on without: Negotiate returns a [Plaintext].
//   - [ReadGreeting] takes a backend's greeting off a fresh connection, so
//     that nothing said before TLS comes to the backend and no client byte
//     precedes the greeting. For a client in plain text, Plaintext.Replay then
//     says its EHLO to the backend.
//   - [Filter] then relays between the two: byte for byte, but for what a
//     proxy must keep from passing, such as a second STARTTLS, or the XCLIENT
//     with which a client would say who it is in the proxy's name. In plain
//     text it ends with [ErrSTARTTLS] when the client asks for TLS after all:
//     the caller closes the backend's connection, does the handshake, and
//     begins with a fresh connection and a new Filter. With a [Trace] it tells
//     of TLS in a header of each message.
//   - [Probe] asks a backend on a connection of its own for its [Identity],
//     with which a Server presents itself as the backend would.
//
// With implicit TLS there is no plain phase, and the client gets the backend's
// greeting.
//
// A Server may serve any number of sessions at a time; a Plaintext and a Filter
// belong to one session and one backend connection. Each function returns when
// its phase ends, from the goroutine that called it.
//
// The package knows no configuration, log or metric, never starts TLS, dials
// nothing and never closes a connection: the caller does. What it returns says
// why a phase ended. It does not repair, and does not judge mail: a backend
// that takes LF "." LF for the end of a message has to be mended itself.
package starttls

// Package starttls is the SMTP that a TLS-terminating proxy speaks.
//
//   - [Server] performs the plain phase of a session on a connection from a
//     client, from the greeting to the 220 that answers STARTTLS (RFC 3207).
//     The caller then does the handshake.
//   - [ReadGreeting] takes a backend's greeting off a fresh connection, so
//     that nothing said before TLS comes to the backend and no client byte
//     precedes the greeting.
//   - [Filter] then relays between the two: byte for byte, but for what a
//     proxy must keep from passing, such as a second STARTTLS, or the XCLIENT
//     with which a client would say who it is in the proxy's name.
//
// With implicit TLS there is no plain phase, and the client gets the backend's
// greeting.
//
// The package knows no configuration, log or metric, never starts TLS, dials
// nothing and never closes a connection: the caller does. What it returns says
// why a phase ended. It does not repair, and does not judge mail: a backend
// that takes LF "." LF for the end of a message has to be mended itself.
package starttls

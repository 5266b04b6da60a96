// Package starttls is the SMTP that a TLS-terminating proxy speaks.
//
// [Server] performs the plain phase of a session on a connection from a
// client, from the greeting to the 220 that answers STARTTLS (RFC 3207).
// [ReadGreeting] takes a backend's greeting off a fresh connection.
// [Filter] then relays between the two: byte for byte, but for what a proxy
// must keep from passing, such as a second STARTTLS.
//
// The package knows no configuration, log or metric, never starts TLS and
// never closes a connection: the caller does. What it returns says why a
// phase ended.
package starttls

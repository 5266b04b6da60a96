package starttls

import (
	"slices"
	"strings"
)

// httpMethods are those with which a cross-protocol attack begins (ALPACA).
var httpMethods = []string{"GET", "POST", "PUT", "HEAD", "OPTIONS", "CONNECT", "DELETE", "PATCH", "PRI", "TRACE"}

// isHTTP knows them by a verb in upper case.
func isHTTP(verb string) bool { return slices.Contains(httpMethods, verb) }

// StartsHTTP tells whether the first bytes that a client sent, where a
// ClientHello was due, are those of an HTTP request. There may be fewer than
// its method has.
func StartsHTTP(first []byte) bool {
	text := string(first)
	return text != "" && slices.ContainsFunc(httpMethods, func(method string) bool {
		return strings.HasPrefix(text, method+" ") || strings.HasPrefix(method+" ", text)
	})
}

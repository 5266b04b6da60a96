package starttls_test

import (
	"testing"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/starttls"
)

func TestStartsHTTP(t *testing.T) {
	for first, want := range map[string]bool{
		"GET /": true, "POST ": true, "OPTIO": true, "CONNE": true, "PRI *": true, "TRACE": true, "G": true, "GET / HTTP/1.1\r\n": true,
		"": false, "GETS ": false, "get /": false, "EHLO ": false, "OPTS ": false, "\x16\x03\x01\x00\x05": false,
	} {
		if got := starttls.StartsHTTP([]byte(first)); got != want {
			t.Errorf("%q: %t, want %t", first, got, want)
		}
	}
}

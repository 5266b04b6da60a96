package tlsopts_test

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/tlsopts"
)

// TestRemoteAlert: every number that a client can send is known again, by what
// crypto/tls really says of it.
func TestRemoteAlert(t *testing.T) {
	for n := range 256 {
		client, server := net.Pipe()
		done := make(chan error, 1)
		go func() {
			_, err := client.Write([]byte{21, 3, 3, 0, 2, 2, byte(n)}) // a fatal alert, RFC 8446 section 6
			client.Close()
			done <- err
		}()
		err := tls.Server(server, &tls.Config{}).Handshake()
		server.Close()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		alert, ok := tlsopts.RemoteAlert(fmt.Errorf("handshake: %w", err))
		switch {
		case n == 0 && errors.Is(err, io.EOF) && !ok: // close_notify is an end like any other
		case n == 0 || !ok || int(alert) != n:
			t.Errorf("alert %d is %v, found %v (%v)", n, alert, ok, err)
		}
	}
	for _, err := range []error{nil, io.EOF, &net.OpError{Op: "read", Err: tls.AlertError(42)}, &net.OpError{Op: "remote error"}, tls.AlertError(42)} {
		if alert, ok := tlsopts.RemoteAlert(err); ok {
			t.Errorf("%v is taken for the alert %v", err, alert)
		}
	}
}

func TestAlertNames(t *testing.T) {
	for n, want := range map[int]string{42: "bad_certificate", 48: "unknown_ca", 116: "certificate_required", 41: "alert_41", 255: "alert_255"} {
		if got := tlsopts.Alert(n).String(); got != want {
			t.Errorf("alert %d is %s, want %s", n, got, want)
		}
	}
	if n := len(tlsopts.Alerts()); n != 27 {
		t.Errorf("%d alerts, RFC 8446 section 6 has 27", n)
	}
}

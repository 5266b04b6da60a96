package tlsopts_test

import (
	"path/filepath"
	"testing"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/need"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/tlsopts"
)

// TestTicketsOfOpenSSL has the real s_client keep a session and come again
// with it, under the same name and under another.
func TestTicketsOfOpenSSL(t *testing.T) {
	need.Program(t, "openssl")
	clock := newClock()
	tickets := openTickets(t, tlsopts.TicketOptions{Time: clock.now})
	server := site{clock: clock, folders: []string{"default.example", "a.example", "b.example"}}.config(t, tickets)
	for _, version := range []string{"-tls1_2", "-tls1_3"} {
		session := filepath.Join(t.TempDir(), "session.pem")
		connect := func(args ...string) bool {
			t.Helper()
			state, err := serveOpenSSL(t, server, append([]string{version}, args...)...)
			noErr(t, err)
			return state.DidResume
		}
		if connect("-servername", "a.example", "-sess_out", session) {
			t.Errorf("%s: resumed out of nothing", version)
		}
		if !connect("-servername", "a.example", "-sess_in", session) {
			t.Errorf("%s: not resumed under the same name", version)
		}
		for _, name := range []string{"b.example", "unknown.example"} {
			if connect("-servername", name, "-sess_in", session) {
				t.Errorf("%s: resumed under %s", version, name)
			}
		}
		if connect("-noservername", "-sess_in", session) {
			t.Errorf("%s: resumed under no name", version)
		}
	}
}

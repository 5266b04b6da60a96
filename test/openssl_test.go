package test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

// talk has openssl s_client do a handshake and a short session: QUIT, the
// reply, and the end. It wants the session to succeed.
func talk(t testing.TB, to port, arguments ...string) result {
	t.Helper()
	need(t, "openssl")
	r := runFed(t, strings.NewReader("QUIT\r\n"), "openssl", sClientArguments(to, arguments)...)
	r.requireCode(t, 0)
	r.requireOutput(t, "\n221 ")
	return r
}

// refused wants openssl s_client to get that alert. In TLS 1.3 the one about
// the client's certificate comes when s_client thinks that it is through.
func refused(t testing.TB, to port, alert int, arguments ...string) result {
	t.Helper()
	need(t, "openssl")
	silence, hold, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer silence.Close()
	defer hold.Close()
	r := runFed(t, silence, "openssl", sClientArguments(to, arguments)...)
	if want := fmt.Sprintf("SSL alert number %d\n", alert); r.code == 0 || !strings.Contains(r.output, want) {
		t.Errorf("exit code %d, want a failure with %q, of: %s\n%s", r.code, want, r.command, indent(r.output))
	}
	return r
}

func sClientArguments(to port, arguments []string) []string {
	return slices.Concat([]string{"s_client", "-connect", to.address, "-ign_eof"}, to.openssl, arguments)
}

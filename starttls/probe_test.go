package starttls_test

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/starttls"
)

// script is a backend that says its segments one after the other, and then
// hangs up.
func script(segments ...string) (backend io.ReadWriter, heard *stream) {
	p := newPeer()
	for _, segment := range segments {
		p.out.Write([]byte(segment))
	}
	p.out.Close()
	return p.other(), p.in
}

func TestProbe(t *testing.T) {
	const greets, offers, bye = "220-mx\r\n220 ready\r\n", "250-mx.backend.example Hello you\r\n250-PIPELINING\r\n250-AUTH PLAIN\r\n250 SIZE 1000\r\n", "221 bye\r\n"
	tests := []struct {
		name     string
		segments []string
		step     string // where it fails; "" for nowhere
		code     int
		err      error
	}{
		{"all well", []string{greets, offers, bye}, "", 0, nil},
		{"in pieces", []string{"220", "-mx\r\n220 ready\r", "\n", offers[:30], offers[30:], "221", "\r\n"}, "", 0, nil},
		{"hangs up at QUIT", []string{greets, offers}, "", 0, nil},
		{"hangs up within 221", []string{greets, offers, "221 b"}, "", 0, nil},
		{"refuses QUIT", []string{greets, offers, "500 no\r\n"}, "QUIT", 500, nil},
		{"no reply to QUIT", []string{greets, offers, "bye\r\n"}, "QUIT", 0, nil},
		{"no service", []string{"554-no\r\n554 service\r\n"}, "greeting", 554, nil},
		{"no greeting", []string{"SSH-2.0-OpenSSH_9.2\r\n"}, "greeting", 0, starttls.ErrGreeting},
		{"hangs up at once", nil, "greeting", 0, io.EOF},
		{"refuses EHLO", []string{greets, "502 5.5.1 what\x00\x1b\r\n"}, "EHLO", 502, nil},
		{"354 to EHLO", []string{greets, "354 go\r\n"}, "EHLO", 354, nil},
		{"hangs up at EHLO", []string{greets}, "EHLO", 0, io.EOF},
		{"cut within EHLO", []string{greets, "250-mx\r\n"}, "EHLO", 0, io.ErrUnexpectedEOF},
		{"reply without end", []string{greets, strings.Repeat("250-SIZE\r\n", 7000)}, "EHLO", 0, starttls.ErrHello},
		{"two replies at once", []string{greets, offers + bye}, "EHLO", 0, starttls.ErrHello},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			backend, heard := script(test.segments...)
			identity, err := starttls.Probe(backend, "proxy.example")
			said := string(heard.take())
			if failed, ok := errors.AsType[*starttls.StepError](err); ok != (test.step != "") || ok &&
				(failed.Step != test.step || failed.Code != test.code || test.err != nil && !errors.Is(err, test.err)) {
				t.Errorf("the error is %v, want one at step %q with code %d and %v", err, test.step, test.code, test.err)
			}
			if strings.ContainsAny(fmt.Sprint(err), "\r\n\x1b\x00") {
				t.Errorf("the error has what a log must not: %q", err)
			}
			want := map[string]string{"greeting": "", "EHLO": "EHLO proxy.example\r\n"}
			if whole, short := want[test.step]; !short {
				whole = "EHLO proxy.example\r\nQUIT\r\n"
				if identity.Hostname != "mx.backend.example" || !slices.Equal(identity.Keywords, []string{"PIPELINING", "SIZE 1000"}) || said != whole {
					t.Errorf("%+v\nB< %q", identity, said)
				}
			} else if said != whole || identity.Hostname != "" || identity.Keywords != nil {
				t.Errorf("%+v\nB< %q", identity, said)
			}
		})
	}
}

func TestParseEHLO(t *testing.T) {
	tests := []struct {
		name  string
		reply string
		want  starttls.Identity
	}{
		{"usual", "250-mx.example.com\r\n250-SIZE 1000\r\n250-8BITMIME\r\n250 LIMITS RCPTMAX=10\r\n",
			starttls.Identity{Hostname: "mx.example.com", Keywords: []string{"SIZE 1000", "8BITMIME", "LIMITS RCPTMAX=10"}}},
		{"one line", "250 mx.example.com at your service\r\n", starttls.Identity{Hostname: "mx.example.com"}},
		{"name alone counts", "250 [192.0.2.1]\r\n", starttls.Identity{Hostname: "[192.0.2.1]"}},
		{"no name", "250-\r\n250 SIZE\r\n", starttls.Identity{Keywords: []string{"SIZE"}}},
		{"code alone", "250\r\n", starttls.Identity{}},
		{"name that is none", "250 <mx>\r\n", starttls.Identity{}},
		{"long name", "250 " + strings.Repeat("x", 256) + "\r\n", starttls.Identity{}},
		{"hidden", "250-mx\r\n250-STARTTLS\r\n250-auth PLAIN\r\n250-AUTH=PLAIN\r\n250-XClient NAME\r\n250-XFORWARD\r\n250 REQUIRETLS\r\n",
			starttls.Identity{Hostname: "mx"}},
		{"malformed", "250-mx\r\n250-\r\n250-S\xc3\x9cZE\r\n250-<x>\r\n250-A\x00B\r\n250-DSN \x1b[31m\r\n250-SIZE \xff\r\n250-  EXPN  \r\n250 X_Y\r\n",
			starttls.Identity{Hostname: "mx", Keywords: []string{"EXPN", "X_Y"}}},
		{"twice", "250-mx\r\n250-SIZE 1\r\n250 size 2\r\n", starttls.Identity{Hostname: "mx", Keywords: []string{"SIZE 1"}}},
		{"long line", "250-mx\r\n250-X " + strings.Repeat("x", 499) + "\r\n250 Y " + strings.Repeat("x", 498) + "\r\n",
			starttls.Identity{Hostname: "mx", Keywords: []string{"Y " + strings.Repeat("x", 498)}}},
		{"nothing", "", starttls.Identity{}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := starttls.ParseEHLO([]byte(test.reply))
			if got.Hostname != test.want.Hostname || !slices.Equal(got.Keywords, test.want.Keywords) {
				t.Errorf("%q gives %+v, want %+v", test.reply, got, test.want)
			}
		})
	}
	var many strings.Builder
	for i := range 200 {
		fmt.Fprintf(&many, "250-X%d\r\n", i)
	}
	if got := starttls.ParseEHLO([]byte("250-mx\r\n" + many.String())); len(got.Keywords) != 100 {
		t.Errorf("%d keywords of 200", len(got.Keywords))
	}
}

func TestIdentityWithoutChunking(t *testing.T) {
	all := starttls.Identity{Hostname: "mx", Keywords: []string{"SIZE", "chunking", "BINARYMIME", "DSN"}}
	got := all.WithoutChunking()
	if got.Hostname != "mx" || !slices.Equal(got.Keywords, []string{"SIZE", "DSN"}) || len(all.Keywords) != 4 || all.Keywords[1] != "chunking" {
		t.Errorf("%+v of %+v", got, all)
	}
}

package starttls_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/starttls"
)

// TestR13_Upgrade asks backends for TLS. What is not a clean 220, and nothing
// behind it, must not be followed by a handshake, nor by plain text.
func TestR13_Upgrade(t *testing.T) {
	const offers, ready = "250-mx\r\n250-STARTTLS\r\n250 SIZE\r\n", "220 2.0.0 ready\r\n"
	for _, test := range []struct {
		name     string
		segments []string
		step     string
		heard    string
	}{
		{"all well", []string{offers, ready}, "", "EHLO proxy.example\r\nSTARTTLS\r\n"},
		{"does not offer it", []string{"250-mx\r\n250 SIZE\r\n", ready}, "STARTTLS", "EHLO proxy.example\r\n"},
		{"has the word in its name", []string{"250 STARTTLS\r\n", ready}, "STARTTLS", "EHLO proxy.example\r\n"},
		{"refuses", []string{offers, "454 4.7.0 not now\r\n"}, "STARTTLS", "EHLO proxy.example\r\nSTARTTLS\r\n"},
		{"354", []string{offers, "354 go\r\n"}, "STARTTLS", "EHLO proxy.example\r\nSTARTTLS\r\n"},
		{"a reply injected behind 220", []string{offers, ready + "250 for the first command under TLS\r\n"}, "STARTTLS", "EHLO proxy.example\r\nSTARTTLS\r\n"},
		{"a reply injected behind EHLO", []string{offers + ready}, "EHLO", "EHLO proxy.example\r\n"},
		{"hangs up", []string{offers}, "STARTTLS", "EHLO proxy.example\r\nSTARTTLS\r\n"},
		{"refuses EHLO", []string{"502 what\r\n"}, "EHLO", "EHLO proxy.example\r\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			backend, heard := script(test.segments...)
			err := starttls.Upgrade(backend, "proxy.example")
			if got := stepOf(err); got != test.step || (err == nil) != (test.step == "") {
				t.Errorf("error %v at step %q, want step %q", err, got, test.step)
			}
			if got := string(heard.take()); got != test.heard {
				t.Errorf("the backend heard %q, want %q", got, test.heard)
			}
		})
	}
}

func stepOf(err error) string {
	if failed, ok := errors.AsType[*starttls.StepError](err); ok {
		return failed.Step
	}
	return ""
}

func TestR50_XCLIENTDialogue(t *testing.T) {
	const offers, greets = "250-mx\r\n250-XCLIENT NAME ADDR\r\n250 SIZE\r\n", "220 mx ready\r\n"
	errNone := errors.New("no commands")
	for _, test := range []struct {
		name     string
		segments []string
		commands []string // nil is an error
		step     string
		greeting string
		heard    string
	}{
		{"all well", []string{offers, greets}, []string{"XCLIENT ADDR=192.0.2.1\r\n"}, "", greets, "EHLO proxy.example\r\nXCLIENT ADDR=192.0.2.1\r\n"},
		{"two commands", []string{offers, "220 1\r\n", greets}, []string{"XCLIENT NAME=a\r\n", "XCLIENT ADDR=b\r\n"}, "", greets,
			"EHLO proxy.example\r\nXCLIENT NAME=a\r\nXCLIENT ADDR=b\r\n"},
		{"the client is refused", []string{offers, "554 5.7.1 not you\r\n"}, []string{"XCLIENT ADDR=b\r\n"}, "", "554 5.7.1 not you\r\n", "EHLO proxy.example\r\nXCLIENT ADDR=b\r\n"},
		{"the client is refused at once", []string{offers, "421 4.7.0 busy\r\n", greets}, []string{"XCLIENT NAME=a\r\n", "XCLIENT ADDR=b\r\n"}, "", "421 4.7.0 busy\r\n",
			"EHLO proxy.example\r\nXCLIENT NAME=a\r\n"},
		{"the proxy is refused", []string{offers, "550 5.7.0 insufficient authorization\r\n"}, []string{"XCLIENT ADDR=b\r\n"}, "XCLIENT", "", "EHLO proxy.example\r\nXCLIENT ADDR=b\r\n"},
		{"no new greeting", []string{offers, "250 ok\r\n"}, []string{"XCLIENT ADDR=b\r\n"}, "XCLIENT", "", "EHLO proxy.example\r\nXCLIENT ADDR=b\r\n"},
		{"not offered", []string{"250 mx\r\n"}, []string{"XCLIENT ADDR=b\r\n"}, "XCLIENT", "", "EHLO proxy.example\r\n"},
		{"no commands", []string{offers}, nil, "", "", "EHLO proxy.example\r\n"},
		{"no reply", []string{offers, "no\r\n"}, []string{"XCLIENT ADDR=b\r\n"}, "XCLIENT", "", "EHLO proxy.example\r\nXCLIENT ADDR=b\r\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			backend, heard := script(test.segments...)
			greeting, err := starttls.XCLIENT(backend, "proxy.example", func(attributes []string) ([]string, error) {
				if !slices.Equal(attributes, []string{"NAME", "ADDR"}) {
					t.Errorf("attributes %q", attributes)
				}
				if test.commands == nil {
					return nil, errNone
				}
				return test.commands, nil
			})
			switch {
			case test.commands == nil && !errors.Is(err, errNone), stepOf(err) != test.step,
				test.commands != nil && (err == nil) != (test.step == ""):
				t.Errorf("error %v, want one at step %q", err, test.step)
			case string(greeting.Text) != test.greeting:
				t.Errorf("greeting %q, want %q", greeting.Text, test.greeting)
			}
			if got := string(heard.take()); got != test.heard {
				t.Errorf("the backend heard %q, want %q", got, test.heard)
			}
		})
	}
}

func TestParseEHLO_XCLIENT(t *testing.T) {
	for reply, want := range map[string][]string{
		"250-mx\r\n250 XCLIENT NAME  ADDR\r\n":                          {"NAME", "ADDR"},
		"250-mx\r\n250-xclient\r\n250 XCLIENT NAME\r\n":                 {},
		"250-mx\r\n250 SIZE\r\n":                                        nil,
		"250 XCLIENT ADDR\r\n":                                          nil,
		"250-mx\r\n250 XCLIENT=ADDR\r\n":                                nil,
		"250-mx\r\n" + "250 XCLIENT" + strings.Repeat(" X", 3) + "\r\n": {"X", "X", "X"},
	} {
		identity := starttls.ParseEHLO([]byte(reply))
		if got := identity.XCLIENT; !slices.Equal(got, want) || (got == nil) != (want == nil) {
			t.Errorf("%q: %q, want %q", reply, got, want)
		}
		for _, keyword := range identity.Keywords {
			if strings.HasPrefix(strings.ToUpper(keyword), "XCLIENT ") {
				t.Errorf("%q: clients are offered %q", reply, keyword)
			}
		}
	}
}

package proxyheader_test

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/proxyheader"
)

// postfix is what Postfix 3.7 lists.
var postfix = strings.Fields("NAME ADDR PROTO HELO REVERSE_NAME PORT LOGIN DESTADDR DESTPORT")

func TestR50_XCLIENT(t *testing.T) {
	four := proxyheader.Client{
		Address: netip.MustParseAddrPort("192.0.2.1:4711"), Local: netip.MustParseAddrPort("198.51.100.2:465"),
		Name: "mail.example.net", Reverse: "mail.example.net", Helo: "[192.0.2.1]", ESMTP: true,
	}
	for name, c := range map[string]struct {
		client     proxyheader.Client
		attributes []string
		want       []string
	}{
		"all": {four, postfix, []string{
			"XCLIENT NAME=mail.example.net REVERSE_NAME=mail.example.net PROTO=ESMTP HELO=[192.0.2.1] PORT=4711 DESTADDR=198.51.100.2 DESTPORT=465 ADDR=192.0.2.1\r\n"}},
		"those that are listed": {four, []string{"name", "addr"}, []string{"XCLIENT NAME=mail.example.net ADDR=192.0.2.1\r\n"}},
		"those that are known": {proxyheader.Client{Address: four.Address, Name: proxyheader.NameUnavailable}, postfix,
			[]string{"XCLIENT NAME=[UNAVAILABLE] PORT=4711 ADDR=192.0.2.1\r\n"}},
		"IPv6": {proxyheader.Client{Address: netip.MustParseAddrPort("[2001:db8::1]:5"), Local: netip.MustParseAddrPort("[fe80::1%eth0]:25")}, postfix,
			[]string{"XCLIENT PORT=5 DESTADDR=IPV6:fe80::1 DESTPORT=25 ADDR=IPV6:2001:db8::1\r\n"}},
		"IPv4 on a dual-stack socket": {proxyheader.Client{Address: netip.MustParseAddrPort("[::ffff:192.0.2.1]:5")}, []string{"ADDR"},
			[]string{"XCLIENT ADDR=192.0.2.1\r\n"}},
		"HELO, in xtext": {proxyheader.Client{Address: four.Address, Helo: "a b+c=d\r\nXCLIENT ADDR=127.0.0.1\x80"}, []string{"HELO", "PROTO", "ADDR"},
			[]string{"XCLIENT PROTO=SMTP HELO=a+20b+2Bc+3Dd+0D+0AXCLIENT+20ADDR+3D127.0.0.1+80 ADDR=192.0.2.1\r\n"}},
		"in two commands": {proxyheader.Client{Address: four.Address, Name: strings.Repeat("n", 250), Helo: strings.Repeat("h", 250), ESMTP: true}, postfix,
			[]string{"XCLIENT NAME=" + strings.Repeat("n", 250) + " PROTO=ESMTP\r\n",
				"XCLIENT HELO=" + strings.Repeat("h", 250) + " PORT=4711 ADDR=192.0.2.1\r\n"}},
		"a HELO for which no command is long enough": {proxyheader.Client{Address: four.Address, Helo: strings.Repeat(" ", 200)}, []string{"HELO", "ADDR"},
			[]string{"XCLIENT ADDR=192.0.2.1\r\n"}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := proxyheader.XCLIENT(c.client, c.attributes)
			if err != nil || !slices.Equal(got, c.want) {
				t.Errorf("got %q, %v\nwant %q", got, err, c.want)
			}
			for _, command := range got {
				if len(command) > 512 {
					t.Errorf("a command of %d bytes", len(command))
				}
			}
		})
	}
}

func TestR50_XCLIENTWithoutAddressIsNone(t *testing.T) {
	if _, err := proxyheader.XCLIENT(proxyheader.Client{}, postfix); !errors.Is(err, proxyheader.ErrNoAddress) {
		t.Errorf("without the client's address: %v", err)
	}
	client := proxyheader.Client{Address: netip.MustParseAddrPort("192.0.2.1:1")}
	if _, err := proxyheader.XCLIENT(client, []string{"NAME", "LOGIN"}); err == nil {
		t.Error("without ADDR among the attributes: no error")
	}
}

package proxyheader

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Client is what XCLIENT tells of a client. The zero value of a field, but for
// Address, is that it is not known.
type Client struct {
	Address netip.AddrPort
	Local   netip.AddrPort // the address that the client connected to
	// Name is the client's host name, one that its address has and that leads
	// back to it; Reverse is the one that the address has, whether it does or
	// not. NameUnavailable or NameTemporarilyGone stand in place of either.
	Name, Reverse string
	Helo          string // what the client said behind EHLO or HELO
	ESMTP         bool   // with Helo: it was EHLO
}

// The values for a name that is not known (XCLIENT_README of Postfix).
const (
	NameUnavailable     = "[UNAVAILABLE]" // there is none
	NameTemporarilyGone = "[TEMPUNAVAIL]" // it could not be looked up
)

// maxCommand is the longest command line, with its CRLF (XCLIENT_README).
const maxCommand = 512

// XCLIENT makes the commands that tell a backend who the client is, after
// Postfix's XCLIENT_README: of the attributes that the backend lists those that
// are known. ADDR comes last, behind which some servers take no more from us.
// LOGIN is never sent: the proxy authenticates nobody.
//
// A backend that takes no ADDR gets no client: it would take everyone for the
// proxy itself.
func XCLIENT(c Client, attributes []string) ([]string, error) {
	if !c.Address.IsValid() {
		return nil, ErrNoAddress
	}
	if !CanXCLIENT(attributes) {
		return nil, fmt.Errorf("the backend's XCLIENT has no ADDR among its attributes %q: it can not learn the client's address", attributes)
	}
	var commands []string
	line := "XCLIENT"
	for _, a := range c.attributes() {
		if a.value == "" || !listed(attributes, a.name) {
			continue
		}
		part := " " + a.name + "=" + xtext(a.value)
		if len("XCLIENT")+len(part)+len("\r\n") > maxCommand {
			continue // of a name or HELO that is too long for any command
		}
		if len(line)+len(part)+len("\r\n") > maxCommand {
			commands = append(commands, line+"\r\n")
			line = "XCLIENT"
		}
		line += part
	}
	return append(commands, line+"\r\n"), nil
}

type attribute struct{ name, value string }

// attributes are in the order in which they are sent.
func (c Client) attributes() []attribute {
	protocol := ""
	switch {
	case c.Helo != "" && c.ESMTP:
		protocol = "ESMTP"
	case c.Helo != "":
		protocol = "SMTP"
	}
	all := []attribute{
		{"NAME", c.Name}, {"REVERSE_NAME", c.Reverse}, {"PROTO", protocol}, {"HELO", c.Helo},
		{"PORT", strconv.Itoa(int(c.Address.Port()))},
	}
	if c.Local.IsValid() {
		all = append(all, attribute{"DESTADDR", address(c.Local.Addr())}, attribute{"DESTPORT", strconv.Itoa(int(c.Local.Port()))})
	}
	return append(all, attribute{"ADDR", address(c.Address.Addr())})
}

// address writes IPv6 with its prefix (RFC 5321 section 4.1.3).
func address(a netip.Addr) string {
	a = a.Unmap().WithZone("")
	if a.Is6() {
		return "IPV6:" + a.String()
	}
	return a.String()
}

// CanXCLIENT tells whether a backend that lists these attributes can learn who
// the client is.
func CanXCLIENT(attributes []string) bool { return listed(attributes, "ADDR") }

func listed(attributes []string, name string) bool {
	return slices.ContainsFunc(attributes, func(a string) bool { return strings.EqualFold(a, name) })
}

// xtext writes what could end a value or a command as +XX (RFC 3461 section 4).
func xtext(value string) string {
	var b strings.Builder
	for _, c := range []byte(value) {
		if c < '!' || c > '~' || c == '+' || c == '=' {
			fmt.Fprintf(&b, "+%02X", c)
			continue
		}
		b.WriteByte(c)
	}
	return b.String()
}

package test

import (
	"testing"
)

// These tests hold the harness to its word without the proxy: what they
// deliver directly is what the tests through the proxy compare with.

func TestServers_PostfixDelivers(t *testing.T) {
	t.Parallel()
	server := startPostfix(t)
	marker := newMarker()
	message := awkwardMessage("user@a.example", marker)
	arguments := append(swaksMessage(t, message), "--from", "sender@client.test", "--to", "user@a.example", "--ehlo", "client.test")
	swaks(t, server.direct, arguments...).requireCode(t, 0)
	server.requireDelivered(t, marker, message)

	for _, version := range []string{"1", "2"} {
		marker := newMarker()
		message := awkwardMessage("user@a.example", marker)
		arguments := append(swaksMessage(t, message), "--from", "sender@client.test", "--to", "user@a.example", "--ehlo", "client.test",
			"--proxy-version", version, "--proxy-family", map[string]string{"1": "TCP4", "2": "AF_INET"}[version],
			"--proxy-source", "198.51.100.7", "--proxy-source-port", "4711", "--proxy-dest", "198.51.100.1", "--proxy-dest-port", "465")
		if version == "2" {
			arguments = append(arguments, "--proxy-protocol", "STREAM", "--proxy-command", "PROXY")
		}
		swaks(t, server.proxied, arguments...).requireCode(t, 0)
		server.requireDelivered(t, marker, message)
		server.waitLog(t, "connect from unknown[198.51.100.7]")
	}
}

func TestServers_EximDelivers(t *testing.T) {
	t.Parallel()
	server := startExim(t)
	marker := newMarker()
	message := awkwardMessage("user@a.example", marker)
	arguments := append(swaksMessage(t, message), "--from", "sender@client.test", "--to", "user@a.example", "--ehlo", "client.test",
		"--proxy-version", "1", "--proxy-family", "TCP4",
		"--proxy-source", "198.51.100.7", "--proxy-source-port", "4711", "--proxy-dest", "198.51.100.1", "--proxy-dest-port", "465")
	swaks(t, server.proxied, arguments...).requireCode(t, 0)
	server.requireDelivered(t, marker, message)
	server.waitLog(t, "<= sender@client.test", "[198.51.100.7]:4711")
}

func TestServers_AiosmtpdTellsTheHeader(t *testing.T) {
	t.Parallel()
	server := startAiosmtpd(t)
	marker := newMarker()
	message := awkwardMessage("user@a.example", marker)
	arguments := append(swaksMessage(t, message), "--from", "sender@client.test", "--to", "user@a.example", "--ehlo", marker,
		"--proxy-version", "2", "--proxy-family", "AF_INET6", "--proxy-protocol", "STREAM", "--proxy-command", "PROXY",
		"--proxy-source", "2001:db8::7", "--proxy-source-port", "4711", "--proxy-dest", "2001:db8::1", "--proxy-dest-port", "465")
	swaks(t, server.address, arguments...).requireCode(t, 0)
	header, delivered := server.waitSession(t, marker)
	if header.Version != 2 || header.Source != "2001:db8::7" || header.SourcePort != 4711 || header.Length != 52 {
		t.Errorf("the oracle read %+v", header)
	}
	if string(delivered.content(t)) != string(message) {
		t.Errorf("the oracle got a message that differs at byte %d", differsAt(delivered.content(t), message))
	}
}

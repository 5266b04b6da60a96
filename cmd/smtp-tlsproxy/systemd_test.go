package main

import (
	"net"
	"strings"
	"testing"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/config"
)

// TestReloadThatDropsASocketOfSystemd: whose clients get no answer from then
// on, which is told as at the start.
func TestReloadThatDropsASocketOfSystemd(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	file, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	log := new(output)
	i := newInstance(newLogging(log))
	i.sockets = inherited{"mail": {file}}
	defer i.close()
	apply := func(text string) {
		t.Helper()
		s.write(t, text)
		cfg, err := config.Load(s.file)
		if err == nil {
			err = i.apply(cfg)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	const warning = `msg="systemd passes a socket that no listener names: its clients get no answer" name=mail`
	apply(strings.Replace(s.yaml(), s.submissions, "systemd:mail", 1))
	if strings.Contains(log.String(), warning) {
		t.Errorf("it warns of a socket that is named:\n%s", log)
	}
	apply(s.yaml())
	if !strings.Contains(log.String(), warning) {
		t.Errorf("no warning in:\n%s", log)
	}
}

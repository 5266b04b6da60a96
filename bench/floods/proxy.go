package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/bench/program"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/devcert"
)

const domain = "mail.customer.example"

// proxy is the program that is flooded, in a process of its own, and the
// backend behind it.
type proxy struct {
	cmd                            *exec.Cmd
	dir                            string
	ca                             *devcert.CA
	backend                        net.Listener
	submissions, submission, admin string
	log                            bytes.Buffer // read when it has ended
}

// startProxy runs the proxy as a flood wants it.
func startProxy(f flood) (p *proxy, err error) {
	p = new(proxy)
	defer func() {
		if err != nil {
			err = errors.Join(err, p.stop())
		}
	}()
	if p.dir, err = os.MkdirTemp("", "smtp-tlsproxy-bench-floods-"); err != nil {
		return p, err
	}
	if p.ca, err = devcert.NewCA("bench"); err != nil {
		return p, err
	}
	if err = p.ca.WriteFolder(filepath.Join(p.dir, "certs"), domain, devcert.Leaf{Names: []string{domain}}); err != nil {
		return p, err
	}
	if p.backend, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		return p, err
	}
	go serveBackend(p.backend)
	if err = program.FreeAddresses(&p.submissions, &p.submission, &p.admin); err != nil {
		return p, err
	}
	file := filepath.Join(p.dir, "config.yaml")
	if err = os.WriteFile(file, []byte(p.config(f.limits)), 0o600); err != nil {
		return p, err
	}
	args := append(f.under, *binary, "serve", "--config", file)
	p.cmd = exec.Command(args[0], args[1:]...)
	p.cmd.Stderr = &p.log
	if err = p.cmd.Start(); err != nil {
		p.cmd = nil
		return p, err
	}
	return p, program.WaitReady(p.admin)
}

func (p *proxy) config(limits string) string {
	return fmt.Sprintf(`certificates: {directory: certs, default: %s}
listeners:
  - {name: submissions, address: %q, mode: implicit}
  - {name: submission, address: %q, mode: starttls, hostname: %s}
backends:
  mta: {addresses: [%q]}
admin: {address: %q}
limits: {%s}
timeouts: {drain: 1s}
`, domain, p.submissions, p.submission, domain, p.backend.Addr(), p.admin, limits)
}

func (p *proxy) pid() int { return p.cmd.Process.Pid }

// stop ends the proxy, what it still says is part of the error where it ends
// badly.
func (p *proxy) stop() error {
	if p.backend != nil {
		_ = p.backend.Close()
	}
	defer os.RemoveAll(p.dir)
	if p.cmd == nil {
		return nil
	}
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	cut := time.AfterFunc(10*time.Second, func() { _ = p.cmd.Process.Kill() })
	defer cut.Stop()
	if err := p.cmd.Wait(); err != nil {
		log := p.log.Bytes()
		return fmt.Errorf("the proxy: %w; its log ends with:\n%s", err, log[max(0, len(log)-2000):])
	}
	return nil
}

// serveBackend is a mail server that takes no mail.
func serveBackend(listener net.Listener) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		go serveClient(conn)
	}
}

func serveClient(conn net.Conn) {
	defer conn.Close()
	reader := bufio.NewReader(conn)
	var header [16]byte // PROXY version 2: its length stands at the end
	if _, err := io.ReadFull(reader, header[:]); err != nil {
		return
	}
	if _, err := reader.Discard(int(header[14])<<8 | int(header[15])); err != nil {
		return
	}
	reply := "220 bench ESMTP\r\n"
	for {
		if _, err := conn.Write([]byte(reply)); err != nil {
			return
		}
		line, err := reader.ReadString('\n')
		if err != nil || strings.HasPrefix(line, "QUIT") {
			_, _ = conn.Write([]byte("221 bench\r\n"))
			return
		}
		reply = "250 bench\r\n"
	}
}

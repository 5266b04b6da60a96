package main

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// flood is one kind of bad client.
type flood struct {
	name    string
	clients int           // at once
	every   time.Duration // in which each of them comes once; they come spread over it
	from    int           // addresses
	attack  func(*attacker) error
	limits  string   // of the proxy; the defaults
	under   []string // the command that runs the proxy
	idle    bool     // its clients have a session each, and stay
}

// floods are what a proxy has to bear with its default limits. Descriptors run
// short for 32 connections and what the rest takes, as "check" says; one address
// may not take all of those, as any operator would have it.
var floods = []flood{
	{name: "silent", clients: 2000, every: 2 * time.Second, from: 60, attack: (*attacker).silent},
	{name: "garbage", clients: 1000, every: time.Second, from: 60, attack: (*attacker).garbage},
	{name: "drip", clients: 1000, every: 2 * time.Second, from: 60, attack: (*attacker).drip},
	{name: "reset", clients: 100, every: 500 * time.Millisecond, from: 60, attack: (*attacker).reset},
	{name: "descriptors", clients: 300, every: time.Second, from: 3, attack: (*attacker).silent,
		limits: "connections: 32, connections_per_client: 8", under: []string{"prlimit", "--nofile=128"}},
	{name: "sessions", clients: 5000, every: 12 * time.Second, from: 60, attack: (*attacker).stay, idle: true},
}

// attacker is a client of a flood.
type attacker struct {
	*conn
	ctx   context.Context // ends with the flood
	i     int             // its number, which decides what it does where there is a choice
	plain bool            // it came to the STARTTLS port, and is greeted
}

// silent says nothing, or nothing when a ClientHello is due.
func (a *attacker) silent() error {
	if a.plain && a.i%4 == 1 {
		if err := a.plainPhase(); err != nil {
			return err
		}
	}
	return a.hold()
}

// garbage is no handshake, or one that has only a record's header.
func (a *attacker) garbage() error {
	if a.plain {
		if err := a.plainPhase(); err != nil {
			return err
		}
	}
	said := make([]byte, 400)
	_, _ = rand.Read(said) // never fails
	if a.i%4 < 2 {
		copy(said, []byte{22, 3, 1, 1, 139, 1, 0, 1, 135})
	}
	if _, err := a.Write(said); err != nil {
		return err
	}
	return a.hold()
}

// drip says a ClientHello, or commands, at ten bytes a second.
func (a *attacker) drip() error {
	said := append([]byte{22, 3, 1, 1, 139, 1, 0, 1, 135, 3, 3}, make([]byte, 384)...)
	if a.plain && a.i%4 == 1 {
		said = []byte(strings.Repeat("NOOP\r\n", 20))
	} else if a.plain {
		if err := a.plainPhase(); err != nil {
			return err
		}
	}
	_ = a.SetDeadline(time.Time{}) // the proxy's is the one that counts
	for j := range said {
		if _, err := a.Write(said[j : j+1]); err != nil {
			return err
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-a.ctx.Done():
			return nil
		}
	}
	return a.hold()
}

// reset ends at once, behind a ClientHello, or in a session, without a goodbye.
func (a *attacker) reset() error {
	defer func() { _ = a.Conn.(*net.TCPConn).SetLinger(0) }()
	if a.i%6 < 2 {
		return nil
	}
	if a.plain {
		if err := a.plainPhase(); err != nil {
			return err
		}
	}
	if a.i%6 < 4 {
		go func() { time.Sleep(5 * time.Millisecond); a.Close() }()
	}
	_, err := a.secure()
	return err
}

// stay is no attack, but a session without an end.
func (a *attacker) stay() error {
	if a.plain {
		if err := a.plainPhase(); err != nil {
			return err
		}
	}
	secured, err := a.secure()
	if err != nil {
		return err
	}
	return (&attacker{conn: &conn{secured}, ctx: a.ctx}).hold()
}

func (a *attacker) secure() (net.Conn, error) {
	secured := tls.Client(a.conn, &tls.Config{ServerName: domain, InsecureSkipVerify: true})
	return secured, secured.Handshake()
}

// hold waits for the end of the connection or the flood.
func (a *attacker) hold() error {
	_ = a.SetDeadline(time.Time{})
	_, err := io.Copy(io.Discard, a.conn)
	return err
}

// makeFlood is what the process of a flood does, until its input ends. It says
// when it has begun, and at the end how many clients there were.
func makeFlood() error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	addresses := strings.Split(*targets, ",")
	var clients atomic.Int64
	var all sync.WaitGroup
	for _, f := range floods {
		if f.name != *flooding {
			continue
		}
		for i := range f.clients {
			all.Go(func() { f.client(ctx, i, addresses[i%len(addresses)], &clients) })
		}
	}
	fmt.Println("begun")
	_, err := io.Copy(io.Discard, os.Stdin)
	cancel()
	all.Wait()
	fmt.Println(clients.Load())
	return err
}

// client comes again and again. That it fails is the fate of an attacker.
func (f flood) client(ctx context.Context, i int, address string, clients *atomic.Int64) {
	next := time.NewTimer(f.every * time.Duration(i) / time.Duration(f.clients))
	defer next.Stop()
	for {
		select {
		case <-next.C:
			next.Reset(f.every)
		case <-ctx.Done():
		}
		if ctx.Err() != nil {
			return
		}
		c, err := connect(address, fmt.Sprintf("127.1.0.%d", 1+i/2%f.from))
		if err != nil {
			continue
		}
		clients.Add(1)
		end := context.AfterFunc(ctx, func() { c.Close() })
		_ = f.attack(&attacker{conn: c, ctx: ctx, i: i, plain: i%2 == 1})
		end()
		c.Close()
	}
}

// making is the process of a flood.
type making struct {
	cmd    *exec.Cmd
	input  io.Closer
	output io.Reader
}

// start begins the flood of a proxy.
func (f flood) start(p *proxy) (*making, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	m := &making{cmd: exec.Command("nice", "-n", "19", self, "-flood", f.name, "-targets", p.submissions+","+p.submission)}
	m.cmd.Stderr = os.Stderr
	if m.input, err = m.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if m.output, err = m.cmd.StdoutPipe(); err != nil {
		return nil, err
	}
	if err := m.cmd.Start(); err != nil {
		return nil, err
	}
	if _, err := fmt.Fscanln(m.output, new(string)); err != nil {
		m.kill()
		return nil, fmt.Errorf("the flood does not begin: %w", err)
	}
	return m, nil
}

// stop ends the flood and tells how many clients there were.
func (m *making) stop() (clients int, err error) {
	_ = m.input.Close()
	var text string
	if _, err := fmt.Fscanln(m.output, &text); err != nil {
		return 0, fmt.Errorf("the flood did not last: %w", err)
	}
	if clients, err = strconv.Atoi(text); err == nil {
		err = m.cmd.Wait()
	}
	return clients, err
}

// kill ends the process where stop did not.
func (m *making) kill() {
	if m.cmd.ProcessState == nil {
		_ = m.cmd.Process.Kill()
		_ = m.cmd.Wait()
	}
}

package main

import (
	"bufio"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/bench/measure"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/heapfloor"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/sni"
)

// stat is what a server tells of itself.
type stat struct {
	Address string
	CPU     time.Duration // of the process so far
	PSS     int64
	Loaded  int
}

// serve answers handshakes, and a stat for each line of input.
func serve() error {
	heapfloor.Keep() // as the program does
	certs, err := sni.Open(*serving, sni.Options{Default: folderName(0), Cache: *cache, Survey: -1})
	if err != nil {
		return err
	}
	defer certs.Close()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer listener.Close()
	config := &tls.Config{GetCertificate: certs.GetCertificate, SessionTicketsDisabled: true, MinVersion: tls.VersionTLS12}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				_ = tls.Server(conn, config).Handshake()
			}()
		}
	}()
	output := json.NewEncoder(os.Stdout)
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		loaded := 0
		for range certs.Loaded() {
			loaded++
		}
		var usage syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
			return err
		}
		now := stat{Address: listener.Addr().String(), Loaded: loaded, PSS: measure.PSS(os.Getpid()),
			CPU: time.Duration(usage.Utime.Nano() + usage.Stime.Nano())}
		if err := output.Encode(now); err != nil {
			return err
		}
	}
	return nil
}

// process is a server in a process of its own.
type process struct {
	cmd   *exec.Cmd
	input *os.File
	lines *json.Decoder
	first stat
	ready time.Duration // from the start of the process to the end of its first handshake
}

func start(dir string) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p := &process{cmd: exec.Command(self, "-serve", dir, "-cache", fmt.Sprint(*cache))}
	p.cmd.Stderr = os.Stderr
	reader, input, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer reader.Close()
	p.cmd.Stdin, p.input = reader, input
	output, err := p.cmd.StdoutPipe()
	began := time.Now()
	if err == nil {
		p.lines = json.NewDecoder(output)
		err = p.cmd.Start()
	}
	if err != nil {
		_ = input.Close()
		return nil, err
	}
	if p.first, err = p.stat(); err == nil {
		err = p.handshake(folderName(0))
	}
	if err != nil {
		p.stop()
		return nil, err
	}
	p.ready = time.Since(began)
	return p, nil
}

func (p *process) stop() {
	_ = p.input.Close() // ends serve
	_ = p.cmd.Wait()
}

func (p *process) stat() (s stat, err error) {
	if _, err = p.input.WriteString("\n"); err != nil {
		return s, err
	}
	err = p.lines.Decode(&s)
	return s, err
}

// clients is how many handshakes are under way at once.
const clients = 4

// handshakes does n handshakes, each name in turn, and returns the server's
// CPU for each.
func (p *process) handshakes(names []string, n int) (time.Duration, error) {
	before, err := p.stat()
	if err != nil {
		return 0, err
	}
	failed := make([]error, clients)
	var all sync.WaitGroup
	for c := range clients {
		all.Go(func() {
			for i := c; i < n && failed[c] == nil; i += clients {
				failed[c] = p.handshake(names[i%len(names)])
			}
		})
	}
	all.Wait()
	for _, err := range failed {
		if err != nil {
			return 0, err
		}
	}
	after, err := p.stat()
	return (after.CPU - before.CPU) / time.Duration(n), err
}

func (p *process) handshake(name string) error {
	conn, err := net.Dial("tcp", p.first.Address)
	if err != nil {
		return err
	}
	defer conn.Close()
	client := tls.Client(conn, &tls.Config{ServerName: name, InsecureSkipVerify: true})
	if err := client.Handshake(); err != nil {
		return err
	}
	if got := client.ConnectionState().PeerCertificates[0].DNSNames[0]; got != name {
		return fmt.Errorf("%s got the certificate of %s", name, got)
	}
	_, _ = conn.Read(make([]byte, 1)) // until the server has closed: its work is done
	return nil
}

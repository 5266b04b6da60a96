package main

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/bench/measure"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/bench/program"
)

// process is a server that runs.
type process struct {
	server
	site
	cmd  *exec.Cmd
	tree []int // it and its workers
	log  bytes.Buffer
}

const startWithin = 30 * time.Second

// start runs a server with files in a folder of its own below dir.
func (s server) start(dir, certs string, sink [2]string) (p *process, err error) {
	p = &process{server: s, site: site{dir: filepath.Join(dir, s.name), certs: certs, sink: sink[0], plain: sink[1]}}
	if err := os.MkdirAll(p.dir, 0o700); err != nil {
		return nil, err
	}
	if err := program.FreeAddresses(append(pointers(&p.addresses), &p.admin)...); err != nil {
		return nil, err
	}
	args, err := s.configure(p.site)
	if err != nil {
		return nil, err
	}
	p.cmd = exec.Command(args[0], args[1:]...)
	p.cmd.Stdout, p.cmd.Stderr = &p.log, &p.log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	if err := p.waitReady(); err != nil {
		_ = p.stop()
		return nil, fmt.Errorf("%s: %w\n%s", s.name, err, p.log.Bytes())
	}
	p.tree = measure.Tree(p.cmd.Process.Pid)
	return p, nil
}

func pointers(all *[ports]string) (each []*string) {
	for i := range all {
		each = append(each, &all[i])
	}
	return each
}

// waitReady waits until every port takes connections.
func (p *process) waitReady() error {
	end := time.Now().Add(startWithin)
	for _, port := range p.ports {
		for {
			conn, err := net.Dial("tcp", p.addresses[port])
			if err == nil {
				_ = conn.Close()
				break
			}
			if time.Now().After(end) {
				return err
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
	return nil
}

// cpu is what the server has used so far.
func (p *process) cpu() time.Duration { return measure.CPU(p.tree) }

func (p *process) pss() int64 { return measure.PSS(p.tree...) }

// stop ends the server and waits until it has ended.
func (p *process) stop() error {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	cut := time.AfterFunc(10*time.Second, func() { _ = p.cmd.Process.Kill() })
	defer cut.Stop()
	err := p.cmd.Wait()
	if _, ended := errors.AsType[*exec.ExitError](err); ended { // by the signal, as asked
		return nil
	}
	return err
}

package main

import (
	"crypto/tls"
	"fmt"
	"time"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/bench/measure"
)

// scenario is one line of the table.
type scenario struct {
	name, unit string
	rounds     int
	fits       func(server) bool
	// once measures a server one time.
	once func(p *process) (float64, error)
}

// onPort fits the servers that have a port.
func onPort(p port) func(server) bool { return func(s server) bool { return s.has(p) } }

func scenarios() []scenario {
	ecdsa := way{port: implicit, name: ecdsaName, group: tls.X25519}
	rsa := way{port: implicitRS, name: rsaName, group: tls.X25519}
	starttls := way{port: withTLS, name: ecdsaName, group: tls.X25519}
	tls12, hybrid := ecdsa, ecdsa
	tls12.tls12, hybrid.group = true, tls.X25519MLKEM768
	return []scenario{
		{"implicit TLS, ECDSA", "µs of CPU a session", *rounds, onPort(implicit), sessionCPU(ecdsa)},
		{"implicit TLS, RSA-2048", "µs of CPU a session", *rounds, onPort(implicitRS), sessionCPU(rsa)},
		{"implicit TLS, X25519MLKEM768", "µs of CPU a session", *rounds, func(s server) bool { return s.hybrid }, sessionCPU(hybrid)},
		{"implicit TLS 1.2, ECDSA", "µs of CPU a session", *rounds, onPort(implicit), sessionCPU(tls12)},
		{"implicit TLS, resumed", "µs of CPU a session", *rounds, onPort(resuming), resumedCPU()},
		{"STARTTLS, ECDSA", "µs of CPU a session", *rounds, onPort(withTLS), sessionCPU(starttls)},
		{"message to the backend", "µs of CPU a MB", *rounds, onPort(implicit), toBackend(ecdsa)},
		{"reply to the client", "µs of CPU a MB", *rounds, onPort(implicit), toClient(ecdsa)},
		{"connection to greeting, implicit TLS", "µs", *rounds, onPort(implicit), latency(ecdsa)},
		{"connection to end of handshake, STARTTLS", "µs", *rounds, onPort(withTLS), latency(starttls)},
	}
}

// sessionCPU is for whole sessions: connection, greeting, EHLO, QUIT.
func sessionCPU(w way) func(*process) (float64, error) {
	return func(p *process) (float64, error) {
		n := *sessions
		if w.port == withTLS && p.name == stunnel {
			n /= 10 // it lets each client wait for 200 ms
		}
		before := p.cpu()
		if err := w.sessions(p.addresses[w.port], n); err != nil {
			return 0, err
		}
		return micro(p.cpu()-before) / float64(n), nil
	}
}

// resumedCPU is for sessions that resume; each server's tickets are its own.
func resumedCPU() func(*process) (float64, error) {
	caches := make(map[string]*tickets)
	return func(p *process) (float64, error) {
		w := way{port: resuming, name: ecdsaName, group: tls.X25519}
		if caches[p.name] == nil {
			caches[p.name] = new(tickets)
			w.cache = caches[p.name]
			if err := w.sessions(p.addresses[resuming], 8*clients); err != nil {
				return 0, err
			}
		}
		w.cache = caches[p.name]
		return sessionCPU(w)(p)
	}
}

// messageMB is the size of a message: CPU time is counted in steps of 10 ms.
const messageMB = 250

// toBackend is for one message.
func toBackend(w way) func(*process) (float64, error) {
	block := make([]byte, 0, 1<<20)
	for len(block)+78 <= cap(block) {
		block = fmt.Appendf(block, "%076d\r\n", len(block))
	}
	return func(p *process) (float64, error) {
		return w.moved(p, func(s *session) (int, error) {
			if err := s.dialogue().command("DATA", "354"); err != nil {
				return 0, err
			}
			for range messageMB {
				if _, err := s.conn.Write(block); err != nil {
					return 0, err
				}
			}
			return messageMB * len(block), s.dialogue().command(".", "250")
		})
	}
}

// toClient is for a reply as large, the only thing that SMTP can send so much
// of that way.
func toClient(w way) func(*process) (float64, error) {
	lines := messageMB << 20 / len(helpLine)
	return func(p *process) (float64, error) {
		return w.moved(p, func(s *session) (int, error) {
			return lines * len(helpLine), s.dialogue().command(fmt.Sprint("HELP ", lines), "214")
		})
	}
}

// moved is the CPU for each MB that a session moves.
func (w way) moved(p *process, move func(*session) (bytes int, err error)) (float64, error) {
	s, _, err := w.open(p.addresses[w.port])
	if err != nil {
		return 0, err
	}
	before := p.cpu()
	bytes, err := move(s)
	if err != nil {
		_ = s.conn.Close()
		return 0, err
	}
	used := p.cpu() - before
	return micro(used) / measure.MB(int64(bytes)), s.end()
}

// latency is the median of sessions one after the other.
func latency(w way) func(*process) (float64, error) {
	const sessions = 100
	return func(p *process) (float64, error) {
		var took []float64
		for range sessions {
			s, greeted, err := w.open(p.addresses[w.port])
			if err != nil {
				return 0, err
			}
			took = append(took, micro(greeted))
			if err := s.end(); err != nil {
				return 0, err
			}
		}
		return measure.Median(took), nil
	}
}

func micro(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

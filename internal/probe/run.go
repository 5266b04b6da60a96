package probe

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"
)

// Run probes a server. Each step is bounded by Options.Timeout; the end of ctx
// ends the step that is under way, and the report has what was found until then.
func Run(ctx context.Context, options Options) *Report {
	o, target := options.complete()
	r := &Report{Target: target, Began: o.Now().UTC(), Addresses: []string{}, Sessions: []Session{}, Findings: []Finding{}}
	defer r.conclude()
	for _, ip := range o.addresses(ctx, r) {
		r.Addresses = append(r.Addresses, net.JoinHostPort(ip.String(), o.Port))
	}
	for _, address := range r.Addresses {
		s := &session{Options: &o, ctx: ctx, report: r, out: &Session{Address: address, Steps: []Step{}, Chain: []Certificate{}}}
		connected := s.run()
		r.Sessions = append(r.Sessions, *s.out)
		if ctx.Err() != nil {
			r.add(Finding{Level: Fail, ID: "interrupted", Text: "the probe was interrupted"}, address)
			break
		}
		if connected && !o.All {
			break
		}
	}
	r.unreachable()
	return r
}

// addresses looks the host up.
func (o *Options) addresses(ctx context.Context, r *Report) []netip.Addr {
	if ip, err := netip.ParseAddr(o.Host); err == nil {
		return []netip.Addr{ip}
	}
	ctx, cancel := context.WithTimeout(ctx, o.Timeout)
	defer cancel()
	began := o.Now()
	found, err := o.LookUp(ctx, o.Host)
	r.LookUp = &Step{Name: "look-up", Outcome: OK, DurationMS: milliseconds(o.Now().Sub(began))}
	if err != nil || len(found) == 0 {
		f := lookUpFault(o.Host, err)
		r.LookUp.Outcome, r.LookUp.Text = Fail, f.Text
		r.add(f, "")
		return nil
	}
	texts := make([]string, len(found))
	for i, ip := range found {
		found[i] = ip.Unmap()
		texts[i] = found[i].String()
	}
	r.LookUp.Text = strings.Join(texts, ", ")
	return found
}

func lookUpFault(host string, err error) Finding {
	f := Finding{Level: Fail, ID: "look_up", Text: fmt.Sprintf("%s has no address", host), Mend: "add an A or AAAA record, or probe the address and give --servername"}
	failed, ok := errors.AsType[*net.DNSError](err)
	switch {
	case err == nil, ok && failed.IsNotFound:
	case ok && failed.IsTimeout, isTimeout(err):
		f.Text, f.Mend = fmt.Sprintf("no answer from the name servers for %s", host), "look at /etc/resolv.conf, or probe the address and give --servername"
	default:
		f.Text = fmt.Sprintf("looking up %s: %s", host, shown(err.Error()))
	}
	return f
}

// unreachable lowers addresses that could not be reached to a warning where
// another one could: clients go on to that.
func (r *Report) unreachable() {
	reached := false
	for _, s := range r.Sessions {
		reached = reached || len(s.Steps) > 0 && s.Steps[0].Outcome == OK
	}
	for i, f := range r.Findings {
		if f.ID == "connect" && reached {
			r.Findings[i].Level = Warn
			r.Findings[i].Text += "; clients go on to another address"
		}
	}
}

func milliseconds(d time.Duration) float64 {
	return float64(d.Round(10*time.Microsecond)) / float64(time.Millisecond)
}

// session is the probe of one address.
type session struct {
	*Options
	ctx    context.Context
	report *Report
	out    *Session
	link   *link

	state   tls.ConnectionState
	chain   []*x509.Certificate
	tickets tickets
	asked   bool // for a client certificate
	broken  bool // nothing more can be said
}

// run goes through the steps as a mail client does, and tells whether the
// address could be connected to.
func (s *session) run() (connected bool) {
	if !s.connect() {
		return false
	}
	whole := s.talk()
	if !s.broken && s.ctx.Err() == nil {
		s.quit()
	}
	s.link.close()
	if whole && s.ctx.Err() == nil {
		s.tries()
	}
	return true
}

// talk is the session between connecting and QUIT.
func (s *session) talk() bool {
	if s.Mode == STARTTLS {
		if !s.greet() || !s.hello(false) || !s.starttls() {
			return false
		}
	}
	if !s.handshake() {
		return false
	}
	s.judge()
	if s.Mode == Implicit && !s.greet() {
		return false
	}
	if !s.hello(true) {
		return false
	}
	s.compare()
	return true
}

// step does one step, and tells whether the session can go on. What do returns
// besides the text makes the step a warning or a failure, and is a finding.
func (s *session) step(name string, do func() (string, *Finding)) bool {
	began := s.Now()
	if s.Begins != nil {
		s.Begins(name)
	}
	text, f := do()
	step := Step{Name: name, Outcome: OK, DurationMS: milliseconds(s.Now().Sub(began)), Text: text}
	switch {
	case f != nil && s.ctx.Err() != nil:
		step.Outcome, step.Text = Fail, "interrupted"
	case f != nil:
		s.found(*f)
		step.Outcome = f.Level
		if text == "" {
			step.Text = f.Text
		}
	}
	s.out.Steps = append(s.out.Steps, step)
	return f == nil || f.Level != Fail
}

func (s *session) found(f Finding) { s.report.add(f, s.out.Address) }

func (s *session) connect() bool {
	return s.step("connect", func() (string, *Finding) {
		l, err := s.open(s.ctx, s.out.Address)
		if err != nil {
			f := s.connectFault(err)
			return s.out.Address + ": " + f.Text, f
		}
		s.link = l
		return s.out.Address, nil
	})
}

// slowGreeting is the delay from which people notice.
const slowGreeting = 5 * time.Second

func (s *session) greet() bool {
	return s.step("greeting", func() (string, *Finding) {
		began := s.Now()
		g, err := s.link.greeting()
		took := s.Now().Sub(began)
		if err != nil {
			s.broken = true
			return "", s.greetingFault(g.Text, err)
		}
		s.out.Greeting = replyOf(g)
		text := s.out.Greeting.String()
		switch {
		case g.Code == 421 || g.Code == 220 && took > slowGreeting:
			return text, s.slowOrBusy(g.Code, took)
		case g.Code != 220:
			return text, &Finding{Level: Fail, ID: "greeting_refuses", Text: fmt.Sprintf("the server refuses this client in its greeting: %s", text),
				Mend: "look into the server's log for this client's address: it may be on a block list, or the port wants a PROXY protocol header"}
		}
		return text, nil
	})
}

func (s *session) slowOrBusy(code int, took time.Duration) *Finding {
	if code == 421 {
		return &Finding{Level: Fail, ID: "greeting_refuses", Text: fmt.Sprintf("the server has no service for this client now: %s", s.out.Greeting),
			Mend: "it is overloaded, its backend is down, or this is a port that waits for a PROXY protocol header (Postfix answers 421 without one): probe the port of the proxy instead"}
	}
	return &Finding{Level: Warn, ID: "greeting_slow", Text: fmt.Sprintf("the greeting took %.1f seconds", took.Seconds()),
		Mend: "look for a slow reverse look-up of clients or DNS block lists, or a delay that is meant (greet_delay, postscreen); impatient clients give up"}
}

func (s *session) hello(secure bool) bool {
	name := "EHLO"
	return s.step(name, func() (string, *Finding) {
		g, err := s.link.say("EHLO "+s.link.ehlo, maxEHLOReply)
		if err != nil {
			s.broken = true
			return "", s.replyFault(name, g.Text, err)
		}
		reply := replyOf(g)
		if secure {
			s.out.EHLOSecure = reply
			s.out.TLS.SessionTicket = s.tickets.came // those of TLS 1.3 come behind the handshake
		} else {
			s.out.EHLOPlain = reply
		}
		if g.Code != 250 {
			return reply.String(), &Finding{Level: Fail, ID: "ehlo_refused", Text: fmt.Sprintf("the server refuses EHLO: %s", reply),
				Mend: "look into the server's log; a port that waits for a PROXY protocol header may do this (Exim does): probe the proxy in front of it; --ehlo gives another name"}
		}
		return fmt.Sprintf("%s offers %s", reply.name(), count(len(reply.Keywords()), "keyword")), nil
	})
}

func (s *session) starttls() bool {
	return s.step("STARTTLS", func() (string, *Finding) {
		if !s.out.EHLOPlain.has("STARTTLS") {
			return "", &Finding{Level: Fail, ID: "starttls_missing", Text: "the server does not offer STARTTLS: mail and passwords would go in plain text",
				Mend: "switch TLS on in the server (Postfix: smtpd_tls_security_level = may), or put smtp-tlsproxy in front of it"}
		}
		g, err := s.link.say("STARTTLS", maxReply)
		if err != nil {
			s.broken = true
			return "", s.replyFault("STARTTLS", g.Text, err)
		}
		reply := replyOf(g)
		if g.Code != 220 {
			return reply.String(), &Finding{Level: Fail, ID: "starttls_refused", Text: fmt.Sprintf("the server offers STARTTLS and then refuses it: %s", reply),
				Mend: "look into the server's log: with 454 it most often can not read its certificate or key"}
		}
		return reply.String(), nil
	})
}

// quit takes leave. A server that hangs up in place of a reply is fine.
func (s *session) quit() {
	s.step("QUIT", func() (string, *Finding) {
		g, err := s.link.say("QUIT", maxReply)
		if err != nil {
			return "the server closed the connection without a reply", nil
		}
		return replyOf(g).String(), nil
	})
}

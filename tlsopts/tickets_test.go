package tlsopts_test

import (
	"crypto/tls"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/tlsopts"
)

func TestR34_NoTicketsByDefault(t *testing.T) {
	for _, version := range bothVersions {
		server := site{clock: newClock(), folders: []string{"a.example"}}.config(t, nil)
		var p pocket
		for range 2 {
			if (visitor{name: "a.example", version: version}).visit(t, server, &p) {
				t.Errorf("%s: resumed", tls.VersionName(version))
			}
		}
		if p.got > 0 {
			t.Errorf("%s: %d tickets", tls.VersionName(version), p.got)
		}
	}
}

// TestR34_TicketsAreBound shows where a ticket of a.example resumes.
func TestR34_TicketsAreBound(t *testing.T) {
	clock := newClock()
	f := newClientFixture(t)
	file := secretFile(t, secretOne)
	home := site{clock: clock, context: "submission", folders: []string{"default.example", "a.example", "b.example"}}
	with := func(change func(*site)) site {
		other := home
		change(&other)
		return other
	}
	request := func(auth tlsopts.ClientAuth) site {
		return with(func(s *site) { s.auth = auth })
	}
	tests := map[string]struct {
		at    site
		name  string
		wants bool
	}{
		"same":            {home, "a.example", true},
		"upper case":      {home, "A.Example", true},
		"other name":      {home, "b.example", false},
		"no name":         {home, "", false},
		"unknown name":    {home, "unknown.example", false},
		"hostile name":    {home, "../a.example", false},
		"other context":   {with(func(s *site) { s.context = "mx" }), "a.example", false},
		"no context":      {with(func(s *site) { s.context = "" }), "a.example", false},
		"folder removed":  {with(func(s *site) { s.folders = []string{"default.example", "b.example"} }), "a.example", false},
		"other default":   {with(func(s *site) { s.folders = []string{"a.example"} }), "b.example", false},
		"request":         {request(tlsopts.ClientAuth{Mode: tlsopts.ClientAuthRequest}), "a.example", false},
		"request with CA": {request(tlsopts.ClientAuth{Mode: tlsopts.ClientAuthRequest, CA: f.ca}), "a.example", false},
		"mode none":       {request(tlsopts.ClientAuth{Mode: tlsopts.ClientAuthNone, CA: f.ca}), "a.example", true},
	}
	for _, version := range bothVersions {
		var p pocket
		tickets := openTickets(t, tlsopts.TicketOptions{SecretFile: file, Time: clock.now})
		if (visitor{name: "a.example", version: version, clock: clock}).visit(t, home.config(t, tickets), &p) || p.got == 0 {
			t.Fatalf("%s: %d tickets of a full handshake", tls.VersionName(version), p.got)
		}
		for name, tt := range tests {
			got := (visitor{name: tt.name, version: version, clock: clock}).visit(t, tt.at.config(t, tickets), p.frozen())
			if got != tt.wants {
				t.Errorf("%s, %s: resumed %v", tls.VersionName(version), name, got)
			}
		}
	}
}

// TestR34_DefaultDoesNotMixNames shows that names which the same folder serves
// are kept apart, too.
func TestR34_DefaultDoesNotMixNames(t *testing.T) {
	clock := newClock()
	tickets := openTickets(t, tlsopts.TicketOptions{Time: clock.now})
	server := site{clock: clock, folders: []string{"default.example"}}.config(t, tickets)
	for _, version := range bothVersions {
		var p pocket
		v := visitor{name: "x.example", version: version, clock: clock}
		v.visit(t, server, &p)
		if !v.visit(t, server, p.frozen()) {
			t.Errorf("%s: not resumed under its name", tls.VersionName(version))
		}
		for _, v.name = range []string{"y.example", ""} {
			if v.visit(t, server, p.frozen()) {
				t.Errorf("%s: resumed under %q", tls.VersionName(version), v.name)
			}
		}
	}
}

// TestR36_ClientAuthOfTickets shows that what is known of a client survives
// resumption, and that other settings end it.
func TestR36_ClientAuthOfTickets(t *testing.T) {
	f := newClientFixture(t)
	clock := &clock{}
	clock.nanoseconds.Store(time.Now().UnixNano()) // certificates have dates
	tickets := openTickets(t, tlsopts.TicketOptions{Time: clock.now})
	otherCA, err := tlsopts.ParseAuthorities(signCA(t, "another", nil).pem())
	noErr(t, err)
	at := func(auth tlsopts.ClientAuth) site {
		return site{clock: clock, folders: []string{"a.example"}, auth: auth}
	}
	pins := []tlsopts.Pin{f.pinKnown, f.pinSelf}
	auth := tlsopts.ClientAuth{Mode: tlsopts.ClientAuthRequest, CA: f.ca, Pins: pins}
	for _, version := range bothVersions {
		v := visitor{name: "a.example", version: version, clock: clock, cert: f.clients["known"]}
		var p pocket
		v.visit(t, at(auth).config(t, tickets), &p)
		same := auth
		same.Pins = []tlsopts.Pin{f.pinSelf, f.pinKnown, f.pinSelf}
		state, resumed := v.visitState(t, at(same).config(t, tickets), p.frozen())
		if id := auth.Identify(state); !resumed || id != (tlsopts.ClientIdentity{Presented: true, Verified: true, CommonName: "known"}) {
			t.Errorf("%s: resumed %v as %+v", tls.VersionName(version), resumed, id)
		}
		for name, other := range map[string]tlsopts.ClientAuth{
			"other pins": {Mode: auth.Mode, CA: f.ca, Pins: pins[:1]}, "no pins": {Mode: auth.Mode, CA: f.ca},
			"other CA": {Mode: auth.Mode, CA: otherCA, Pins: pins}, "no CA": {Mode: auth.Mode, Pins: pins},
			"other mode": {Mode: tlsopts.ClientAuthRequireAny, CA: f.ca, Pins: pins}, "none": {},
			"require": {Mode: tlsopts.ClientAuthRequire, CA: f.ca, Pins: pins},
		} {
			if v.visit(t, at(other).config(t, tickets), p.frozen()) {
				t.Errorf("%s, %s: resumed", tls.VersionName(version), name)
			}
		}
	}
}

func TestTicketsOfReplicas(t *testing.T) {
	const hour = time.Hour
	tests := map[string]struct {
		rotate, later, ahead time.Duration
		secrets              []string // of the second replica
		want                 bool
	}{
		"same secret":         {hour, 0, 0, []string{secretOne}, true},
		"end of the step":     {hour, hour - time.Second, 0, []string{secretOne}, true},
		"one rotation":        {hour, hour, 0, []string{secretOne}, true},
		"end of the second":   {hour, 2*hour - time.Second, 0, []string{secretOne}, true},
		"two rotations":       {hour, 2 * hour, 0, []string{secretOne}, false},
		"clock behind":        {hour, 0, -time.Minute, []string{secretOne}, true},
		"clock far behind":    {hour, 0, -hour - time.Minute, []string{secretOne}, false},
		"other secret":        {hour, 0, 0, []string{secretTwo}, false},
		"new secret first":    {hour, 0, 0, []string{secretTwo, secretOne}, true},
		"new one second":      {hour, 0, 0, []string{secretOne, secretTwo}, true},
		"default rotation":    {0, 12 * hour, 0, []string{secretOne}, true},
		"second default step": {0, 24*hour - time.Second, 0, []string{secretOne}, true},
	}
	for name, tt := range tests {
		for _, version := range bothVersions {
			clock := newClock()
			s := site{clock: clock, folders: []string{"a.example"}}
			v := visitor{name: "a.example", version: version, clock: clock}
			options := tlsopts.TicketOptions{SecretFile: secretFile(t, secretOne), Rotate: tt.rotate, Time: clock.now}
			first := openTickets(t, options)
			options.SecretFile = secretFile(t, tt.secrets...)
			second := openTickets(t, options)
			var p pocket
			v.visit(t, s.config(t, first), &p)
			clock.advance(tt.later + tt.ahead)
			if got := v.visit(t, s.config(t, second), &p); got != tt.want {
				t.Errorf("%s, %s: resumed %v", tls.VersionName(version), name, got)
			}
		}
	}
}

// TestTicketsOfOtherRotation shows that replicas which do not rotate together
// do not resume by chance.
func TestTicketsOfOtherRotation(t *testing.T) {
	clock := &clock{} // in 1970 the steps of all lengths have the same number
	s := site{clock: clock, folders: []string{"a.example"}}
	v := visitor{name: "a.example", version: tls.VersionTLS13, clock: clock}
	options := tlsopts.TicketOptions{SecretFile: secretFile(t, secretOne), Time: clock.now}
	var p pocket
	v.visit(t, s.config(t, openTickets(t, options)), &p)
	options.Rotate = time.Hour
	if v.visit(t, s.config(t, openTickets(t, options)), &p) {
		t.Error("resumed")
	}
}

// TestTicketLifetime shows that resumption does not lengthen a session's life.
func TestTicketLifetime(t *testing.T) {
	for _, lifetime := range []time.Duration{0, 30 * time.Hour} {
		want := lifetime
		if want == 0 {
			want = 24 * time.Hour
		}
		for _, version := range bothVersions {
			clock := newClock()
			tickets := openTickets(t, tlsopts.TicketOptions{Lifetime: lifetime, Time: clock.now})
			server := site{clock: clock, folders: []string{"a.example"}}.config(t, tickets)
			v := visitor{name: "a.example", version: version, clock: clock}
			var p pocket
			v.visit(t, server, &p)
			const step = 5 * time.Hour
			age := time.Duration(0)
			for ; age+step < want; age += step {
				clock.advance(step)
				before := p.got
				if !v.visit(t, server, &p) {
					t.Fatalf("%s: not resumed after %s", tls.VersionName(version), age+step)
				}
				if p.got == before {
					t.Fatalf("%s: no new ticket on resumption", tls.VersionName(version))
				}
			}
			clock.advance(want - age - time.Second)
			if !v.visit(t, server, p.frozen()) {
				t.Errorf("%s: not resumed a second before %s", tls.VersionName(version), want)
			}
			clock.advance(time.Second)
			if v.visit(t, server, &p) {
				t.Errorf("%s: resumed at %s", tls.VersionName(version), want)
			}
			if !v.visit(t, server, &p) {
				t.Errorf("%s: not resumed after the new full handshake", tls.VersionName(version))
			}
		}
	}
}

// TestTamperedTickets changes each byte of a ticket, cuts it and empties it.
func TestTamperedTickets(t *testing.T) {
	clock := newClock()
	tickets := openTickets(t, tlsopts.TicketOptions{Time: clock.now})
	server := site{clock: clock, folders: []string{"a.example"}}.config(t, tickets)
	for _, version := range bothVersions {
		v := visitor{name: "a.example", version: version, clock: clock}
		var p pocket
		v.visit(t, server, &p)
		good, _, err := p.state.ResumptionState()
		noErr(t, err)
		resumed := func(ticket []byte) bool {
			_, state, err := p.state.ResumptionState()
			noErr(t, err)
			encoded, err := state.Bytes()
			noErr(t, err)
			copied, err := tls.ParseSessionState(encoded)
			noErr(t, err)
			changed, err := tls.NewResumptionState(ticket, copied)
			noErr(t, err)
			return v.visit(t, server, &pocket{state: changed, keep: true})
		}
		if !resumed(good) {
			t.Fatalf("%s: not resumed with the good ticket", tls.VersionName(version))
		}
		for i := range good {
			bad := append([]byte(nil), good...)
			bad[i] ^= 1 << (i % 8)
			if resumed(bad) {
				t.Errorf("%s: resumed with byte %d changed", tls.VersionName(version), i)
			}
		}
		for _, n := range []int{1, 16, 17, 18, 44, 45, len(good) - 1} {
			if resumed(good[:n]) {
				t.Errorf("%s: resumed with %d bytes", tls.VersionName(version), n)
			}
		}
		if resumed(append(append([]byte(nil), good...), 0)) || resumed(make([]byte, 60000)) {
			t.Errorf("%s: resumed with more bytes", tls.VersionName(version))
		}
	}
}

// TestTicketsOnOneConfig shows that a single configuration can ask for itself,
// and clones too, and that without asking nothing resumes, but all works.
func TestTicketsOnOneConfig(t *testing.T) {
	for _, version := range bothVersions {
		tickets := openTickets(t, tlsopts.TicketOptions{})
		bare := &tls.Config{Certificates: []tls.Certificate{*pairOf(t, "P-256")}}
		bound := tickets.Bind(bare, tlsopts.Binding{})
		config, clone := bare.Clone(), bare.Clone()
		config.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			return bound.ForClient(clone, hello), nil
		}
		v := visitor{name: "a.example", version: version}
		var p pocket
		for i := range 3 {
			if got := v.visit(t, config, &p); got != (i > 0) {
				t.Errorf("%s: visit %d: resumed %v", tls.VersionName(version), i+1, got)
			}
		}
		for range 2 {
			if v.visit(t, bare, p.frozen()) {
				t.Errorf("%s: resumed under a configuration that knows no session's age", tls.VersionName(version))
			}
		}
	}
}

// TestForClientShares shows that only a client with a ticket costs a copy.
func TestForClientShares(t *testing.T) {
	config := &tls.Config{}
	bound := openTickets(t, tlsopts.TicketOptions{}).Bind(config, tlsopts.Binding{})
	const sessionTicket, preSharedKey = 35, 41
	for name, tt := range map[string]struct {
		version    uint16
		extensions []uint16
		copied     bool
	}{
		"TLS 1.3":              {tls.VersionTLS13, []uint16{0, sessionTicket}, false},
		"TLS 1.3 with ticket":  {tls.VersionTLS13, []uint16{0, sessionTicket, preSharedKey}, true},
		"TLS 1.2":              {tls.VersionTLS12, []uint16{0}, false},
		"TLS 1.2 with tickets": {tls.VersionTLS12, []uint16{0, sessionTicket}, true},
	} {
		got := bound.ForClient(config, &tls.ClientHelloInfo{SupportedVersions: []uint16{tt.version}, Extensions: tt.extensions})
		if (got != config) != tt.copied {
			t.Errorf("%s: a copy is %v", name, got != config)
		}
	}
}

// TestR35_OuterWithoutTickets shows finding A4 of crypto/tls, which Bind is
// safe from: an inner configuration with tickets under an outer one without.
func TestR35_OuterWithoutTickets(t *testing.T) {
	for _, version := range bothVersions {
		inner := &tls.Config{Certificates: []tls.Certificate{*pairOf(t, "P-256")}}
		var bound *tlsopts.BoundTickets
		outer := &tls.Config{SessionTicketsDisabled: true, GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			if bound != nil {
				return bound.ForClient(inner, hello), nil
			}
			return inner, nil
		}}
		client := &tls.Config{InsecureSkipVerify: true, MaxVersion: version, ClientSessionCache: &pocket{}}
		if _, _, err, _ := converse(t, outer, client); err == nil || !strings.Contains(err.Error(), "session ticket keys unavailable") {
			t.Errorf("%s: error %v: crypto/tls has changed, see Bind", tls.VersionName(version), err)
		}
		bound = openTickets(t, tlsopts.TicketOptions{}).Bind(inner, tlsopts.Binding{})
		v := visitor{name: "a.example", version: version}
		var p pocket
		if v.visit(t, outer, &p) || !v.visit(t, outer, &p) {
			t.Errorf("%s: not resumed", tls.VersionName(version))
		}
	}
}

// TestLargeSessions shows that a client with a chain too large for a ticket is
// served without one.
func TestLargeSessions(t *testing.T) {
	leaf := signLeaf(t, nil, "P-256", "large.example")
	pair := &tls.Certificate{Certificate: [][]byte{leaf.cert.Raw}, PrivateKey: leaf.key}
	for size := 0; size < 50<<10; size += len(leaf.cert.Raw) {
		pair.Certificate = append(pair.Certificate, leaf.cert.Raw)
	}
	server := site{clock: newClock(), folders: []string{"a.example"}, auth: tlsopts.ClientAuth{Mode: tlsopts.ClientAuthRequest}}.config(t, openTickets(t, tlsopts.TicketOptions{}))
	for _, version := range bothVersions {
		v := visitor{name: "a.example", version: version, cert: pair}
		var p pocket
		for range 2 {
			if v.visit(t, server, &p) {
				t.Errorf("%s: resumed", tls.VersionName(version))
			}
		}
	}
}

// TestTicketsInParallel is for the race detector: handshakes while steps end
// and secrets change.
func TestTicketsInParallel(t *testing.T) {
	clock := newClock()
	file := secretFile(t, secretOne)
	tickets := openTickets(t, tlsopts.TicketOptions{SecretFile: file, Rotate: time.Minute, Time: clock.now})
	server := site{clock: clock, folders: []string{"a.example"}}.config(t, tickets)
	stop := make(chan struct{})
	var moving sync.WaitGroup
	moving.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			clock.advance(20 * time.Millisecond)
			if err := os.WriteFile(file, []byte([]string{secretOne, secretTwo}[i%2]+"\n"), 0o600); err != nil {
				t.Error(err)
			}
			if err := tickets.Reload(); err != nil {
				t.Error(err)
			}
		}
	})
	t.Run("clients", func(t *testing.T) {
		for i := range 4 {
			t.Run("", func(t *testing.T) {
				t.Parallel()
				v := visitor{name: "a.example", version: bothVersions[i%2], clock: clock}
				var p pocket
				for range 25 {
					v.visit(t, server, &p)
				}
			})
		}
	})
	close(stop)
	moving.Wait()
}

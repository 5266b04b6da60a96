package tlsopts

import (
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

const (
	defaultRotate   = 12 * time.Hour
	defaultLifetime = 24 * time.Hour
	defaultPoll     = 10 * time.Second
	// minRotate keeps replicas whose clocks differ by some seconds together.
	minRotate = time.Minute
	// maxLifetime is that of RFC 8446 section 4.6.1, which crypto/tls enforces.
	maxLifetime = 7 * 24 * time.Hour
)

// TicketOptions are the settings for session tickets. The zero value resumes
// sessions in this process only.
type TicketOptions struct {
	// SecretFile has the secrets from which the keys are derived; with the same
	// file and Rotate, replicas resume each other's sessions. A secret is a
	// line of text of at least 48 characters, best of "openssl rand -base64 48".
	// The first line encrypts and all decrypt, as with nginx's
	// ssl_session_ticket_key: put a new secret first on all replicas, and
	// remove the old one when Lifetime is over. Empty lines and lines that
	// begin with "#" mean nothing.
	//
	// A file that is not text is one secret of at least 48 bytes; those of 48
	// or 80 that nginx, Apache and Node.js use will do.
	//
	// With no name a random secret is made that lives as long as the process.
	SecretFile string

	// Rotate is the time step in which keys change, counted from 1970, at least
	// one minute. The keys of the step before decrypt, too, so that a ticket is
	// good for at least one step and at most two; and those of the step after,
	// for replicas whose clock is ahead. The default is 12 hours.
	Rotate time.Duration

	// Lifetime is how long sessions resume, counted from the full handshake
	// however often they are resumed; at most 7 days (RFC 8446 section 4.6.1).
	// A ticket that was issued on resumption ends with the first one's time.
	// The default is 24 hours. Clients are told 7 days: crypto/tls has no way
	// to tell them less, and they lose but a few bytes by it.
	Lifetime time.Duration

	// Poll is how often SecretFile is looked at. The default is 10 seconds;
	// negative is never, but for Reload.
	Poll time.Duration

	// Changed is told how many secrets there are now that SecretFile changed.
	// Failed is told why it cannot be used, once for each text; what was read
	// last stays in use. Both are called from a goroutine of their own, Changed
	// also from that of Reload. Either may be nil.
	Changed func(secrets int)
	Failed  func(err error)

	// Time is the clock; nil is time.Now. Tests move it.
	Time func() time.Time
}

// Tickets lets sessions resume in the configurations that Bind is called for.
// It is safe for concurrent use. The caller of OpenTickets closes it.
//
// A ticket is encrypted and authenticated with AES-256-GCM under a key that
// HKDF-SHA256 derives from a secret and the time step. crypto/tls's own ticket
// keys are never used.
type Tickets struct {
	options  TicketOptions
	rotate   time.Duration
	lifetime time.Duration
	now      func() time.Time

	secrets atomic.Pointer[secretSet]
	ring    atomic.Pointer[keyring]

	reading    sync.Mutex
	stop       chan struct{}
	closing    sync.Once
	background sync.WaitGroup
}

// OpenTickets reads the secrets and begins to watch their file.
func OpenTickets(o TicketOptions) (*Tickets, error) {
	t := &Tickets{options: o, rotate: o.Rotate, lifetime: o.Lifetime, now: o.Time, stop: make(chan struct{})}
	if t.rotate == 0 {
		t.rotate = defaultRotate
	}
	if t.lifetime == 0 {
		t.lifetime = defaultLifetime
	}
	if t.now == nil {
		t.now = time.Now
	}
	switch {
	case t.rotate < minRotate:
		return nil, fmt.Errorf("session_tickets: rotate %s is below %s", t.rotate, minRotate)
	case t.lifetime < time.Second || t.lifetime > maxLifetime:
		return nil, fmt.Errorf("session_tickets: lifetime %s is not between 1s and %s (RFC 8446 section 4.6.1)", t.lifetime, maxLifetime)
	}
	if o.SecretFile == "" {
		secret := make([]byte, minTicketSecret)
		_, _ = rand.Read(secret) // never fails
		t.secrets.Store(&secretSet{secrets: [][]byte{secret}})
		return t, nil
	}
	if _, err := t.reload(); err != nil {
		return nil, err
	}
	if poll := o.Poll; poll >= 0 {
		if poll == 0 {
			poll = defaultPoll
		}
		t.background.Go(func() { t.watch(poll) })
	}
	return t, nil
}

// Reload reads SecretFile now. With an error what was read last stays in use.
func (t *Tickets) Reload() error {
	changed, err := t.reload()
	if changed && t.options.Changed != nil {
		t.options.Changed(len(t.secrets.Load().secrets))
	}
	return err
}

// Close ends the watching and waits until it has ended. Configurations that
// are bound go on to work with the secrets read last. Further calls do nothing.
func (t *Tickets) Close() error {
	t.closing.Do(func() { close(t.stop) })
	t.background.Wait()
	return nil
}

func (t *Tickets) watch(poll time.Duration) {
	ticker := time.NewTicker(poll)
	defer ticker.Stop()
	told := ""
	for {
		select {
		case <-t.stop:
			return
		case <-ticker.C:
		}
		err := t.Reload()
		if err == nil {
			told = ""
			continue
		}
		if text := err.Error(); text != told {
			told = text
			if t.options.Failed != nil {
				t.options.Failed(err)
			}
		}
	}
}

// reload compares content, not times: a volume may keep those, and the file is
// small. It tells whether the secrets are others.
func (t *Tickets) reload() (changed bool, err error) {
	if t.options.SecretFile == "" {
		return false, nil
	}
	t.reading.Lock()
	defer t.reading.Unlock()
	data, err := readSecretFile(t.options.SecretFile)
	if err != nil {
		return false, fmt.Errorf("session_tickets: secret_file: %w", err)
	}
	sum := sha256.Sum256(data)
	if old := t.secrets.Load(); old != nil && old.sum == sum {
		return false, nil
	}
	secrets, err := parseTicketSecrets(data)
	if err != nil {
		return false, fmt.Errorf("session_tickets: secret_file %s: %w", t.options.SecretFile, err)
	}
	t.secrets.Store(&secretSet{secrets: secrets, sum: sum})
	return true, nil
}

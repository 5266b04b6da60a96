package limit

// MaxRemembered is for the tests of the bound.
const MaxRemembered = maxRemembered

// Clients is how many have a connection.
func (l *Limiter) Clients() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.clients)
}

// Remembered is how many clients have a rate.
func (l *Limiter) Remembered() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.recent.current) + len(l.recent.before)
}

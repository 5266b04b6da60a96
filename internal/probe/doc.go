// Package probe connects to a mail server as a mail client does, and tells what
// it found: each step with the time that it took, the TLS session, the
// certificates and whether a client accepts them, what EHLO offers before and
// under TLS, and what to mend.
//
//	report := probe.Run(ctx, probe.Options{Host: "mail.example.com", Port: "465"})
//
// It never sends mail or credentials, and takes its leave with QUIT. Texts of the
// server's come escaped and cut in all that it returns; replies, certificates and
// waiting are bounded. It prints nothing. Run may be called from any number of
// goroutines.
//
// It validates no DNSSEC and fetches no MTA-STS policy. Whoever uses DANE compares
// the TLSA data that a Certificate has.
package probe

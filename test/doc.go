// Package test holds the integration tests: the built program between real
// clients (swaks, openssl s_client, sslscan, testssl.sh) and real servers
// (Postfix, Exim, Dovecot, OpenSMTPD, Haraka, smtp-server, aiosmtpd), each a process
// of its own on loopback or in a network namespace that the test makes.
//
// The script test/install brings what they need. A test whose program is
// missing is skipped, unless TLSPROXY_INTEGRATION=required is set, as
// `make test` does where it may install; then it fails.
package test

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/spf13/cobra"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/config"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/escape"
)

func healthcheckCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "healthcheck",
		Short: "Ask the running proxy whether it is ready",
		Long: `Ask the proxy that runs on this machine, or in this container, whether it is
ready: its page /readyz, at the address that the environment or the
configuration file gives as admin.address. The exit code is 0 if it is and 1 if
not, with a line that says why. It is for images without a shell and curl.
What else the file says does not count: a fault in it ends no proxy that runs.`,
		Args: cobra.NoArgs,
	}
	configured := configFlag(c)
	address := c.Flags().String("admin", "", "the `ADDRESS` to ask, host:port, in place of admin.address")
	timeout := c.Flags().Duration("timeout", 3*time.Second, "how long to wait")
	c.RunE = doing(func(c *cobra.Command) error {
		if *address == "" {
			from, err := configured()
			if err != nil {
				return err
			}
			*address = config.AdminAddress(from.file, from.env)
		}
		ctx, cancel := context.WithTimeout(c.Context(), *timeout)
		defer cancel()
		if err := askReady(ctx, *address); err != nil {
			return err
		}
		_, err := fmt.Fprintf(c.OutOrStdout(), "%s is ready\n", *address)
		return err
	})
	return c
}

// maxAnswer is more than /readyz ever says.
const maxAnswer = 64 << 10

// askReady returns nil where the proxy at an address says that it is ready.
func askReady(ctx context.Context, address string) error {
	addresses, err := adminAddresses(address)
	if err != nil {
		return err
	}
	client := &http.Client{
		// No proxy of the environment, and nothing kept open.
		Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialFirst(ctx, addresses)
		}},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addresses[0]+"/readyz", nil)
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%s does not answer in time", address)
	case err != nil:
		return fmt.Errorf("%s does not answer: %w", address, errors.Unwrap(err)) // which repeats the address
	}
	defer response.Body.Close()
	var answer struct {
		Ready  bool   `json:"ready"`
		Reason string `json:"reason"`
	}
	err = json.NewDecoder(io.LimitReader(response.Body, maxAnswer)).Decode(&answer)
	switch {
	case response.StatusCode == http.StatusOK && err == nil && answer.Ready:
		return nil
	case response.StatusCode == http.StatusServiceUnavailable && err == nil:
		return fmt.Errorf("%s is not ready: %s", address, escape.Field(answer.Reason))
	}
	return fmt.Errorf("%s does not answer as smtp-tlsproxy does (HTTP status %d): name its admin.address with --admin", address, response.StatusCode)
}

// adminAddresses are where a listening address can be reached from here.
func adminAddresses(address string) ([]string, error) {
	if address == config.AdminOff {
		return nil, errors.New("admin.address is off: there is nothing to ask")
	}
	if _, systemd := config.SystemdName(address); systemd {
		return nil, fmt.Errorf("admin.address is %s: name the address of the socket with --admin", address)
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("admin address %q: want host:port", escape.Field(address))
	}
	ip, err := netip.ParseAddr(host)
	if host == "" || err == nil && ip.IsUnspecified() { // every interface, IPv4 and IPv6
		return []string{net.JoinHostPort("127.0.0.1", port), net.JoinHostPort("::1", port)}, nil
	}
	return []string{address}, nil
}

// dialFirst connects to the first address that takes it.
func dialFirst(ctx context.Context, addresses []string) (conn net.Conn, err error) {
	for _, address := range addresses {
		var each error
		if conn, each = new(net.Dialer).DialContext(ctx, "tcp", address); each == nil {
			return conn, nil
		}
		if err == nil { // the first says most
			err = each
		}
	}
	return nil, err
}

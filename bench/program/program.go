// Package program has what the benches need of the program that they measure.
package program

import (
	"context"
	"errors"
	"net"
	"net/http"
	"time"
)

// FreeAddress is one on loopback that nobody listens on.
func FreeAddress() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return listener.Addr().String(), listener.Close()
}

// FreeAddresses sets each to one.
func FreeAddresses(all ...*string) (err error) {
	for _, each := range all {
		if *each, err = FreeAddress(); err != nil {
			return err
		}
	}
	return nil
}

// readyWithin is how long the program may take to start.
const readyWithin = 10 * time.Second

// WaitReady waits until the program with that admin address is ready.
func WaitReady(admin string) error {
	ctx, cancel := context.WithTimeout(context.Background(), readyWithin)
	defer cancel()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}} // it leaves nothing open
	for {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+admin+"/readyz", nil)
		if err != nil {
			return err
		}
		if response, err := client.Do(request); err == nil {
			_ = response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return errors.New("the proxy does not get ready")
		case <-time.After(20 * time.Millisecond):
		}
	}
}

package proxy

import (
	"context"
	"net"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/backend"
)

// newPool makes the pool of a backend, not in service yet.
func newPool(b Backend, events backend.Events) (*backend.Pool, error) {
	format := headerFormat(b)
	return backend.New(backend.Config{
		Name:           b.Name,
		Addresses:      b.Addresses,
		ConnectTimeout: b.ConnectTimeout,
		Events:         events,
		Check: func(ctx context.Context, conn net.Conn) (any, error) {
			return probe(ctx, conn, format)
		},
	})
}

package admin

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// The bounds on a client of the admin address, so that a port scan or a stuck
// scraper cannot pile up connections.
const (
	readHeaderTimeout = 5 * time.Second
	readTimeout       = 10 * time.Second
	writeTimeout      = 30 * time.Second // above scrapeTimeout, which has an answer to give
	idleTimeout       = 2 * time.Minute  // above the usual scrape intervals
	maxHeaderBytes    = 16 << 10
)

// Server serves the pages of [New] over HTTP.
type Server struct{ http http.Server }

// NewServer returns a server of the pages for config.
func NewServer(config Config) *Server {
	return &Server{http.Server{
		Handler:           New(config),
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(config.logger().Handler(), slog.LevelWarn),
	}}
}

// Serve answers the connections of l until [Server.Shutdown] or [Server.Close],
// then returns [http.ErrServerClosed]. It closes l. The error is never nil.
func (s *Server) Serve(l net.Listener) error { return s.http.Serve(l) }

// Shutdown stops accepting and waits for the requests under way, until ctx is
// done.
func (s *Server) Shutdown(ctx context.Context) error { return s.http.Shutdown(ctx) }

// Close ends everything at once.
func (s *Server) Close() error { return s.http.Close() }

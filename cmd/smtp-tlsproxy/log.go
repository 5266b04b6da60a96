package main

import (
	"context"
	"io"
	"log/slog"
	"sync/atomic"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/config"
)

// logging is a logger whose level and format follow the configuration.
type logging struct {
	*slog.Logger
	level  slog.LevelVar
	asJSON atomic.Bool
}

func newLogging(out io.Writer) *logging {
	l := &logging{}
	options := &slog.HandlerOptions{Level: &l.level}
	l.Logger = slog.New(&handler{
		asJSON: &l.asJSON,
		text:   slog.NewTextHandler(out, options),
		json:   slog.NewJSONHandler(out, options),
	})
	return l
}

// follow takes on what the configuration says.
func (l *logging) follow(c config.Log) {
	l.level.Set(c.Level)
	l.asJSON.Store(c.Format == "json")
}

// handler writes in one of two formats.
type handler struct {
	asJSON     *atomic.Bool
	text, json slog.Handler
}

func (h *handler) chosen() slog.Handler {
	if h.asJSON.Load() {
		return h.json
	}
	return h.text
}

func (h *handler) Enabled(ctx context.Context, level slog.Level) bool {
	return h.chosen().Enabled(ctx, level)
}

func (h *handler) Handle(ctx context.Context, r slog.Record) error {
	return h.chosen().Handle(ctx, r)
}

func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &handler{h.asJSON, h.text.WithAttrs(attrs), h.json.WithAttrs(attrs)}
}

func (h *handler) WithGroup(name string) slog.Handler {
	return &handler{h.asJSON, h.text.WithGroup(name), h.json.WithGroup(name)}
}

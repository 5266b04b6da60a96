package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/metrics"
)

// version is set by the linker for a release: -ldflags "-X main.version=v1.0.0".
var version string

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version, the commit and the Go release",
		Args:  cobra.NoArgs,
		RunE: doing(func(c *cobra.Command) error {
			b := build()
			_, err := fmt.Fprintf(c.OutOrStdout(), "smtp-tlsproxy %s\ncommit  %s\nbuilt with %s for %s/%s\n",
				b.Version, b.Revision, runtime.Version(), runtime.GOOS, runtime.GOARCH)
			return err
		}),
	}
}

// build tells which program this is, as far as the Go tool noted it.
func build() metrics.Build {
	b := metrics.Build{Version: version, Revision: "unknown"}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	if b.Version == "" {
		b.Version = info.Main.Version
	}
	changed := ""
	for _, setting := range info.Settings {
		switch setting.Key {
		case "vcs.revision":
			b.Revision = setting.Value
		case "vcs.modified":
			if setting.Value == "true" {
				changed = "-changed"
			}
		}
	}
	b.Revision += changed
	return b
}

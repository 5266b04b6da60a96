package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/metrics"
)

// Both are set by the linker for a release, as with -ldflags "-X main.version=v1.0.0":
// an image or an unpacked archive is built without the repository from which
// the Go tool would take them.
var version, revision string

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
	b := metrics.Build{Version: version, Revision: revision}
	info, ok := debug.ReadBuildInfo()
	if b.Version == "" && ok {
		b.Version = info.Main.Version
	}
	if b.Revision == "" && ok {
		b.Revision = noted(info)
	}
	if b.Revision == "" {
		b.Revision = "unknown"
	}
	return b
}

// noted is the commit that the Go tool found, "" where it looked for none.
func noted(info *debug.BuildInfo) string {
	commit, changed := "", ""
	for _, setting := range info.Settings {
		switch setting.Key {
		case "vcs.revision":
			commit = setting.Value
		case "vcs.modified":
			if setting.Value == "true" {
				changed = "-changed"
			}
		}
	}
	return commit + changed
}

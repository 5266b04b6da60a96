package main

import (
	"errors"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/config"
)

// defaultFile is the configuration file where none is named.
const defaultFile = "/etc/smtp-tlsproxy/config.yaml"

// source is where the configuration is from: a file, what the environment says
// over it, or that alone.
type source struct {
	file string // "" for none
	env  config.Environment
}

// configFlag adds --config to a command, and returns what finds the source once
// the flags are read.
func configFlag(c *cobra.Command) func() (source, error) {
	file := c.Flags().StringP("config", "c", defaultFile, "the configuration `FILE`")
	return func() (source, error) {
		env, err := config.ParseEnvironment(os.Environ())
		if err != nil {
			return source{}, err
		}
		return sourceOf(*file, c.Flags().Changed("config"), env), nil
	}
}

// sourceOf takes the flag before the environment, and the environment alone
// where it is enough and nobody put a file in the default's place.
func sourceOf(file string, named bool, env config.Environment) source {
	if !named && env.File() != "" {
		file, named = env.File(), true
	}
	if _, err := os.Stat(file); !named && env.StandsAlone() && errors.Is(err, fs.ErrNotExist) {
		file = ""
	}
	return source{file, env}
}

func (s source) load() (*config.Config, error) { return config.LoadWith(s.file, s.env) }

// String is for logs.
func (s source) String() string {
	if s.file == "" {
		return "the environment"
	}
	return s.file
}

// files are those to follow before anything is read.
func (s source) files() []string {
	if s.file == "" {
		return nil
	}
	return []string{s.file}
}

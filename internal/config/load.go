package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxFileSize is far above any real file and bounds what a wrong path (a log,
// a disk image) makes us read.
const maxFileSize = 1 << 20

// Load reads and checks a configuration file. What is wrong in the file comes
// back as [Faults]; a file that does not exist as an error that wraps
// [fs.ErrNotExist].
func Load(file string) (*Config, error) { return LoadWith(file, nil) }

// LoadWith is Load with an environment, which counts before the file. With no
// file at all, "", the environment has to stand alone.
func LoadWith(file string, env Environment) (*Config, error) {
	if file == "" {
		return parse("", nil, env)
	}
	data, err := readFile(file)
	if err != nil {
		return nil, err
	}
	return parse(file, data, env)
}

// AdminAddress is the admin.address of an environment and a file, and passes
// over every fault: whether a running proxy is well does not depend on what has
// become of its file since. Where none is to be found it is the default.
func AdminAddress(file string, env Environment) string {
	if address := env[varAdmin]; address != "" {
		return address
	}
	if data, err := readFile(file); err == nil {
		if address := adminAddress(data); address != "" {
			return address
		}
	}
	return defaults().Admin.Address
}

func readFile(file string) ([]byte, error) {
	// Looked at before it is opened: opening a named pipe waits for a writer.
	info, err := os.Stat(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: name the configuration file with --config (config.example.yaml is one to start from), or do without one and name the mail server: %s%s=host:port",
			err, Prefix, varBackend)
	}
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file: name the configuration file itself", file)
	}
	if err := checkWritable(file, info); err != nil {
		return nil, err
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxFileSize+1))
}

// Parse checks the content of a configuration file. The name is put into
// faults, and its folder is what a relative certificates.directory stands in.
// An error is always of type [Faults].
func Parse(file string, data []byte) (*Config, error) { return parse(file, data, nil) }

func parse(file string, data []byte, env Environment) (*Config, error) {
	if line, text := unreadable(data); text != "" {
		return nil, Faults{{File: file, Line: line, Text: text}}
	}
	s := &source{file: file, origins: make(map[any]origin)}
	cfg := defaults()
	cfg.source = s
	alone := file == "" && env.StandsAlone()
	if alone || s.decode(data, cfg) {
		s.apply(env, cfg, alone)
		s.complete(cfg)
		s.check(cfg)
	} else if len(s.faults) == 0 {
		s.report(origin{}, "the file is empty: it needs certificates, listeners and backends; config.example.yaml is one to start from")
	}
	if len(s.faults) > 0 {
		s.faults.sort()
		return nil, s.faults
	}
	return cfg, nil
}

// unreadable finds what makes data something else than a text file, as a wrong
// path does. The YAML parser finds most of it too, but not the line.
func unreadable(data []byte) (line int, text string) {
	if len(data) > maxFileSize {
		return 0, fmt.Sprintf("the file is larger than %d bytes: it cannot be a configuration file", maxFileSize)
	}
	line = 1
	for rest := data; len(rest) > 0; {
		r, size := utf8.DecodeRune(rest)
		rest = rest[size:]
		switch {
		case r == utf8.RuneError && size == 1:
			return line, "not UTF-8 text: save the file as UTF-8"
		case r == '\n':
			line++
		case unicode.IsControl(r) && !strings.ContainsRune("\t\r\u0085", r):
			return line, fmt.Sprintf("control character %U: remove it", r)
		}
	}
	return 0, ""
}

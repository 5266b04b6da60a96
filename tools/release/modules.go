package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// module is one that is linked into the program, and the licence files in it.
type module struct {
	path, version string
	texts         []text
}

// text is a licence, or what a licence wants to be passed on with it.
type text struct{ file, content string }

// std is what the standard library is called, as "go version -m" and the Go
// vulnerability database call it.
const std = "std"

// program is the package whose modules count.
const program = "./cmd/smtp-tlsproxy"

// linked are the modules with packages in the program, by path, and the
// standard library.
func linked(root, arch string) ([]module, error) {
	command := exec.Command("go", "list", "-deps", "-json=Dir,Standard,Module", program)
	command.Dir, command.Stderr = root, os.Stderr
	command.Env = append(os.Environ(), "GOOS=linux", "GOARCH="+arch, "CGO_ENABLED=0")
	output, err := command.Output()
	if err != nil {
		return nil, fmt.Errorf("listing the packages of %s: %w", program, err)
	}
	found := make(map[string]*module)
	for decoder := json.NewDecoder(bytes.NewReader(output)); ; {
		var p pkg
		switch err := decoder.Decode(&p); {
		case errors.Is(err, io.EOF):
			library, err := standardLibrary()
			if err != nil {
				return nil, err
			}
			found[std] = library
			return sorted(found)
		case err != nil:
			return nil, fmt.Errorf("reading the list of packages: %w", err)
		}
		if err := p.addTo(found); err != nil {
			return nil, err
		}
	}
}

// pkg is a package as "go list" describes it.
type pkg struct {
	Dir      string
	Standard bool
	Module   *struct {
		Path, Version, Dir string
		Main               bool
		Replace            *struct{ Path string }
	}
}

// addTo notes the package's module, with the licence files from the package's
// folder up to the module's: a folder within a module can have a licence of its own.
func (p *pkg) addTo(found map[string]*module) error {
	if p.Standard || p.Module.Main {
		return nil
	}
	if p.Module.Replace != nil {
		return fmt.Errorf("%s is replaced by %s: its licence would not be looked for where the code is", p.Module.Path, p.Module.Replace.Path)
	}
	m := found[p.Module.Path]
	if m == nil {
		m = &module{path: p.Module.Path, version: p.Module.Version}
		found[m.path] = m
	}
	for dir := p.Dir; ; dir = filepath.Dir(dir) {
		if err := m.addTexts(p.Module.Dir, dir); err != nil {
			return err
		}
		if dir == p.Module.Dir {
			return nil
		}
	}
}

func standardLibrary() (*module, error) {
	output, err := exec.Command("go", "env", "GOROOT", "GOVERSION").Output()
	if err != nil {
		return nil, fmt.Errorf("asking for GOROOT: %w", err)
	}
	root, version, _ := strings.Cut(strings.TrimSpace(string(output)), "\n")
	m := &module{path: std, version: version}
	return m, m.addTexts(root, root)
}

// licenceFile matches the names of files that have to be passed on.
var licenceFile = regexp.MustCompile(`(?i)^(licen[cs]e|copying|copyright|notice|patents)([.-](txt|md|apache|mit|bsd))?$`)

func (m *module) addTexts(top, dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if !entry.Type().IsRegular() || !licenceFile.MatchString(entry.Name()) {
			continue
		}
		path := filepath.Join(dir, entry.Name())
		file, err := filepath.Rel(top, path)
		if err != nil {
			return err
		}
		if slices.ContainsFunc(m.texts, func(t text) bool { return t.file == file }) {
			continue
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		m.texts = append(m.texts, text{file: file, content: string(content)})
	}
	return nil
}

func sorted(found map[string]*module) ([]module, error) {
	var modules []module
	for _, path := range slices.Sorted(maps.Keys(found)) {
		m := *found[path]
		slices.SortFunc(m.texts, func(a, b text) int { return strings.Compare(a.file, b.file) })
		if _, err := m.licence(); err != nil {
			return nil, err
		}
		modules = append(modules, m)
	}
	return modules, nil
}

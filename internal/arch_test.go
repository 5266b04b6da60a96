// Package internal_test holds the whole source to its package map and its
// style: what may import what, and what a file may not do. Each finding says
// why the rule is there.
package internal_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/smtp-tlsproxy/smtp-tlsproxy"

// anyOfOurs in a row of mayImport stands for every package of this module.
const anyOfOurs = "*"

// mayImport is the package map: what the production code of each package may
// import besides the standard library. Imports point down this list only, so
// that tlsopts, sni and starttls stay libraries that know neither the
// configuration file nor Prometheus. A package without a row is a finding.
var mayImport = []struct{ pkg, imports string }{
	{"cmd/smtp-tlsproxy", anyOfOurs + " github.com/spf13/cobra github.com/prometheus/client_golang github.com/coreos/go-systemd/v22 github.com/landlock-lsm/go-landlock github.com/fsnotify/fsnotify golang.org/x/sys"},
	{"proxy", "starttls sni tlsopts internal/backend internal/clientname internal/escape internal/limit internal/proxyheader internal/metrics" +
		" github.com/prometheus/client_golang golang.org/x/sys"},
	{"bench/domains", "bench/measure sni internal/devcert internal/heapfloor golang.org/x/sync"},
	{"bench/peers", "bench/measure bench/program internal/devcert"},
	{"bench/floods", "bench/measure bench/program internal/devcert"},
	{"bench/soak", "bench/measure bench/program internal/devcert"},
	{"bench/measure", ""},
	{"bench/program", ""},
	{"internal/probe", "sni starttls tlsopts internal/escape"},
	{"internal/demo", "sni internal/devcert internal/escape tlsopts github.com/emersion/go-smtp github.com/emersion/go-sasl github.com/pires/go-proxyproto"},
	{"internal/admin", "github.com/prometheus/client_golang"},
	{"sni", "tlsopts github.com/fsnotify/fsnotify golang.org/x/sync golang.org/x/crypto golang.org/x/net golang.org/x/sys"},
	{"starttls", ""},
	{"internal/config", "internal/nearest tlsopts gopkg.in/yaml.v3"},
	{"internal/metrics", "tlsopts github.com/prometheus/client_golang"},
	{"internal/proxyheader", "tlsopts github.com/pires/go-proxyproto"},
	{"internal/limit", ""},
	{"internal/backend", ""},
	{"internal/clientname", ""},
	{"internal/devcert", ""},
	{"internal/escape", ""},
	{"internal/heapfloor", ""},
	{"internal/terminal", "golang.org/x/sys"},
	{"internal/freeport", ""}, // for tests
	{"internal/need", ""},     // for tests
	{"internal/manpage", ""},  // for what only "make man" runs, a test
	{"tlsopts", "internal/nearest software.sslmate.com/src/go-pkcs12 github.com/youmark/pkcs8"},
	{"internal/nearest", ""},
}

// forTests are packages that only tests may import, although they are no tests.
var forTests = []string{"internal/freeport", "internal/need", "internal/manpage"}

// shared are the modules that more than one package may import, and why. Any
// other module stays behind one package, so that replacing it changes one.
var shared = map[string]string{
	"golang.org/x/sync":                   "sni has one load for all who wait, bench makes folders side by side",
	"golang.org/x/sys":                    "proxy sets socket options, sni looks at files without allocating, cmd asks the kernel for times, sockets and rights, terminal for the width",
	"github.com/fsnotify/fsnotify":        "sni follows certificates, cmd the configuration file",
	"github.com/prometheus/client_golang": "metrics makes the collectors, admin serves them, proxy and cmd hand the registry over",
	"github.com/pires/go-proxyproto":      "proxyheader writes headers and reads a load balancer's, demo reads ours as a backend does",
}

// source is one Go file of this module.
type source struct {
	path  string // from the top of the repository, with slashes
	lines int
	set   *token.FileSet
	file  *ast.File
}

func (s source) pkg() string  { return path.Dir(s.path) }
func (s source) isTest() bool { return strings.HasSuffix(s.path, "_test.go") || s.pkg() == "test" }
func (s source) inCmd() bool {
	return strings.HasPrefix(s.path, "cmd/") || strings.HasPrefix(s.path, "bench/")
}

// at is where a node stands, for a finding.
func (s source) at(node ast.Node) string {
	return s.path + ":" + strconv.Itoa(s.set.Position(node.Pos()).Line)
}

// parse reads one file.
func parse(t *testing.T, name string, text []byte) source {
	t.Helper()
	set := token.NewFileSet()
	file, err := parser.ParseFile(set, name, text, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	return source{path: name, lines: strings.Count(string(text), "\n"), set: set, file: file}
}

// sources reads every Go file of this module: no nested module, and nothing
// that the go command ignores.
func sources(t *testing.T) []source {
	t.Helper()
	const top = ".."
	var all []source
	err := filepath.WalkDir(top, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			_, nested := os.Stat(filepath.Join(name, "go.mod"))
			ignored := strings.HasPrefix(entry.Name(), ".") || strings.HasPrefix(entry.Name(), "_") || entry.Name() == "testdata"
			if name != top && (ignored || nested == nil) {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") {
			return nil
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(top, name)
		if err != nil {
			return err
		}
		all = append(all, parse(t, filepath.ToSlash(relative), text))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 50 {
		t.Fatalf("found only %d Go files: the test looks in the wrong place", len(all))
	}
	return all
}

// imported lists what a file imports from outside the standard library.
func (s source) imported() []*ast.ImportSpec {
	return slices.DeleteFunc(slices.Clone(s.file.Imports), func(spec *ast.ImportSpec) bool {
		first, _, _ := strings.Cut(importPath(spec), "/")
		return !strings.Contains(first, ".")
	})
}

func importPath(spec *ast.ImportSpec) string { return strings.Trim(spec.Path.Value, `"`) }

func TestImportsPointDown(t *testing.T) {
	for _, s := range sources(t) {
		if !s.isTest() {
			report(t, importFaults(s))
		}
	}
}

// importFaults finds what a package may not import.
func importFaults(s source) []string {
	row := slices.IndexFunc(mayImport, func(r struct{ pkg, imports string }) bool { return r.pkg == s.pkg() })
	if row < 0 {
		return []string{s.path + ": package " + s.pkg() + " is not in the package map; give it a row in internal/arch_test.go that says what it may import"}
	}
	var faults []string
	for _, spec := range s.imported() {
		name := importPath(spec)
		allowed := slices.ContainsFunc(strings.Fields(mayImport[row].imports), func(may string) bool {
			if may == anyOfOurs {
				ours, found := strings.CutPrefix(name, module+"/")
				return found && !slices.Contains(forTests, ours)
			}
			return name == module+"/"+may || name == may || strings.HasPrefix(name, may+"/")
		})
		if !allowed {
			faults = append(faults, s.at(spec)+": "+s.pkg()+" may not import "+name+
				": imports point down the package map, and a module stays behind one package (mayImport in internal/arch_test.go)")
		}
	}
	return faults
}

func TestPackageMapPointsDown(t *testing.T) {
	for i, row := range mayImport {
		for _, name := range strings.Fields(row.imports) {
			first, _, _ := strings.Cut(name, "/")
			below := slices.ContainsFunc(mayImport[i+1:], func(r struct{ pkg, imports string }) bool { return r.pkg == name })
			if name != anyOfOurs && !strings.Contains(first, ".") && !below {
				t.Errorf("%s may import %s, which has no row below its own", row.pkg, name)
			}
		}
	}
}

// TestArchitecturePageHasEveryPackage: who looks for a package's reason finds it.
func TestArchitecturePageHasEveryPackage(t *testing.T) {
	page, err := os.ReadFile("../docs/architecture.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range mayImport {
		if !strings.Contains(string(page), "`"+row.pkg+"`") {
			t.Errorf("docs/architecture.md does not say what %s does", row.pkg)
		}
	}
}

func TestModulesStayBehindOnePackage(t *testing.T) {
	behind := map[string][]string{}
	for _, row := range mayImport {
		for _, name := range strings.Fields(row.imports) {
			if first, _, _ := strings.Cut(name, "/"); strings.Contains(first, ".") {
				behind[name] = append(behind[name], row.pkg)
			}
		}
	}
	for name, packages := range behind {
		if _, known := shared[name]; len(packages) > 1 && !known {
			t.Errorf("%s is behind %v: keep it behind one, or say in shared why not", name, packages)
		}
	}
	for name := range shared {
		if len(behind[name]) < 2 {
			t.Errorf("%s is shared by %v: take it out of shared", name, behind[name])
		}
	}
}

func TestYAMLIsReadInOneFile(t *testing.T) {
	const only = "internal/config/decode.go"
	for _, s := range sources(t) {
		for _, spec := range s.imported() {
			if strings.Contains(importPath(spec), "yaml") && s.path != only {
				t.Errorf("%s: imports %s; yaml.v3 is archived, so %s alone may, that a swap stays there", s.at(spec), importPath(spec), only)
			}
		}
	}
}

func TestEveryDependencyHasItsReason(t *testing.T) {
	mod, err := os.ReadFile("../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	const dir = "docs/decisions"
	files, err := filepath.Glob("../" + dir + "/*.md")
	if err != nil {
		t.Fatal(err)
	}
	var reasons []byte
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		reasons = append(reasons, text...)
	}
	for _, match := range regexp.MustCompile(`(?m)^\t(\S+) v\S+$`).FindAllSubmatch(mod, -1) {
		if !strings.Contains(string(reasons), string(match[1])) {
			t.Errorf("%s does not say why go.mod requires %s: add a row to 0001-dependencies.md, or a page", dir, match[1])
		}
	}
}

func report(t *testing.T, faults []string) {
	t.Helper()
	for _, fault := range faults {
		t.Error(fault)
	}
}

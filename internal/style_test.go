package internal_test

import (
	"fmt"
	"go/ast"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"
)

// The longest file and function. Longer ones are read by nobody to the end.
const (
	maxFileLines     = 500
	maxFunctionLines = 80
)

// banned are words that no name may hold, and what to write instead.
var banned = map[string]string{
	"upstream":   "hitch and nginx use it in opposite senses: client or backend",
	"downstream": "hitch and nginx use it in opposite senses: client or backend",
	"manager":    "it says nothing: name what the thing is",
	"helper":     "it says nothing: name what the thing does",
	"helpers":    "it says nothing: name what the thing does",
	"util":       "it says nothing: name what the thing does",
	"utils":      "it says nothing: name what the thing does",
}

// maySkip are the functions that may skip a test: the one that fails instead
// where TLSPROXY_INTEGRATION=required is set, and the one that skips where
// its copy in a network namespace has done so. A test that skips by itself looks
// like one that passed.
var maySkip = []string{"internal/need/need.go Missing", "test/main_test.go inNamespace"}

func TestStyle(t *testing.T) {
	for _, s := range sources(t) {
		report(t, nameFaults(s))
		if s.isTest() {
			report(t, skipFaults(s))
			continue
		}
		report(t, sizeFaults(s))
		if !s.inCmd() {
			report(t, exitFaults(s))
		}
	}
}

// functions calls do for each function of a file.
func (s source) functions(do func(*ast.FuncDecl)) {
	for _, decl := range s.file.Decls {
		if function, ok := decl.(*ast.FuncDecl); ok {
			do(function)
		}
	}
}

// sizeFaults finds files and functions that are too long.
func sizeFaults(s source) []string {
	var faults []string
	if s.lines > maxFileLines {
		faults = append(faults, fmt.Sprintf("%s: %d lines, at most %d: split it where a noun begins", s.path, s.lines, maxFileLines))
	}
	s.functions(func(f *ast.FuncDecl) {
		lines := s.set.Position(f.End()).Line - s.set.Position(f.Pos()).Line + 1
		if lines > maxFunctionLines {
			faults = append(faults, fmt.Sprintf("%s: %s has %d lines, at most %d: split it where a step ends", s.at(f), f.Name, lines, maxFunctionLines))
		}
	})
	return faults
}

// exitFaults finds what ends the process where only cmd may: one bad session
// must not end those of all other clients. A panic is allowed where the
// function's comment tells of it.
func exitFaults(s source) []string {
	var faults []string
	s.functions(func(f *ast.FuncDecl) {
		ast.Inspect(f, func(node ast.Node) bool {
			call, ok := node.(*ast.CallExpr)
			if !ok {
				return true
			}
			switch name := called(call); {
			case name == "panic" && strings.Contains(f.Doc.Text(), "panic"):
			case name == "panic":
				faults = append(faults, s.at(call)+": panic ends every session: return an error, or say in the comment of "+f.Name.Name+" when it panics")
			case name == "os.Exit", strings.HasPrefix(name, "log.Fatal"), strings.HasPrefix(name, "log.Panic"):
				faults = append(faults, s.at(call)+": "+name+" ends every session: return an error; only cmd ends the process")
			}
			return true
		})
	})
	return faults
}

// skipFaults finds tests that skip themselves.
func skipFaults(s source) []string {
	var faults []string
	s.functions(func(f *ast.FuncDecl) {
		ast.Inspect(f, func(node ast.Node) bool {
			call, ok := node.(*ast.CallExpr)
			if ok && skips.MatchString(called(call)) && !slices.Contains(maySkip, s.path+" "+f.Name.Name) {
				faults = append(faults, s.at(call)+": "+called(call)+" hides a test that did not run: make it run, or call need.Missing, which fails in CI")
			}
			return true
		})
	})
	return faults
}

var skips = regexp.MustCompile(`\b(t|b|f|tb)\.Skip(f|Now)?$`)

// called is what a call names: "panic", "os.Exit", "h.t.Skip".
func called(call *ast.CallExpr) string {
	var name func(ast.Expr) string
	name = func(e ast.Expr) string {
		switch e := e.(type) {
		case *ast.Ident:
			return e.Name
		case *ast.SelectorExpr:
			return name(e.X) + "." + e.Sel.Name
		}
		return ""
	}
	return name(call.Fun)
}

// nameFaults finds banned words in what a file declares, and in its path.
func nameFaults(s source) []string {
	var faults []string
	for _, part := range strings.Split(strings.TrimSuffix(s.path, path.Ext(s.path)), "/") {
		for _, word := range words(part) {
			if why, found := banned[word]; found {
				faults = append(faults, fmt.Sprintf("%s: %q in the path: %s", s.path, word, why))
			}
		}
	}
	for _, name := range declared(s.file) {
		for _, word := range words(name.Name) {
			if why, found := banned[word]; found {
				faults = append(faults, fmt.Sprintf("%s: %q in the name %s: %s", s.at(name), word, name.Name, why))
			}
		}
	}
	return faults
}

// declared lists the names that a file gives: to its package, functions,
// types, fields, parameters and variables. What it only uses is not listed.
func declared(file *ast.File) []*ast.Ident {
	names := []*ast.Ident{file.Name}
	ast.Inspect(file, func(node ast.Node) bool {
		switch node := node.(type) {
		case *ast.FuncDecl:
			names = append(names, node.Name)
		case *ast.TypeSpec:
			names = append(names, node.Name)
		case *ast.ImportSpec:
			if node.Name != nil {
				names = append(names, node.Name)
			}
		case *ast.Field:
			names = append(names, node.Names...)
		case *ast.ValueSpec:
			names = append(names, node.Names...)
		case *ast.AssignStmt:
			for _, left := range node.Lhs {
				if name, ok := left.(*ast.Ident); ok {
					names = append(names, name)
				}
			}
		case *ast.RangeStmt:
			for _, left := range []ast.Expr{node.Key, node.Value} {
				if name, ok := left.(*ast.Ident); ok {
					names = append(names, name)
				}
			}
		}
		return true
	})
	return names
}

// words splits a name at capital letters and at what is no letter.
func words(name string) []string {
	var list []string
	for _, part := range strings.FieldsFunc(name, func(r rune) bool { return !unicode.IsLetter(r) }) {
		begin := 0
		for i, r := range part {
			if i > 0 && unicode.IsUpper(r) {
				list = append(list, strings.ToLower(part[begin:i]))
				begin = i
			}
		}
		list = append(list, strings.ToLower(part[begin:]))
	}
	return list
}

// TestRulesFind holds that each rule finds what it is there to find, so that
// a clean run means something.
func TestRulesFind(t *testing.T) {
	long := strings.Repeat("\n", maxFunctionLines)
	for _, c := range []struct {
		name, path, text string
		faults           func(source) []string
		found            int
	}{
		{"import upwards", "starttls/a.go", "package p\nimport \"" + module + "/sni\"", importFaults, 1},
		{"import of a module", "tlsopts/a.go", "package p\nimport \"gopkg.in/yaml.v3\"", importFaults, 1},
		{"import of a neighbour's module", "proxy/a.go", "package p\nimport \"github.com/fsnotify/fsnotify\"", importFaults, 1},
		{"import of a similar name", "internal/config/a.go", "package p\nimport \"gopkg.in/yaml.v3x\"", importFaults, 1},
		{"package without a row", "internal/new/a.go", "package p", importFaults, 1},
		{"import of what is for tests", "cmd/smtp-tlsproxy/a.go", "package p\nimport \"" + module + "/internal/freeport\"", importFaults, 1},
		{"imports that may be", "proxy/a.go", "package p\nimport (\n\"net\"\n\"" + module + "/sni\"\n\"golang.org/x/sys/unix\"\n)", importFaults, 0},
		{"long function", "sni/a.go", "package p\nfunc f() {" + long + "}", sizeFaults, 1},
		{"function of full length", "sni/a.go", "package p\nfunc f() {" + long[1:] + "}", sizeFaults, 0},
		{"long file", "sni/a.go", "package p\n" + strings.Repeat("\n", maxFileLines), sizeFaults, 1},
		{"panic", "sni/a.go", "package p\nfunc f() { panic(1) }", exitFaults, 1},
		{"documented panic", "sni/a.go", "package p\n// f panics on an odd day.\nfunc f() { panic(1) }", exitFaults, 0},
		{"exit", "sni/a.go", "package p\nimport \"os\"\nfunc f() { go func() { os.Exit(1) }() }", exitFaults, 1},
		{"fatal", "sni/a.go", "package p\nimport \"log\"\nfunc f() { log.Fatalf(\"\") }", exitFaults, 1},
		{"skip", "sni/a_test.go", "package p\nfunc f(t *T) { t.Run(\"\", func(t *T) { t.Skip() }) }", skipFaults, 1},
		{"skip in a struct", "sni/a_test.go", "package p\nfunc f(h H) { h.t.SkipNow() }", skipFaults, 1},
		{"skip that may be", "internal/need/need.go", "package p\nfunc Missing(t TB) { t.Skipf(\"\") }", skipFaults, 0},
		{"banned type", "sni/a.go", "package p\ntype certManager struct{}", nameFaults, 1},
		{"banned after capitals", "sni/a.go", "package p\ntype TLSManager struct{}", nameFaults, 1},
		{"banned parameter", "sni/a.go", "package p\nfunc f(upstream int) {}", nameFaults, 1},
		{"banned variable", "sni/a.go", "package p\nfunc f() { for _, dial_helper := range x { helperFn := 1 } }", nameFaults, 2},
		{"banned file", "sni/util.go", "package p", nameFaults, 1},
		{"used only", "sni/a_test.go", "package p\nimport \"testutil\"\nfunc f(t T) { t.Helper(); testutil.Util() }", nameFaults, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			if faults := c.faults(parse(t, c.path, []byte(c.text))); len(faults) != c.found {
				t.Errorf("found %q, want %d", faults, c.found)
			}
		})
	}
}

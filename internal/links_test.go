package internal_test

import (
	"go/ast"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode"
)

var (
	codeBlock  = regexp.MustCompile("(?ms)^ *```.*?^ *```\\s*?$")
	codeSpan   = regexp.MustCompile("`[^`\n]+`")
	link       = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading    = regexp.MustCompile(`(?m)^#{1,6} +(.+?) *#*$`)
	linkedText = regexp.MustCompile(`\[([^\]]*)\]\([^)]*\)`)
)

// anchors are the names of the headings of a page, as web pages make them.
func anchors(text string) map[string]bool {
	names := map[string]bool{"": true}
	for _, match := range heading.FindAllStringSubmatch(codeBlock.ReplaceAllString(text, ""), -1) {
		title := linkedText.ReplaceAllString(match[1], "$1")
		name := strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r):
				return unicode.ToLower(r)
			}
			return -1
		}, title)
		names[name] = true
	}
	return names
}

// links are the targets of a page's links within the repository.
func links(text string) []string {
	text = codeSpan.ReplaceAllString(codeBlock.ReplaceAllString(text, ""), "``")
	var targets []string
	for _, match := range link.FindAllStringSubmatch(text, -1) {
		if !strings.Contains(match[1], "://") && !strings.HasPrefix(match[1], "mailto:") {
			targets = append(targets, match[1])
		}
	}
	return targets
}

// pages are all pages of the repository, by their path from here.
func pages(t *testing.T) map[string]string {
	t.Helper()
	found := map[string]string{}
	err := filepath.WalkDir("..", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && name != ".." && strings.HasPrefix(entry.Name(), ".") {
			return fs.SkipDir
		}
		if filepath.Ext(name) == ".md" {
			text, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			found[filepath.ToSlash(name)] = string(text)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// TestLinksLead: each link to a file or heading of the repository leads to one.
func TestLinksLead(t *testing.T) {
	all := pages(t)
	count := 0
	for name, text := range all {
		for _, target := range links(text) {
			count++
			file, anchor, _ := strings.Cut(target, "#")
			to := name
			if file != "" {
				to = path.Join(path.Dir(name), file)
			}
			if _, err := os.Stat(to); err != nil {
				t.Errorf("%s links to %s: %v", name, target, err)
				continue
			}
			if other, isPage := all[to]; anchor != "" && (!isPage || !anchors(other)[anchor]) {
				t.Errorf("%s links to %s: %s has no such heading", name, target, to)
			}
		}
	}
	if count < 20 {
		t.Errorf("found %d links only", count)
	}
}

func TestAnchors(t *testing.T) {
	got := anchors("# A folder's own files\n## `tls.yaml`: of a *domain*\n```\n# no heading\n```\n## [Link](x.md) 1.2\n")
	for _, want := range []string{"a-folders-own-files", "tlsyaml-of-a-domain", "link-12"} {
		if !got[want] {
			t.Errorf("no anchor %s in %v", want, got)
		}
	}
	if len(got) != 4 {
		t.Errorf("anchors %v", got)
	}
}

var testName = regexp.MustCompile("`(Test[A-Za-z0-9_]+)`")

// TestPagesNameTests: a page that says which test holds a promise names one
// that there is.
func TestPagesNameTests(t *testing.T) {
	declared := map[string]bool{}
	for _, s := range sources(t) {
		s.functions(func(f *ast.FuncDecl) { declared[f.Name.Name] = true })
	}
	count := 0
	for name, text := range pages(t) {
		for _, match := range testName.FindAllStringSubmatch(text, -1) {
			count++
			if !declared[match[1]] {
				t.Errorf("%s names %s, and no package has it", name, match[1])
			}
		}
	}
	if count < 10 {
		t.Errorf("found %d names of tests only", count)
	}
}

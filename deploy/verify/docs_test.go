package verify

import (
	"os"
	"path"
	"regexp"
	"strings"
	"testing"
)

// blocks are the YAML blocks of a page of docs/.
func blocks(t *testing.T, page string) []string {
	t.Helper()
	text, err := os.ReadFile("../../docs/" + page)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, match := range regexp.MustCompile("(?ms)^```yaml\n(.*?)^```$").FindAllStringSubmatch(string(text), -1) {
		all = append(all, match[1])
	}
	if len(all) == 0 {
		t.Fatalf("%s has no YAML", page)
	}
	return all
}

// fileName is the first line of a block that is a file in a folder.
var fileName = regexp.MustCompile(`^# ([a-z-]+/[a-z-]+\.yaml)\n`)

// documented are the files that docs/kubernetes.md tells to write, by folder.
func documented(t *testing.T) map[string]map[string]string {
	t.Helper()
	all := map[string]map[string]string{}
	for _, block := range blocks(t, "kubernetes.md") {
		match := fileName.FindStringSubmatch(block)
		if match == nil {
			continue
		}
		folder, file := path.Split(match[1])
		if all[folder] == nil {
			all[folder] = map[string]string{}
		}
		all[folder][file] = block
	}
	if len(all) < 3 {
		t.Fatalf("docs/kubernetes.md has the folders %v", all)
	}
	return all
}

// TestDocumentedObjects: what the pages show besides whole files is what the
// API servers take, too.
func TestDocumentedObjects(t *testing.T) {
	found := 0
	for _, page := range []string{"kubernetes.md", "load-balancers.md"} {
		for _, block := range blocks(t, page) {
			if fileName.MatchString(block) || !strings.Contains(block, "apiVersion:") {
				continue
			}
			for _, text := range splitYAML(block) {
				found++
				if _, err := decodeOne([]byte(text)); err != nil {
					t.Errorf("%s: %v\n%s", page, err, text)
				}
			}
		}
	}
	if found < 2 {
		t.Errorf("the pages show only %d objects", found)
	}
}

package main

import (
	"fmt"
	"io"
	"strings"
)

// writeNotices writes the licences of all modules, each text once, with the
// modules to which it belongs.
func writeNotices(out io.Writer, modules []module) error {
	var page strings.Builder
	page.WriteString("smtp-tlsproxy is licensed under the Apache License 2.0, see LICENSE. These modules are\nlinked into the program, under the licences that follow.\n\n")
	var order []string // of the texts
	owners := make(map[string][]string)
	for _, m := range modules {
		licence, err := m.licence()
		if err != nil {
			return err
		}
		fmt.Fprintf(&page, "  %s %s (%s)\n", m.path, m.version, licence)
		for _, t := range m.texts {
			content := strings.TrimRight(strings.ReplaceAll(t.content, "\r\n", "\n"), "\n")
			if owners[content] == nil {
				order = append(order, content)
			}
			owners[content] = append(owners[content], fmt.Sprintf("%s %s, %s", m.path, m.version, t.file))
		}
	}
	for _, content := range order {
		fmt.Fprintf(&page, "\n%[1]s\n%[2]s\n%[1]s\n\n%[3]s\n", strings.Repeat("=", 80), strings.Join(owners[content], "\n"), content)
	}
	_, err := io.WriteString(out, page.String())
	return err
}

package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// licence is the SPDX expression of a module's licences. One that is not known
// is an error: somebody has to look whether it may be combined with ours.
func (m *module) licence() (string, error) {
	ids := make(map[string]bool)
	for _, t := range m.texts {
		for _, id := range identify(t.content) {
			ids[id] = true
		}
	}
	if len(ids) == 0 {
		return "", fmt.Errorf("%s %s has no licence that is known here (files: %v): look at it, then teach tools/release/licence.go", m.path, m.version, m.texts)
	}
	return strings.Join(slices.Sorted(maps.Keys(ids)), " AND "), nil
}

// identify finds the licences in a text by what each alone says. Those that are
// known are those that docs/decisions/0001-dependencies.md allows.
func identify(content string) (ids []string) {
	words := strings.ToLower(strings.Join(strings.Fields(content), " "))
	says := func(phrase string) bool { return strings.Contains(words, phrase) }
	if says("apache license") && says("version 2.0") {
		ids = append(ids, "Apache-2.0")
	}
	if says("permission is hereby granted, free of charge, to any person obtaining a copy") {
		ids = append(ids, "MIT")
	}
	if says("redistribution and use in source and binary forms") {
		if says("endorse or promote products derived") {
			ids = append(ids, "BSD-3-Clause")
		} else {
			ids = append(ids, "BSD-2-Clause")
		}
	}
	return ids
}

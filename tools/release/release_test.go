package main

import (
	"bytes"
	"debug/buildinfo"
	"encoding/json"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

const top = "../.."

func build(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "smtp-tlsproxy")
	command := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-o", file, program)
	command.Dir = top
	command.Env = append(command.Environ(), "CGO_ENABLED=0")
	if output, err := command.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	return file
}

// TestSBOM: it names what is in the program, each with a version and a licence,
// and is the same each time.
func TestSBOM(t *testing.T) {
	binary := build(t)
	var first, second bytes.Buffer
	for _, out := range []*bytes.Buffer{&first, &second} {
		if err := writeSBOM(out, top, binary, "v1.2.3", time.Unix(1700000000, 0).UTC()); err != nil {
			t.Fatal(err)
		}
	}
	if first.String() != second.String() {
		t.Error("it differs from time to time")
	}
	var b bom
	if err := json.Unmarshal(first.Bytes(), &b); err != nil {
		t.Fatal(err)
	}
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"std " + info.GoVersion}
	for _, dep := range info.Deps {
		want = append(want, dep.Path+" "+dep.Version)
	}
	var got []string
	for _, c := range b.Components {
		got = append(got, c.Name+" "+c.Version)
		if c.Name != std && (len(c.Hashes) != 1 || len(c.Hashes[0].Content) != 64) {
			t.Errorf("%s has no hash: %v", c.Name, c.Hashes)
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) || len(want) < 10 {
		t.Errorf("it names\n%q, but linked are\n%q", got, want)
	}
	if c := b.Metadata.Component; c.Version != "v1.2.3" || b.Metadata.Timestamp != "2023-11-14T22:13:20Z" {
		t.Errorf("metadata: %+v", b.Metadata)
	}
}

// TestNotices: every linked module has its licence in the page, NOTICE files
// included, and each text stands there once.
func TestNotices(t *testing.T) {
	for _, arch := range []string{"amd64", "arm64"} {
		modules, err := linked(top, arch)
		if err != nil {
			t.Fatal(err)
		}
		var page strings.Builder
		if err := writeNotices(&page, modules); err != nil {
			t.Fatal(err)
		}
		rule := strings.Repeat("=", 80)
		sections := page.String() + "\n" + rule
		for _, m := range modules {
			for _, file := range m.texts {
				content := strings.TrimRight(strings.ReplaceAll(file.content, "\r\n", "\n"), "\n")
				if n := strings.Count(sections, rule+"\n\n"+content+"\n\n"+rule); n != 1 {
					t.Errorf("%s: %s of %s stands there %d times", arch, file.file, m.path, n)
				}
			}
		}
		for _, want := range []string{
			"gopkg.in/yaml.v3 v3.0.1 (Apache-2.0 AND MIT)", "gopkg.in/yaml.v3 v3.0.1, NOTICE", "std go1.26", "kernel.org/pub/linux/libs/security/libcap/psx ",
		} {
			if !strings.Contains(page.String(), want) {
				t.Errorf("%s: no %q", arch, want)
			}
		}
	}
}

func TestIdentify(t *testing.T) {
	for want, content := range map[string]string{
		"":             "All rights reserved. GNU GENERAL PUBLIC LICENSE Version 3",
		"MIT":          "Permission is hereby granted, free of charge,\n to any person obtaining a copy of this software",
		"BSD-2-Clause": "Redistribution and use in source and binary forms, with or without",
		"BSD-3-Clause": "Redistribution and use in source and binary forms; nor the names be used to endorse or\npromote products derived from",
		"Apache-2.0":   "Apache License\n Version 2.0, January 2004",
	} {
		if got := strings.Join(identify(content), " "); got != want {
			t.Errorf("%q is %q, want %q", content, got, want)
		}
	}
	m := module{path: "example.com/m", texts: []text{{"LICENSE", "all rights reserved"}}}
	if _, err := m.licence(); err == nil {
		t.Error("a licence that nobody looked at is let through")
	}
}

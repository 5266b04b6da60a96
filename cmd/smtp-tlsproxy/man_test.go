package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/manpage"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/need"
)

// leaves calls do for each command that does something by itself.
func leaves(c *cobra.Command, do func(*cobra.Command)) {
	for _, below := range c.Commands() {
		switch {
		case below.Hidden || below.Name() == "help":
		case below.HasAvailableSubCommands():
			leaves(below, do)
		default:
			do(below)
		}
	}
}

// wholeProgram is the program with the commands that cobra adds when it runs.
func wholeProgram() *cobra.Command {
	root := rootCommand()
	root.InitDefaultCompletionCmd()
	return root
}

// pathOf is a command without the program's name: "certs list".
func pathOf(c *cobra.Command) string { return strings.TrimPrefix(c.CommandPath(), "smtp-tlsproxy ") }

func flags(c *cobra.Command) (all []manpage.Flag) {
	c.LocalFlags().VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Name == "help" {
			return
		}
		value, usage := pflag.UnquoteUsage(f)
		flag := manpage.Flag{Short: f.Shorthand, Long: f.Name, Value: value, Usage: usage}
		if f.DefValue != "" && f.DefValue != "false" && f.DefValue != "[]" {
			flag.Default = strings.Trim(f.DefValue, "[]")
		}
		all = append(all, flag)
	})
	return all
}

func manual(date string) manpage.Page {
	root := wholeProgram()
	page := manpage.Page{Name: root.Name(), Short: root.Short, Long: root.Long, Date: date, Version: build().Version, Sections: []manpage.Section{
		{Title: "Exit status", Text: "0 if all is fine, 1 if a fault was found or something failed, 2 for wrong usage."},
		{Title: "Environment", Text: `The variables that begin with SMTP_TLSPROXY_ count before the configuration file, and flags before both. SMTP_TLSPROXY_CONFIG
names the file, SMTP_TLSPROXY_CERTIFICATES the certificate directory, SMTP_TLSPROXY_BACKEND the mail server. An unknown one is an error.`},
		{Title: "Files", Text: defaultFile + " is the configuration, in YAML; its keys are explained in config.example.yaml and docs/configuration.md."},
		{Title: "See also", Text: "openssl-s_client(1), swaks(1), systemctl(1)"},
	}}
	leaves(root, func(c *cobra.Command) {
		_, arguments, _ := strings.Cut(strings.TrimSuffix(c.Use, " [flags]"), " ")
		long := c.Long
		if long == "" {
			long = c.Short + "."
		}
		page.Commands = append(page.Commands, manpage.Command{Name: pathOf(c), Arguments: arguments, Long: long, Flags: flags(c)})
	})
	return page
}

// TestManual writes the manual page, into MANDIR where "make man" asks for it,
// and has a manual reader find no fault in it, and each command and flag.
func TestManual(t *testing.T) {
	dir, date := os.Getenv("MANDIR"), os.Getenv("MANDATE")
	asked := dir != ""
	if !asked {
		dir, date = t.TempDir(), "2026-11-24"
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "smtp-tlsproxy.1")
	var page strings.Builder
	if err := manual(date).Write(&page); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(page.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	if asked {
		return // the machine that builds a release needs no reader
	}
	reader := need.Program(t, "mandoc")
	if output, err := exec.CommandContext(t.Context(), reader, "-T", "lint", "-W", "warning", file).CombinedOutput(); err != nil || len(output) > 0 {
		t.Errorf("mandoc finds: %v\n%s", err, output)
	}
	shown, err := exec.CommandContext(t.Context(), reader, "-T", "ascii", "-O", "width=200", file).Output()
	if err != nil {
		t.Fatal(err)
	}
	text := overstruck(string(shown))
	leaves(wholeProgram(), func(c *cobra.Command) {
		_, section, found := strings.Cut(text, "\n   "+pathOf(c))
		if !found {
			t.Errorf("the page has no section of %q:\n%s", pathOf(c), text)
			return
		}
		if end := nextSection.FindStringIndex(section); end != nil {
			section = section[:end[0]]
		}
		for _, flag := range flags(c) {
			if !strings.Contains(section, "--"+flag.Long) {
				t.Errorf("the page does not tell of %s --%s", pathOf(c), flag.Long)
			}
		}
	})
}

// nextSection is a heading: it stands further left than text.
var nextSection = regexp.MustCompile(`\n {0,3}[^ \n]`)

// overstruck takes the bold and the underlined letters of a terminal of paper as letters.
func overstruck(text string) string {
	var b strings.Builder
	all := []rune(text)
	for i, r := range all {
		if r == '\b' || i+1 < len(all) && all[i+1] == '\b' {
			continue
		}
		b.WriteRune(r)
	}
	return b.String()
}

// TestCommandsAreDocumented: docs/commands.md has a section for each command,
// with each of its flags.
func TestCommandsAreDocumented(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/commands.md")
	if err != nil {
		t.Fatal(err)
	}
	leaves(wholeProgram(), func(c *cobra.Command) {
		name := pathOf(c)
		if strings.HasPrefix(name, "completion ") {
			name = "completion" // one section for all shells
		}
		_, section, found := strings.Cut(string(page), "\n## "+name+"\n")
		if !found {
			t.Errorf("docs/commands.md has no section \"## %s\"", name)
			return
		}
		section, _, _ = strings.Cut(section, "\n## ")
		for _, flag := range flags(c) {
			if !strings.Contains(section, "`--"+flag.Long+"`") && !strings.Contains(section, "`--"+flag.Long+" "+flag.Value+"`") {
				t.Errorf("docs/commands.md does not tell of %s --%s", name, flag.Long)
			}
		}
	})
}

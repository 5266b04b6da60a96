package terminal

import (
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// pseudoterminal returns the side of a program and what a person sees there:
// all that was written once the program's side is closed.
func pseudoterminal(t *testing.T, columns uint16) (program *os.File, seen func() string) {
	t.Helper()
	person, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { person.Close() })
	fd := int(person.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: columns}); err != nil {
		t.Fatal(err)
	}
	program, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { program.Close() })
	text := make(chan string, 1)
	go func() {
		all, _ := io.ReadAll(person) // ends with EIO when the other side is closed
		text <- strings.ReplaceAll(string(all), "\r\n", "\n")
	}()
	return program, func() string {
		program.Close()
		return <-text
	}
}

func fill(o Output) error {
	table := o.Table("DOMAIN", "NAMES", "STATE")
	table.Row(append(Cells("a.example", "a.example b.example c.example d.example"), Cell{"ok", Good})...)
	table.Row(append(Cells("b.example", "b.exämple"), Cell{"fault", Bad})...)
	return table.Flush()
}

func TestTable(t *testing.T) {
	for _, test := range []struct {
		name    string
		columns uint16
		noColor string
		want    string
	}{
		{"wide", 80, "", "\x1b[1mDOMAIN\x1b[0m     \x1b[1mNAMES\x1b[0m                                    \x1b[1mSTATE\x1b[0m\n" +
			"a.example  a.example b.example c.example d.example  \x1b[32mok\x1b[0m\n" +
			"b.example  b.exämple                                \x1b[31mfault\x1b[0m\n"},
		{"NO_COLOR", 80, "1", "DOMAIN     NAMES                                    STATE\n" +
			"a.example  a.example b.example c.example d.example  ok\n" +
			"b.example  b.exämple                                fault\n"},
		{"narrow", 40, "1", "DOMAIN     NAMES                   STATE\n" +
			"a.example  a.example b.example c…  ok\n" +
			"b.example  b.exämple               fault\n"},
		{"narrower than can be", 5, "1", "DOMAIN     NAMES         STATE\n" +
			"a.example  a.example b…  ok\n" +
			"b.example  b.exämple     fault\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Setenv("NO_COLOR", test.noColor)
			t.Setenv("TERM", "xterm")
			program, seen := pseudoterminal(t, test.columns)
			if err := fill(New(program)); err != nil {
				t.Fatal(err)
			}
			if got := seen(); got != test.want {
				t.Errorf("a person sees\n%q\nwant\n%q", got, test.want)
			}
		})
	}
}

func TestTable_ForPrograms(t *testing.T) {
	var text strings.Builder
	out := New(&text)
	if err := fill(out); err != nil {
		t.Fatal(err)
	}
	table := out.Table("A", "B")
	table.Row(Cells("with\ttab", "with\nline")...)
	if err := table.Flush(); err != nil {
		t.Fatal(err)
	}
	const want = "DOMAIN\tNAMES\tSTATE\na.example\ta.example b.example c.example d.example\tok\nb.example\tb.exämple\tfault\nA\tB\nwith tab\twith line\n"
	if text.String() != want {
		t.Errorf("a program reads %q, want %q", text.String(), want)
	}
}

func TestNew_NoColours(t *testing.T) {
	file, err := os.Create(t.TempDir() + "/file")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if out := New(file); out.IsTerminal() || out.Paint(Bad, "text") != "text" {
		t.Error("a file is taken for a terminal")
	}
	t.Setenv("NO_COLOR", "")
	t.Setenv("TERM", "dumb")
	program, _ := pseudoterminal(t, 0)
	if out := New(program); !out.IsTerminal() || out.width != defaultWidth || out.Paint(Bad, "text") != "text" {
		t.Errorf("of a dumb terminal without a width: %+v", out)
	}
}

func TestProgress(t *testing.T) {
	program, seen := pseudoterminal(t, 80)
	now := time.Unix(0, 0)
	p := New(program).progress("folders read", func() time.Time { return now })
	for range 12 {
		now = now.Add(150 * time.Millisecond)
		p.Step()
	}
	p.Done()
	p.Done()
	if got, want := seen(), "\r7 folders read\r9 folders read\r11 folders read\r\x1b[K"; got != want {
		t.Errorf("a person sees %q, want %q", got, want)
	}
	var text strings.Builder
	p = New(&text).progress("folders read", func() time.Time { return now })
	now = now.Add(time.Hour)
	p.Step()
	p.Done()
	if text.String() != "" {
		t.Errorf("a program reads %q, want nothing", text.String())
	}
}

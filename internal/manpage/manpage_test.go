package manpage_test

import (
	"strings"
	"testing"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/manpage"
)

func TestWrite(t *testing.T) {
	page := manpage.Page{
		Name: "a-program", Short: "does it", Long: "It does.\n\n.it 'does'\n\n\t$ a\\b --x\n", Date: "2026-11-24", Version: "v1",
		Commands: []manpage.Command{
			{Name: "do", Arguments: "NAME…", Long: "Does.", Flags: []manpage.Flag{{Short: "c", Long: "config", Value: "FILE", Usage: "the file", Default: "x"}, {Long: "all", Usage: "all of it"}}},
			{Name: "rest", Long: "Rests."},
		},
		Sections: []manpage.Section{{Title: "Files", Text: "None."}},
	}
	const want = `.TH "A-PROGRAM" 1 "2026-11-24" "a-program v1"
.SH NAME
a\-program \- does it
.SH SYNOPSIS
.B a\-program do
[flags] NAME...
.br
.B a\-program rest
[flags]
.SH DESCRIPTION
It does.
.PP
\&.it \(aqdoes\(aq
.PP
.nf
    $ a\eb \-\-x
.fi
.SH COMMANDS
.SS do NAME...
Does.
.TP
\fB\-c\fR, \fB\-\-config\fR \fIFILE\fR
the file (default x)
.TP
\fB\-\-all\fR
all of it
.SS rest
Rests.
.SH FILES
None.
`
	var got strings.Builder
	if err := page.Write(&got); err != nil {
		t.Fatal(err)
	}
	if got.String() != want {
		t.Errorf("the page is\n%s\nwant\n%s", got.String(), want)
	}
}

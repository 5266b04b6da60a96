package test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// bulkMessage is one of many; its number says all about it.
type bulkMessage struct {
	number  int
	content []byte
	chunks  int    // of BDAT; 0 is DATA
	sender  string // and parameters of MAIL
}

// bulkLines are what bodies are made of. No bare LF stands before a dot, which
// would be smuggling (truncation and trace tests have that).
var bulkLines = []string{
	".\r\n", "..\r\n", ".text\r\n", "...\r\n", "\r\n", "plain text\r\n", ". \r\n", "\t.\r\n", "From here on\r\n", "QUIT\r\n", "BDAT 5 LAST\r\n",
	strings.Repeat("x", 998) + "\r\n", "." + strings.Repeat("y", 997) + "\r\n",
}

// newBulkMessage makes the message of that number, the same each time.
func newBulkMessage(number int) bulkMessage {
	random := rand.New(rand.NewPCG(4, uint64(number)))
	size := 1000 + random.IntN(15_000)
	if number%50 == 25 {
		size = 500_000 + random.IntN(4_500_000)
	}
	m := bulkMessage{number: number, sender: "<sender@client.test>"}
	lines := bulkLines
	subject := "bulk"
	switch number % 5 {
	case 1:
		m.sender += " BODY=8BITMIME"
		lines = append(lines[:len(lines):len(lines)], "\xe9\xff\x80 eight bits \xfe\r\n")
	case 2:
		m.sender = "<send\u00e9r@client.test> SMTPUTF8 BODY=8BITMIME"
		subject = "gr\u00fc\u00dfe \u2709"
		lines = append(lines[:len(lines):len(lines)], "\u00fc\u2028\U0001f4e7\r\n")
	case 3:
		lines = append(lines[:len(lines):len(lines)], "bare \r return\r\n", "two\r\r\n", "\rfirst\r\n")
	case 4:
		lines = append(lines[:len(lines):len(lines)], "bare \n feed\r\n", "a\nb\n\nc\r\n", "\r \n\r\n")
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "X-Bulk: %d\r\nFrom: sender@client.test\r\nSubject: %s\r\n\r\n", number, subject)
	for b.Len() < size {
		b.WriteString(lines[random.IntN(len(lines))])
	}
	if number%2 == 1 {
		m.chunks = 1 + random.IntN(4)
		if number%3 == 0 {
			b.WriteString("no end of line") // as only chunks can
		}
	}
	m.content = b.Bytes()
	return m
}

func (m bulkMessage) envelope(way string) string {
	return fmt.Sprintf("MAIL FROM:%s\r\nRCPT TO:<%s@a.example>\r\n", m.sender, way)
}

// bdat is the message in chunks, which end anywhere.
func (m bulkMessage) bdat() []byte {
	var b bytes.Buffer
	rest := m.content
	for left := m.chunks; left > 1; left-- {
		n := len(rest) / left
		fmt.Fprintf(&b, "BDAT %d\r\n%s", n, rest[:n])
		rest = rest[n:]
	}
	fmt.Fprintf(&b, "BDAT %d LAST\r\n%s", len(rest), rest)
	return b.Bytes()
}

// stuffed is the message as it follows DATA.
func (m bulkMessage) stuffed() []byte {
	return append(bytes.ReplaceAll(m.content, []byte("\r\n."), []byte("\r\n..")), ".\r\n"...)
}

// TestBulkMessages holds the messages to what the bulk test says of them.
func TestBulkMessages(t *testing.T) {
	t.Parallel()
	total, largest, smallest, bdat := 0, 0, 1<<30, 0
	for i := range bulkPerServer {
		m := newBulkMessage(i)
		total, largest, smallest = total+len(m.content), max(largest, len(m.content)), min(smallest, len(m.content))
		if m.chunks > 0 {
			bdat++
		}
	}
	if total > 60<<20 || largest < 4_000_000 || smallest > 2000 || bdat != bulkPerServer/2 {
		t.Errorf("%d bytes in all, the largest %d, the smallest %d, %d in chunks", total, largest, smallest, bdat)
	}
}

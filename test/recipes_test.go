package test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/devcert"
)

// The recipes of docs/recipes are tests: what stands there in a code block
// behind <!-- run: NAME --> is what a server and the proxy are started with here.
// Each runs in a network namespace of its own, so that the ports stand as they
// are written; paths, the domain and the password are replaced.
const (
	recipeProxy  = "198.51.100.1" // mail.example.com
	recipeClient = "198.51.100.7"
	// foreigner is a recipient for whom nobody relays without AUTH.
	foreigner = "bob@elsewhere.test"
)

// recipe is one page of docs/recipes.
type recipe struct {
	name         string
	blocks       map[string]string
	used         map[string]bool
	replacements *strings.Replacer
}

var runnable = regexp.MustCompile("(?ms)^<!-- run: ([^>]+?) -->\n```[a-z]*\n(.*?)^```$")

// readRecipe reads a page. Of the pairs of what is replaced by what, the former
// has to be there. A block that the test does not use is a fault, but for those
// that are another test's.
func readRecipe(t *testing.T, name string, others []string, pairs ...string) *recipe {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "docs", "recipes", name+".md"))
	if err != nil {
		t.Fatal(err)
	}
	pairs = append(pairs, "swaks --server mail.example.com", "swaks --local-interface "+recipeClient+" --server "+recipeProxy, "example.com", "a.example")
	for i := 0; i < len(pairs); i += 2 {
		if !strings.Contains(string(text), pairs[i]) {
			t.Fatalf("%s.md has no %q to replace", name, pairs[i])
		}
	}
	r := &recipe{name: name, blocks: map[string]string{}, used: map[string]bool{}, replacements: strings.NewReplacer(pairs...)}
	for _, block := range runnable.FindAllStringSubmatch(string(text), -1) {
		r.blocks[block[1]] += block[2]
	}
	t.Cleanup(func() {
		for _, other := range others {
			r.used[other] = true
		}
		for block := range r.blocks {
			if !r.used[block] && !t.Failed() {
				t.Errorf("%s.md: nothing runs the block %q", name, block)
			}
		}
	})
	return r
}

// block is what stands under a name, with all that is to be replaced in it.
func (r *recipe) block(t *testing.T, name string) string {
	t.Helper()
	text, found := r.blocks[name]
	if !found {
		t.Fatalf("%s.md has no block %q", r.name, name)
	}
	r.used[name] = true
	return r.replacements.Replace(text)
}

// recipeBackend is a server that was started from a recipe.
type recipeBackend struct {
	*process
	maildir
	password string // of saslUser; "" where the server can not offer AUTH
	ports    []string
	authOn25 bool // behind STARTTLS
}

// inRecipe runs the calling test in a network namespace, as inNamespace does.
func inRecipe(t *testing.T) bool {
	t.Helper()
	return inNamespace(t, recipeProxy+"/32", recipeClient+"/32")
}

// recipeCertificates has the folder that the recipes name.
func recipeCertificates(t *testing.T) *certificates {
	t.Helper()
	certs := newCertificates(t)
	if err := certs.ca.WriteFolder(certs.dir, "mail.a.example", devcert.Leaf{Names: []string{"mail.a.example"}}); err != nil {
		t.Fatal(err)
	}
	return certs
}

// requireRecipe starts the proxy as the recipe says, and holds the recipe to
// what it promises. mx says whether it has a listener on port 25.
func requireRecipe(t *testing.T, r *recipe, server recipeBackend, certs *certificates, mx bool) {
	t.Helper()
	text := r.block(t, "config.yaml") + "log: {format: json}\nlimits: {" + fewConnections + "}\n"
	s := setup{certificates: certs, dir: t.TempDir(), submissions: recipeProxy + ":465", submission: recipeProxy + ":587", admin: "127.0.0.1:9465"}
	if mx {
		s.mx = recipeProxy + ":25"
	}
	p := serve(t, s, text)
	runBinary(t, "check", "--config", p.file).requireCode(t, 0)
	var markers []string
	for _, port := range p.ports() {
		auth := server.password != "" && (port.name == "465" || port.name == "587" || port.name == "25" && server.authOn25)
		requireNoRelay(t, p, port)
		markers = append(markers, requireMail(t, p, port, server, auth))
	}
	r.requireSwaks(t, server)
	for _, marker := range markers {
		var copies int
		for _, message := range server.messages(t) {
			copies += strings.Count(string(message), "Subject: "+marker)
		}
		if copies != 1 {
			t.Errorf("the message with %s arrived %d times", marker, copies)
		}
	}
	for _, port := range server.ports { // closed to others
		if conn, err := net.Dial("tcp", net.JoinHostPort(recipeProxy, port)); err == nil {
			conn.Close()
			t.Errorf("port %s of the backend is open to the network", port)
		}
	}
}

// requireNoRelay wants that no mail for others is taken without AUTH.
func requireNoRelay(t *testing.T, p *proxy, to port) {
	t.Helper()
	c := open(t, to, clientOptions{local: recipeClient, serverName: "mail.a.example", trust: p.certificates})
	c.must(t, 250, "EHLO client.test")
	reply, err := c.last("MAIL FROM:<" + saslUser + ">")
	if err == nil && strings.HasPrefix(reply, "250") {
		reply, err = c.last("RCPT TO:<" + foreigner + ">")
	}
	if err != nil || !strings.HasPrefix(reply, "5") {
		c.fatal(t, fmt.Errorf("port %s: without AUTH, the reply to a relay is %q, %v", to.name, reply, err))
	}
	c.mustEnd(t, 221, "QUIT")
}

// requireMail sends a message and wants it delivered, with the client's own
// address in the trace; with AUTH where it is to be offered, which first refuses a
// wrong password, and then relays.
func requireMail(t *testing.T, p *proxy, to port, server recipeBackend, auth bool) (marker string) {
	t.Helper()
	options := clientOptions{local: recipeClient, serverName: "mail.a.example", trust: p.certificates}
	c := open(t, to, options)
	ehlo := c.must(t, 250, "EHLO client.test")
	if offered := strings.Contains(ehlo, "AUTH "); offered != auth {
		t.Errorf("port %s: AUTH is offered: %v, want %v, in %q", to.name, offered, auth, ehlo)
	}
	if auth {
		if reply, err := saslPlain(c, "wrong-"+server.password); err != nil || !strings.HasPrefix(reply, "535 ") {
			c.fatal(t, fmt.Errorf("port %s: the reply to a wrong password is %q, %v", to.name, reply, err))
		}
		c = open(t, to, options)
		c.must(t, 250, "EHLO client.test")
		if reply, err := saslPlain(c, server.password); err != nil || !strings.HasPrefix(reply, "235 ") {
			c.fatal(t, fmt.Errorf("port %s: the reply to the password is %q, %v", to.name, reply, err))
		}
	}
	marker = newMarker()
	c.must(t, 250, "MAIL FROM:<"+saslUser+">")
	c.must(t, 250, "RCPT TO:<"+saslUser+">")
	if auth {
		c.must(t, 250, "RCPT TO:<"+foreigner+">")
	}
	c.must(t, 354, "DATA")
	c.must(t, 250, "From: <"+saslUser+">\r\nTo: <"+saslUser+">\r\nSubject: "+marker+"\r\n\r\ntext\r\n.")
	c.mustEnd(t, 221, "QUIT")
	if message := string(server.waitMessage(t, marker)); !strings.Contains(message, recipeClient) {
		t.Errorf("port %s: the delivered message does not name the client:\n%s", to.name, message)
	}
	return marker
}

// requireSwaks runs the lines that are to show whether it works, those that
// are to show that it is closed, and then finds the lines of the log, in which …
// stands for anything.
func (r *recipe) requireSwaks(t *testing.T, server recipeBackend) {
	t.Helper()
	need(t, "swaks")
	for block, taken := range map[string]bool{"taken": true, "refused": false} {
		for line := range strings.Lines(r.block(t, block)) {
			line = strings.TrimSpace(strings.ReplaceAll(line, "PASSWORD", server.password))
			ran := runProgram(t, "sh", "-c", line)
			if (ran.code == 0) != taken || strings.Contains(ran.output, "Usage") {
				t.Errorf("exit code %d of: %s\n%s", ran.code, line, indent(ran.output))
			}
		}
	}
	for line := range strings.Lines(r.block(t, "log")) {
		server.waitLog(t, strings.Split(strings.TrimSpace(strings.ReplaceAll(line, "203.0.113.9", recipeClient)), "…")...)
	}
}

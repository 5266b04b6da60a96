package tlsopts_test

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/need"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/tlsopts"
)

var update = flag.Bool("update", false, "write testdata/ciphers.golden anew from what openssl says")

const goldenFile = "testdata/ciphers.golden"

// isOpenSSL30 tells whether the binary is of the version that is modelled. In
// others, suites that Go has not stand elsewhere or are new.
func isOpenSSL30(t testing.TB, path string) bool {
	t.Helper()
	out, err := exec.Command(path, "version").Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.HasPrefix(string(out), "OpenSSL 3.0.")
}

// opensslCiphers runs openssl ciphers. An error of its own means no suite.
func opensslCiphers(t *testing.T, path string, args ...string) []string {
	t.Helper()
	cmd := exec.Command(path, append([]string{"ciphers"}, args...)...)
	cmd.Env = append(os.Environ(), "OPENSSL_CONF=/dev/null")
	out, err := cmd.Output()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Error(err)
	}
	return slices.DeleteFunc(strings.Split(strings.TrimSpace(string(out)), ":"), func(name string) bool {
		return name == "" || strings.HasPrefix(name, "TLS_")
	})
}

// cipherStrings are the committed strings and those made from the keywords.
func cipherStrings(t testing.TB) []string {
	t.Helper()
	data, err := os.ReadFile("testdata/cipherstrings.txt")
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for line := range strings.Lines(string(data)) {
		if line = strings.TrimSuffix(line, "\n"); line != "" && line[0] != '#' {
			list = append(list, line)
		}
	}
	list = append(list, combinations()...)
	slices.Sort(list)
	return slices.Compact(list)
}

// combinations puts every keyword and every suite of Go in every position, and
// adds sequences at random, the same in each run.
func combinations() []string {
	var list []string
	for _, k := range tlsopts.Keywords() {
		for _, form := range []string{
			"%s", "HIGH:!%s", "HIGH:-%[1]s:%[1]s", "HIGH:+%s", "%s:HIGH", "ECDHE+%s:HIGH", "AES+%s:@STRENGTH",
			"%s@SECLEVEL=3:ECDHE+AES256", "ALL:-AES:%s:AES",
		} {
			list = append(list, fmt.Sprintf(form, k))
		}
	}
	for _, name := range tlsopts.GoSuites() {
		for _, form := range []string{"%s", "HIGH:!%s", "HIGH:+%s", "%s:HIGH", "HIGH:-%s:AES", "%s+AES128:kRSA"} {
			list = append(list, fmt.Sprintf(form, name))
		}
	}
	random := rand.New(rand.NewPCG(3207, 8314))
	words := slices.Concat(tlsopts.Keywords(), tlsopts.GoSuites())
	pick := func(from []string) string { return from[random.IntN(len(from))] }
	for range 300 {
		parts := []string{pick([]string{"ALL", "HIGH", "DEFAULT", "AES", "ECDHE"})}
		for range 2 + random.IntN(5) {
			first := pick(words)
			part := pick([]string{"", "", "!", "-", "+"}) + first
			// OpenSSL 3.0 forgets a COMPLEMENTOFDEFAULT at HIGH or the name of a
			// suite after it; we take "+" as its manual has it.
			if random.IntN(2) == 0 && first != "COMPLEMENTOFDEFAULT" {
				part += "+" + pick(words)
			}
			if random.IntN(8) == 0 {
				part = pick([]string{"@STRENGTH", "@SECLEVEL=1", "@SECLEVEL=3", "@SECLEVEL=4"})
			}
			parts = append(parts, part)
		}
		list = append(list, strings.Join(parts, ":"))
	}
	return list
}

// parsed is what we make of s, less 3DES, which the oracle has not, as one
// word; "-" is no suite.
func parsed(t *testing.T, s string) string {
	t.Helper()
	list, err := tlsopts.ParseCiphers(s)
	if err != nil && !strings.Contains(err.Error(), "no cipher suite remains") {
		t.Errorf("%q: %v", s, err)
	}
	list.Suites = slices.DeleteFunc(list.Suites, tlsopts.IsWeak)
	return word(strings.Split(list.String(), ":"))
}

func word(names []string) string {
	if text := strings.Join(names, ":"); text != "" {
		return text
	}
	return "-"
}

// TestParseCiphersGolden compares with what OpenSSL 3.0 said when the file was
// written.
func TestParseCiphersGolden(t *testing.T) {
	data, err := os.ReadFile(goldenFile)
	if err != nil {
		t.Fatal(err)
	}
	golden := make(map[string]string)
	for line := range strings.Lines(string(data)) {
		s, want, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		golden[s] = want
	}
	all := cipherStrings(t)
	for _, s := range all {
		if want, ok := golden[s]; !ok {
			t.Errorf("%q is not in %s: run go test ./tlsopts -run OpenSSL -update", s, goldenFile)
		} else if got := parsed(t, s); got != want {
			t.Errorf("%q\n got %s\nwant %s", s, got, want)
		}
	}
	if len(golden) != len(all) {
		t.Errorf("%s has %d strings, the test makes %d", goldenFile, len(golden), len(all))
	}
}

// TestParseCiphersAsOpenSSL compares with the openssl that is installed, and if
// it is 3.0 the whole model, suites that Go lacks included. It keeps the golden
// file true.
func TestParseCiphersAsOpenSSL(t *testing.T) {
	path := need.Program(t, "openssl")
	whole := isOpenSSL30(t, path)
	all := cipherStrings(t)
	served := make([]string, len(all)) // by openssl -s -tls1_2, and Go
	var workers sync.WaitGroup
	next := make(chan int)
	for range 2 {
		workers.Go(func() {
			for i := range next {
				s := all[i]
				supported := opensslCiphers(t, path, "-s", "-tls1_2", "--", s)
				served[i] = word(slices.DeleteFunc(supported, func(name string) bool { return !tlsopts.IsServed(name) }))
				if got := parsed(t, s); got != served[i] {
					t.Errorf("%q\n got %s\nwant %s", s, got, served[i])
				}
				if !whole || i%3 != 0 { // a third is proof enough and saves seconds
					continue
				}
				model, err := tlsopts.AllSuites(s)
				if want := opensslCiphers(t, path, "--", s); err != nil || !slices.Equal(model, want) {
					t.Errorf("all of %q (%v)\n got %v\nwant %v", s, err, model, want)
				}
			}
		})
	}
	for i := range all {
		next <- i
	}
	close(next)
	workers.Wait()
	if !*update || !whole || t.Failed() {
		return
	}
	var b strings.Builder
	for i, s := range all {
		fmt.Fprintf(&b, "%s\t%s\n", s, served[i])
	}
	if err := os.WriteFile(goldenFile, []byte(b.String()), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestSuiteTableAsOpenSSL compares ids and IANA names with openssl's.
func TestSuiteTableAsOpenSSL(t *testing.T) {
	path := need.Program(t, "openssl")
	whole := isOpenSSL30(t, path)
	cmd := exec.Command(path, "ciphers", "-V", "-stdname", "ALL:COMPLEMENTOFALL:@SECLEVEL=0")
	cmd.Env = append(os.Environ(), "OPENSSL_CONF=/dev/null")
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	standard, seen := tlsopts.StandardNames(), 0
	for line := range strings.Lines(string(out)) {
		// 0xC0,0x2C - TLS_ECDHE_… - ECDHE-… TLSv1.2 Kx=ECDH …
		fields := strings.Fields(line)
		var high, low uint16
		if _, err := fmt.Sscanf(fields[0], "0x%02X,0x%02X", &high, &low); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		id := high<<8 | low
		if high == 0x13 || !whole && standard[id] == "" {
			continue
		}
		seen++
		if standard[id] != fields[2] || tlsopts.CipherSuiteName(id) != fields[4] {
			t.Errorf("0x%04X is %s %s, want %s %s", id, standard[id], tlsopts.CipherSuiteName(id), fields[2], fields[4])
		}
	}
	if seen < 100 {
		t.Errorf("compared only %d suites", seen)
	}
}

package test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

const composeDir = "../deploy/compose"

// composition is what deploy/compose/compose.yaml may hold: a key that is not
// here is one that nobody looked at.
type composition struct {
	Name     string `json:"name"`
	Services map[string]struct {
		Build struct {
			Context    string `json:"context"`
			Dockerfile string `json:"dockerfile"`
		} `json:"build"`
		Environment map[string]string `json:"environment"`
		Ports       []string          `json:"ports"`
		Volumes     []string          `json:"volumes"`
		Networks    []string          `json:"networks"`
		DependsOn   []string          `json:"depends_on"`
		ReadOnly    bool              `json:"read_only"`
		Tmpfs       []string          `json:"tmpfs"`
		CapDrop     []string          `json:"cap_drop"`
		CapAdd      []string          `json:"cap_add"`
		SecurityOpt []string          `json:"security_opt"`
		Ulimits     map[string]int    `json:"ulimits"`
		StopGrace   string            `json:"stop_grace_period"`
		Restart     string            `json:"restart"`
	} `json:"services"`
	Networks map[string]struct {
		Internal bool `json:"internal"`
	} `json:"networks"`
	Volumes map[string]struct{} `json:"volumes"`
}

func readComposition(t *testing.T) (c composition) {
	t.Helper()
	need(t, "yaml")
	const program = "import json, sys, yaml; json.dump(yaml.safe_load(open(sys.argv[1])), sys.stdout)"
	r := runProgram(t, python, "-c", program, filepath.Join(composeDir, "compose.yaml"))
	r.requireCode(t, 0)
	decoder := json.NewDecoder(strings.NewReader(r.output))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&c); err != nil {
		t.Fatal(err)
	}
	return c
}

// TestCompose_OnlyTheProxyReachesPostfix holds the composition to what
// docs/container.md says of it.
func TestCompose_OnlyTheProxyReachesPostfix(t *testing.T) {
	t.Parallel()
	c := readComposition(t)
	for name, service := range c.Services {
		if !service.ReadOnly || !slices.Equal(service.CapDrop, []string{"ALL"}) || !slices.Contains(service.SecurityOpt, "no-new-privileges:true") {
			t.Errorf("%s can write or gain rights: %+v", name, service)
		}
		folder := filepath.Join(composeDir, service.Build.Context)
		if service.Build.Dockerfile == "" {
			service.Build.Dockerfile = "Dockerfile"
		}
		readFile(t, filepath.Join(folder, service.Build.Dockerfile))
	}
	proxy, postfix := c.Services["smtp-tlsproxy"], c.Services["postfix"]
	if len(c.Services) != 2 || len(postfix.Ports) != 0 || !c.Networks["backend"].Internal {
		t.Errorf("others reach Postfix: %+v", c)
	}
	var shared []string
	for _, network := range proxy.Networks {
		if slices.Contains(postfix.Networks, network) {
			shared = append(shared, network)
		}
	}
	if !slices.Equal(shared, []string{"backend"}) {
		t.Errorf("the proxy and Postfix share %q", shared)
	}
	if want := []string{"465:2465", "587:2587", "25:2525", "127.0.0.1:9465:9465"}; !slices.Equal(proxy.Ports, want) || len(proxy.CapAdd) != 0 {
		t.Errorf("published is %q, added %q", proxy.Ports, proxy.CapAdd)
	}
	grace, err := time.ParseDuration(proxy.StopGrace)
	if err != nil || grace <= 2*time.Minute {
		t.Errorf("stop_grace_period is %q: transactions have timeouts.drain, 2m", proxy.StopGrace)
	}
}

// TestCompose_Serves runs what the composition runs, as processes: Postfix with
// its two files and no more capabilities than it is given there, and the proxy
// with its environment.
func TestCompose_Serves(t *testing.T) {
	t.Parallel()
	c := readComposition(t)
	server, certs := startComposedPostfix(t, c.Services["postfix"].CapAdd), newCertificates(t)
	p := &proxy{setup: setup{certificates: certs, submissions: loopback(t), submission: loopback(t), mx: loopback(t), admin: loopback(t)}}
	environment := []string{
		"SMTP_TLSPROXY_CERTIFICATES=" + certs.dir, "SMTP_TLSPROXY_LISTEN_SUBMISSIONS=" + p.submissions,
		"SMTP_TLSPROXY_LISTEN_SUBMISSION=" + p.submission, "SMTP_TLSPROXY_LISTEN_MX=" + p.mx,
	}
	for name, value := range c.Services["smtp-tlsproxy"].Environment {
		switch name {
		case "SMTP_TLSPROXY_BACKEND":
			value = strings.Replace(value, "postfix:10025", server.proxied, 1)
		case "SMTP_TLSPROXY_DEFAULT_CERTIFICATE":
			value = defaultDomain
		case "SMTP_TLSPROXY_ADMIN":
			value = p.admin
		}
		environment = append(environment, name+"="+value)
	}
	p.process = startBinary(t, environment, "serve")
	t.Cleanup(func() { p.requireCleanEnd(t) })
	p.waitReady(t)
	for _, port := range p.ports() {
		marker := newMarker()
		message := awkwardMessage("user@example.com", marker)
		arguments := append(swaksMessage(t, message), "--local-interface", clientAddress, "--from", "sender@client.test", "--ehlo", "client.test")
		if port.swaksTLS != "" {
			arguments = append(arguments, port.swaksTLS)
		}
		swaks(t, port.address, append(arguments, "--to", "user@example.com")...).requireCode(t, 0)
		if trace := server.requireDelivered(t, marker, message); !strings.Contains(trace, "["+clientAddress+"]") {
			t.Errorf("port %s: Postfix was not told of the client:\n%s", port.name, trace)
		}
		refused := swaks(t, port.address, append(arguments, "--to", "user@elsewhere.test")...)
		refused.requireOutput(t, "554 5.7.1 <user@elsewhere.test>: Relay access denied")
	}
	// Who comes past the proxy, as a user of the host can, gains nothing by what
	// the PROXY header claims.
	liar := swaks(t, server.proxied, "--proxy-version", "1", "--proxy-family", "TCP4", "--proxy-source", "127.0.0.1", "--proxy-source-port", "1234",
		"--proxy-dest", "127.0.0.1", "--proxy-dest-port", "25", "--from", "sender@client.test", "--to", "user@elsewhere.test")
	liar.requireOutput(t, "554 5.7.1 <user@elsewhere.test>: Relay access denied")
}

// startComposedPostfix starts Postfix with the files of the composition, moved
// to folders and a port of the test's.
func startComposedPostfix(t *testing.T, capabilities []string) *postfix {
	t.Helper()
	need(t, "root", "postfix", "setpriv")
	dir := sharedDir(t)
	p := &postfix{dir: dir, queue: filepath.Join(dir, "queue"), proxied: loopback(t), maildir: maildir(filepath.Join(dir, "mail/example.com/user"))}
	p.direct = p.proxied
	makePostfixQueue(t, p.queue)
	ownedDir(t, filepath.Join(dir, "mail"), 0o700, mailUser, mailUser)
	ownedDir(t, filepath.Join(dir, "data"), 0o700, postfixUser(t, "postfix"), -1)
	log := filepath.Join(dir, "postfix.log")
	writeFile(t, log, "")
	move := func(file string, changes ...string) {
		text := readFile(t, filepath.Join(composeDir, "postfix", file))
		for i := 0; i < len(changes); i += 2 {
			if !strings.Contains(text, changes[i]) {
				t.Fatalf("%s has no %q", file, changes[i])
			}
		}
		path := filepath.Join(dir, file)
		writeFile(t, path, strings.NewReplacer(changes...).Replace(text))
		past := time.Now().Add(-time.Minute) // Postfix reads a file of the last second again and again
		if err := os.Chtimes(path, past, past); err != nil {
			t.Fatal(err)
		}
	}
	move("main.cf", "/dev/stdout", log+"\nmaillog_file_prefixes = "+dir+"\nqueue_directory = "+p.queue+"\ndata_directory = "+dir+"/data",
		"/var/mail/virtual", dir+"/mail", "inet_interfaces = all", "inet_interfaces = loopback-only\nsmtpd_peername_lookup = no\ndisable_dns_lookups = yes")
	move("master.cf", "10025 inet", p.proxied+" inet")

	bounding := "-all"
	for _, capability := range capabilities {
		bounding += ",+" + strings.ToLower(capability)
	}
	command := exec.Command("setpriv", "--no-new-privs", "--bounding-set="+bounding, "--inh-caps="+bounding, postfixMaster(), "-c", dir, "-s")
	p.process = startProcess(t, "Postfix", log, command)
	waitListening(t, p.process, p.proxied)
	return p
}

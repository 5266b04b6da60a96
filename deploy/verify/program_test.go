package verify

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"maps"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	core "k8s.io/api/core/v1"
)

// TestProgramTakesEveryConfiguration lays out on disk what the kubelet would
// mount into the proxy's container, and has the program check it.
func TestProgramTakesEveryConfiguration(t *testing.T) {
	program := filepath.Join(t.TempDir(), "smtp-tlsproxy")
	build := exec.Command("go", "build", "-buildvcs=false", "-o", program, "./cmd/smtp-tlsproxy")
	build.Dir = "../.."
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if output, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, output)
	}
	for name, r := range variants(t) {
		for _, p := range r.pods() {
			proxy, ok := p.proxy()
			if !ok {
				continue
			}
			root := t.TempDir()
			folders := layOut(t, r, p, proxy, root)
			check := exec.Command(program, "check", "--offline", "--config", filepath.Join(root, "/etc/smtp-tlsproxy/config.yaml"))
			check.Env = environment(proxy)
			output, err := check.CombinedOutput()
			if err != nil {
				t.Errorf("%s: %s: smtp-tlsproxy check: %v\n%s", name, p.owner, err, output)
			}
			for _, folder := range folders {
				if !strings.Contains(string(output), folder) {
					t.Errorf("%s: %s: smtp-tlsproxy check does not know %s:\n%s", name, p.owner, folder, output)
				}
			}
		}
	}
}

// environment are the variables that a container sets out in full.
func environment(c core.Container) []string {
	all := []string{}
	for _, variable := range c.Env {
		if variable.ValueFrom == nil {
			all = append(all, variable.Name+"="+variable.Value)
		}
	}
	return all
}

// layOut writes the volumes of a container below root, and tells which server
// names there are. In the configuration, root stands before what is mounted.
func layOut(t *testing.T, r rendering, p pod, c core.Container, root string) (names []string) {
	t.Helper()
	for _, mount := range c.VolumeMounts {
		i := slices.IndexFunc(p.spec().Volumes, func(v core.Volume) bool { return v.Name == mount.Name })
		files := map[string]string{}
		switch volume := p.spec().Volumes[i]; {
		case volume.Projected != nil:
			for _, source := range volume.Projected.Sources {
				name := filepath.Dir(source.Secret.Items[0].Path)
				names = append(names, name)
				pair := keyPair(t, strings.Replace(name, "_.", "*.", 1))
				for _, item := range source.Secret.Items {
					files[item.Path] = pair[item.Key]
				}
			}
		case volume.Secret != nil:
			files[madeByHand[volume.Secret.SecretName]] = rand.Text() + rand.Text()
		case volume.ConfigMap != nil:
			if m, ok := named[*core.ConfigMap](r, volume.ConfigMap.Name); ok {
				maps.Copy(files, m.Data)
			}
		}
		for name, text := range files {
			for _, other := range c.VolumeMounts {
				text = strings.ReplaceAll(text, " "+other.MountPath, " "+root+other.MountPath)
			}
			files[name] = text
		}
		mountAsKubelet(t, filepath.Join(root, mount.MountPath), files)
	}
	return names
}

// mountAsKubelet writes files as the kubelet does: into a folder of one moment,
// to which the link ..data leads, to whose first level links lead from outside.
func mountAsKubelet(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	const moment = "..2026_11_24_12_00_00.1"
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.MkdirAll(filepath.Join(dir, moment), 0o755))
	must(os.Symlink(moment, filepath.Join(dir, "..data")))
	linked := map[string]bool{}
	for name, text := range files {
		must(os.MkdirAll(filepath.Dir(filepath.Join(dir, moment, name)), 0o755))
		must(os.WriteFile(filepath.Join(dir, moment, name), []byte(text), 0o440))
		if top, _, _ := strings.Cut(name, "/"); !linked[top] {
			linked[top] = true
			must(os.Symlink("..data/"+top, filepath.Join(dir, top)))
		}
	}
}

// keyPair is a Secret of type kubernetes.io/tls for one name.
func keyPair(t *testing.T, name string) map[string]string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(0, 0, 90),
	}
	chain, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return map[string]string{
		"tls.crt": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: chain})),
		"tls.key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})),
	}
}

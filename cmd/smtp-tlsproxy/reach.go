package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/config"
)

// ofTheSystem are what the Go runtime reads at any time: name resolution, time
// zones, and the numbers of this process for its metrics. Names
// are resolved by /etc/resolv.conf, which programs replace: a rule for the file
// alone would end with that.
var ofTheSystem = []string{
	"/etc", "/usr/share/zoneinfo",
	"/proc/self", "/proc/stat", "/proc/sys/net/core", "/dev/null", "/dev/urandom",
}

// reachOf is what a configuration needs to open, now and when its files are
// replaced.
func reachOf(from source, cfg *config.Config) *reach {
	r := new(reach)
	for _, path := range ofTheSystem {
		r.add(path)
	}
	r.addFile("/etc/resolv.conf") // systemd-resolved has it elsewhere
	r.addFile("/etc/hosts")
	for _, file := range from.files() {
		r.addFile(file)
	}
	r.addCertificates(cfg.Certificates.Directory)
	for _, l := range cfg.Listeners {
		for _, path := range []string{l.TLS.ClientAuth.CA, l.TLS.SessionTickets.SecretFile} {
			if path != "" {
				r.addFile(path)
			}
		}
		if path := l.TLS.KeyLogFile; path != "" && !slices.Contains(r.write, path) {
			r.write = append(r.write, path)
		}
	}
	for _, path := range filesOfBackends(cfg) {
		r.addFile(*path)
	}
	return r
}

// add lets a path be read, with what is below it.
func (r *reach) add(path string) {
	real, err := filepath.EvalSymlinks(path)
	if err != nil || slices.Contains(r.read, real) {
		return // what is not there can not be opened either
	}
	r.read = append(r.read, real)
}

// addFile lets a file be read, and what is put in its place: its folder, and
// that of what it links to.
func (r *reach) addFile(path string) {
	folder := func(path string) string {
		if dir := filepath.Dir(path); dir != "/" {
			return dir
		}
		return path
	}
	if absolute, err := filepath.Abs(path); err == nil {
		path = absolute
	}
	r.add(folder(path))
	if real, err := filepath.EvalSymlinks(path); err == nil {
		r.add(folder(real))
	}
}

// maxFolders is how many folders of certificates are looked into for links.
// With more, those that are left have links to the same places or none.
const maxFolders = 1000

// addCertificates lets the certificate directory be read, and where links in it
// lead, as those of certbot do from live to archive.
func (r *reach) addCertificates(directory string) {
	r.add(directory)
	if isLink(directory) { // it is switched to another one to renew all at once
		r.addAround(directory)
	}
	folders, err := os.ReadDir(directory)
	if err != nil {
		return
	}
	for n, folder := range folders {
		path := filepath.Join(directory, folder.Name())
		if folder.Type()&os.ModeSymlink != 0 {
			r.addAround(path)
		}
		if n < maxFolders {
			r.addLinks(path)
		}
	}
}

// addLinks lets what the files of a folder of certificates are links to be
// read, and the passphrase that its tls.yaml names.
func (r *reach) addLinks(folder string) {
	files, err := os.ReadDir(folder)
	if err != nil {
		return
	}
	for _, file := range files {
		path := filepath.Join(folder, file.Name())
		if file.Type()&os.ModeSymlink != 0 {
			if real, err := filepath.EvalSymlinks(path); err == nil {
				r.addAround(filepath.Dir(real))
			}
		}
		if file.Name() != "tls.yaml" {
			continue
		}
		if data, err := os.ReadFile(path); err == nil {
			if own, err := config.ParseFolder(path, data); err == nil && own.Passphrase != "" {
				r.addFile(absolute(folder, own.Passphrase))
			}
		}
	}
}

// addAround lets a folder be read that a link leads to, and those beside it,
// where the next renewal or domain will be: not where that would be most of the
// machine.
func (r *reach) addAround(folder string) {
	real, err := filepath.EvalSymlinks(folder)
	if err != nil || slices.ContainsFunc(r.read, func(top string) bool { return isBelow(real, top) }) {
		return
	}
	const shallow = 2 // components, as /var/lib
	if beside := filepath.Dir(real); strings.Count(beside, "/") > shallow {
		r.add(beside)
		return
	}
	r.add(real)
}

// absolute is where a path leads that is seen from a folder.
func absolute(folder, path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(folder, path)
}

func isBelow(path, top string) bool {
	return path == top || strings.HasPrefix(path, strings.TrimSuffix(top, "/")+"/")
}

func isLink(path string) bool {
	info, err := os.Lstat(path)
	return err == nil && info.Mode()&os.ModeSymlink != 0
}

func isDirectory(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

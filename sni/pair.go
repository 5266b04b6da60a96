package sni

import (
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/tlsopts"
)

// maxFile is the largest chain or key that is read. A chain with its
// intermediates is a few kB; encoding/pem and crypto/x509 took quadratic time
// on some large input (GO-2025-4009, GO-2025-4007).
const maxFile = 1 << 20

// layout is the names under which a folder may hold its chain and key.
type layout struct{ chain, key string }

// layouts are looked for in this order, and only a whole pair counts:
// certbot's folder has a cert.pem, of the leaf alone, without a key.pem.
var layouts = []layout{
	{"cert.pem", "key.pem"},
	{"fullchain.pem", "privkey.pem"}, // certbot, lego
	{"tls.crt", "tls.key"},           // Kubernetes Secret of type kubernetes.io/tls
}

// pair is a chain and key that belong together, as read from disk.
type pair struct {
	cert       *tls.Certificate
	sum        [sha256.Size]byte // of both files
	chain, key os.FileInfo       // as they were when they were read
	warnings   []string
}

// source is where a folder's pair is now.
type source struct {
	layout
	dir        string // resolved; both files are read through it
	chain, key os.FileInfo
	watch      []string // resolved directories in which a change may mean renewal
}

// holds reports whether p was read from files that look as those of src do.
func (src source) holds(p *pair) bool { return same(src.chain, p.chain) && same(src.key, p.key) }

func same(a, b os.FileInfo) bool {
	return os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}

// read reads and verifies the pair of a folder. It calls follow with the
// directories to watch before it reads, so that no later change goes unseen.
func (d disk) read(folder string, follow func(dirs []string)) (*pair, error) {
	p, err := d.readOnce(folder, follow)
	if err != nil {
		// A Kubernetes swap or a link switched by certbot may have come
		// between the two files; the second look finds both new.
		p, err = d.readOnce(folder, follow)
	}
	return p, err
}

func (d disk) readOnce(folder string, follow func(dirs []string)) (*pair, error) {
	src, err := d.locate(folder)
	follow(src.watch)
	if err != nil {
		return nil, err
	}
	chainPEM, chain, err := d.readFile(folder, src.dir, src.layout.chain)
	if err != nil {
		return nil, err
	}
	keyPEM, key, err := d.readFile(folder, src.dir, src.layout.key)
	if err != nil {
		return nil, err
	}
	cert, err := tlsopts.ParsePair(chainPEM, keyPEM)
	if err != nil {
		return nil, &FolderError{Folder: folder, Path: filepath.Join(d.dir, folder),
			Err: fmt.Errorf("%s and %s: %w", src.layout.chain, src.layout.key, err)}
	}
	return &pair{
		cert:     cert,
		sum:      digest(chainPEM, keyPEM),
		chain:    chain,
		key:      key,
		warnings: warnings(folder, cert, filepath.Join(d.dir, folder, src.layout.key), key.Mode()),
	}, nil
}

// digest of both files: only content tells a renewal from a rewrite, as a
// Kubernetes swap gives every file a new inode and time.
func digest(chainPEM, keyPEM []byte) [sha256.Size]byte {
	chain, key := sha256.Sum256(chainPEM), sha256.Sum256(keyPEM)
	return sha256.Sum256(append(chain[:], key[:]...))
}

// locate resolves the folder once and finds its files. With an error the
// source still has what to watch.
func (d disk) locate(folder string) (source, error) {
	path := filepath.Join(d.dir, folder)
	resolved, err := filepath.EvalSymlinks(path)
	if err != nil {
		return source{}, &FolderError{Folder: folder, Path: path, Err: cause(err)}
	}
	src := source{dir: resolved, watch: []string{resolved}}
	// The files of a Kubernetes volume are links through "..data", which is
	// switched at once for all of them: following it once gives one Secret.
	if data, err := filepath.EvalSymlinks(filepath.Join(resolved, "..data")); err == nil {
		src.dir = data
	}
	var half string
	for _, names := range layouts {
		var chainErr, keyErr error
		src.chain, chainErr = os.Stat(filepath.Join(src.dir, names.chain))
		src.key, keyErr = os.Stat(filepath.Join(src.dir, names.key))
		if chainErr == nil && keyErr == nil {
			src.layout = names
			src.watchTargets()
			return src, nil
		}
		if err := errors.Join(ignoreMissing(chainErr), ignoreMissing(keyErr)); err != nil {
			return src, &FolderError{Folder: folder, Path: path, Err: cause(err)}
		}
		if half == "" && chainErr == nil {
			half = fmt.Sprintf("%s is missing beside %s", names.key, names.chain)
		} else if half == "" && keyErr == nil {
			half = fmt.Sprintf("%s is missing beside %s", names.chain, names.key)
		}
	}
	return src, &FolderError{Folder: folder, Path: path, Err: noPair(half)}
}

// watchTargets adds the directories that linked files really lie in, where a
// renewal may rewrite them without a trace in the folder.
func (src *source) watchTargets() {
	for _, name := range []string{src.layout.chain, src.layout.key} {
		file, err := filepath.EvalSymlinks(filepath.Join(src.dir, name))
		if dir := filepath.Dir(file); err == nil && !slices.Contains(src.watch, dir) {
			src.watch = append(src.watch, dir)
		}
	}
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func noPair(half string) error {
	var wanted []string
	for _, names := range layouts {
		wanted = append(wanted, names.chain+" with "+names.key)
	}
	if half == "" {
		half = "no certificate"
	}
	return fmt.Errorf("%s; looked for %s: %w", half, strings.Join(wanted, ", "), fs.ErrNotExist)
}

// readFile returns a file's content and how it was before reading.
func (d disk) readFile(folder, resolved, name string) ([]byte, os.FileInfo, error) {
	data, info, err := d.readRegular(filepath.Join(resolved, name))
	if err != nil {
		return nil, nil, &FolderError{Folder: folder, Path: filepath.Join(d.dir, folder, name), Err: cause(err)}
	}
	return data, info, nil
}

func (d disk) readRegular(path string) ([]byte, os.FileInfo, error) {
	f, err := d.open(path)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, nil, errors.New("not a regular file")
	}
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, nil, err
	}
	if len(data) > maxFile {
		return nil, nil, fmt.Errorf("larger than %d bytes, which no chain or key is", maxFile)
	}
	return data, info, nil
}

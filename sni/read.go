package sni

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/tlsopts"
)

// maxNames is how many files a folder may have: certbot's archive keeps
// some dozens, and a folder is listed each time it changes.
const maxNames = 4096

// reading is one reading of a folder.
type reading struct {
	disk    disk
	folder  string
	options Options
	old     *Identity // in service; may be nil

	path  string   // of the folder, as the operator knows it
	dir   string   // resolved; all files are read through it
	names []string // of its files, sorted
	look  *look    // apart, as it is kept

	groups     []readGroup
	passphrase []byte
	digests    [][sha256.Size]byte // of all that counts as content
	warnings   []string
	errs       []error // of the pairs that cannot be served
	carried    bool    // pairs of old stand in for some of these
}

// readGroup is a pair as it was read, or several of one bundle.
type readGroup struct {
	name  string
	file  string            // with the chain
	sum   [sha256.Size]byte // of its files and the passphrase
	pairs []*tls.Certificate
}

// read reads what a folder holds and puts it beside what is in service, old,
// which may be nil. Before it reads a file it calls follow with the places to
// watch, so that no later change goes unseen.
//
// With an error the identity holds what can be served nevertheless, pairs of
// old that could not be renewed among it, or is nil. The look is never nil.
func (d disk) read(folder string, o Options, old *Identity, follow func(places)) (*Identity, *look, error) {
	id, seen, err := d.readOnce(folder, o, old, follow)
	if err != nil {
		// A Kubernetes swap or a link switched by certbot may have come
		// between two files; the second reading finds both new.
		id, seen, err = d.readOnce(folder, o, old, follow)
	}
	return id, seen, err
}

func (d disk) reading(folder string) *reading {
	return &reading{disk: d, folder: folder, path: filepath.Join(d.dir, folder), look: &look{at: time.Now()}}
}

func (d disk) readOnce(folder string, o Options, old *Identity, follow func(places)) (*Identity, *look, error) {
	r := d.reading(folder)
	r.options, r.old = o, old
	id, err := r.all(follow)
	if err != nil {
		if f, ok := errors.AsType[*FolderError](err); ok {
			f.alone = r.mayRefuse(err)
		}
		return nil, r.look, err
	}
	r.finish(id)
	return id, r.look, errors.Join(r.errs...)
}

func (r *reading) all(follow func(places)) (*Identity, error) {
	if err := r.list(follow); err != nil {
		return nil, err
	}
	id, err := r.identity()
	if err != nil {
		return nil, err
	}
	return id, r.pairs()
}

// mayRefuse reports whether a folder that cannot be served may say who can
// connect: it does, or could not be listed although it is there.
func (r *reading) mayRefuse(err error) bool {
	if r.names == nil && r.dir == "" {
		return !errors.Is(err, fs.ErrNotExist)
	}
	return r.has(clientCAFile) || r.has(optionsFile) && r.options.FolderOptions != nil
}

// list resolves the folder once and lists its files.
func (r *reading) list(follow func(places)) error {
	folder, err := stampOf(r.path) // before it is resolved: a link switched meanwhile shows
	r.look.add(r.path, folder)
	if err != nil {
		return r.fault("", err)
	}
	resolved := r.path
	if _, err := os.Readlink(r.path); err == nil {
		if resolved, err = filepath.EvalSymlinks(r.path); err != nil {
			return r.fault("", err)
		}
	}
	f, err := r.disk.open(resolved)
	if err != nil {
		return r.fault("", err)
	}
	defer f.Close()
	found, err := f.ReadDir(maxNames + 1)
	if err != nil && !errors.Is(err, io.EOF) {
		return r.fault("", err)
	}
	if len(found) > maxNames {
		return r.fault("", fmt.Errorf("more than %d files, which no folder of a certificate has", maxNames))
	}
	r.dir = resolved
	watch := places{dirs: []string{resolved}, complete: resolved == r.path}
	for _, each := range found {
		r.names = append(r.names, each.Name())
		if each.Type()&fs.ModeSymlink == 0 {
			continue
		}
		target, err := filepath.EvalSymlinks(filepath.Join(resolved, each.Name()))
		if err != nil {
			watch.complete = false
			continue
		}
		// The files of a Kubernetes volume are links through "..data", which is
		// switched at once for all of them: following it once gives one Secret.
		if each.Name() == "..data" {
			r.dir = target
		}
		// A renewal may rewrite a linked file without a trace in the folder.
		if dir := filepath.Dir(target); !slices.Contains(watch.dirs, dir) {
			watch.complete = false // there may be more links on the way there
			if len(watch.dirs) < maxLinked {
				watch.dirs = append(watch.dirs, dir)
			}
		}
	}
	slices.Sort(r.names)
	follow(watch)
	return nil
}

// places is where a folder may change.
type places struct {
	dirs     []string
	complete bool // nowhere else
}

// maxLinked bounds the directories that are watched for one folder: its own,
// and where its links lead. It is one, as certbot has it, or two.
const maxLinked = 8

// identity reads all but the pairs. A fault in it keeps the folder out of
// service: it says who may connect, and how.
func (r *reading) identity() (*Identity, error) {
	id := &Identity{Folder: r.folder}
	if r.has(optionsFile) && r.options.FolderOptions == nil {
		r.warn(optionsFile, "the file is not read: there are no options for folders here")
	}
	if r.has(optionsFile) && r.options.FolderOptions != nil {
		data, err := r.file(optionsFile)
		if err != nil {
			return nil, err
		}
		path := filepath.Join(r.path, optionsFile)
		if id.Options, err = r.options.FolderOptions(path, data); err != nil {
			return nil, &FolderError{Folder: r.folder, Path: path, Err: err}
		}
		r.digests = append(r.digests, sha256.Sum256(data))
	}
	if r.has(clientCAFile) {
		data, err := r.file(clientCAFile)
		if err != nil {
			return nil, err
		}
		if id.ClientCA, err = tlsopts.ParseAuthorities(data); err != nil {
			return nil, r.fault(clientCAFile, err)
		}
		r.digests = append(r.digests, sha256.Sum256(data))
	}
	return id, r.readPassphrase(id.Options)
}

// readPassphrase reads the file that the folder's options name, or else
// "passphrase", less the line ending that editors leave.
func (r *reading) readPassphrase(options any) error {
	name := passphraseFile
	if o, ok := options.(PassphraseFiler); ok && o.PassphraseFile() != "" {
		name = o.PassphraseFile()
	} else if !r.has(passphraseFile) {
		return nil
	}
	data, err := r.file(name)
	if err != nil {
		return err
	}
	r.checkMode(name)
	r.passphrase = bytes.TrimSuffix(bytes.TrimSuffix(data, []byte("\n")), []byte("\r"))
	return nil
}

// pairs reads and verifies the pairs.
func (r *reading) pairs() error {
	found := groups(r.names)
	if len(found) == 0 {
		return r.fault("", errNoPair)
	}
	for _, g := range found {
		read, err := r.pair(g)
		if err != nil {
			r.errs = append(r.errs, err)
			if read = r.inService(g); read == nil {
				continue
			}
			r.carried = true
		}
		r.groups = append(r.groups, *read)
		r.digests = append(r.digests, read.sum)
	}
	if len(r.groups) == 0 {
		return r.errs[0]
	}
	return nil
}

// inService returns the pair of an old reading.
func (r *reading) inService(g group) *readGroup {
	if r.old == nil {
		return nil
	}
	for _, old := range r.old.groups {
		if old.name == g.String() {
			return &old
		}
	}
	return nil
}

func (r *reading) pair(g group) (*readGroup, error) {
	if g.err != nil {
		return nil, r.fault("", g.err)
	}
	var files []tlsopts.File
	sum := sha256.New()
	for _, name := range g.files {
		data, err := r.file(name)
		if err != nil {
			return nil, err
		}
		each := sha256.Sum256(data)
		sum.Write(each[:])
		files = append(files, tlsopts.File{Data: data})
	}
	r.checkMode(g.files[len(g.files)-1])
	sum.Write(r.passphrase)
	read := &readGroup{name: g.String(), file: g.files[0]}
	sum.Sum(read.sum[:0])
	// Only content tells a renewal from a rewrite, as a Kubernetes swap gives
	// every file a new inode and time.
	if old := r.inService(g); old != nil && old.sum == read.sum {
		return old, nil
	}
	var err error
	if read.pairs, err = parse(r.passphrase, files); err != nil {
		return nil, r.fault("", fmt.Errorf("%s: %w", read.name, err))
	}
	for _, pair := range read.pairs {
		lean(pair)
	}
	return read, nil
}

func parse(passphrase []byte, files []tlsopts.File) ([]*tls.Certificate, error) {
	if len(files) == 2 && len(passphrase) == 0 { // says of each file what it should be
		pair, err := tlsopts.ParsePair(files[0].Data, files[1].Data)
		return []*tls.Certificate{pair}, err
	}
	return tlsopts.ParsePairs(passphrase, files...)
}

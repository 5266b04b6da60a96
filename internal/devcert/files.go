package devcert

import (
	"crypto"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// The files of an authority that is kept.
const (
	caFile    = "ca.pem"
	caKeyFile = "ca-key.pem"
)

// CAFile is where the certificate of an authority that is kept in dir stands.
func CAFile(dir string) string { return filepath.Join(dir, caFile) }

// OpenCA reads the authority that is kept in dir, or makes one there. It
// refuses a key that others can read, as who has it can pose as any server to all
// who trust the authority, and a link in the place of dir or a file.
func OpenCA(dir, name string) (ca *CA, made bool, err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, false, err
	}
	info, err := os.Lstat(dir)
	if err == nil && !info.IsDir() {
		err = fmt.Errorf("%s is a link, and is not followed: remove it", dir)
	}
	if err != nil {
		return nil, false, err
	}
	unlock, err := lock(dir)
	if err != nil {
		return nil, false, err
	}
	defer unlock()
	certFile, keyFile := CAFile(dir), filepath.Join(dir, caKeyFile)
	hasCert, err := isThere(certFile)
	if err != nil {
		return nil, false, err
	}
	hasKey, err := isThere(keyFile)
	switch {
	case err != nil:
		return nil, false, err
	case hasCert != hasKey:
		return nil, false, fmt.Errorf("of %s and %s only one is there: restore the other, or remove both for a new authority, which clients have to trust then", certFile, keyFile)
	case hasCert:
		ca, err = readCA(certFile, keyFile)
		return ca, false, err
	}
	if ca, err = NewCA(name); err != nil {
		return nil, false, err
	}
	keyPEM, err := privateKeyPEM(ca.key)
	if err != nil {
		return nil, false, err
	}
	return ca, true, WritePair(certFile, keyFile, ca.PEM(), keyPEM)
}

// lock keeps a second authority from being made meanwhile.
func lock(dir string) (unlock func(), err error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		f.Close()
		return nil, fmt.Errorf("locking %s: %w", dir, err)
	}
	return func() { f.Close() }, nil
}

func isThere(file string) (bool, error) {
	info, err := os.Lstat(file)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file", file)
	}
	return err == nil, err
}

func readCA(certFile, keyFile string) (*CA, error) {
	info, err := os.Stat(keyFile)
	if err != nil {
		return nil, err
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return nil, fmt.Errorf("%s can be read by others (mode %04o), who can pose as any server with it: chmod 0600 it, or remove the authority", keyFile, mode)
	}
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return nil, fmt.Errorf("%s with %s: %w", certFile, keyFile, err)
	}
	const mend = "remove its folder for a new one, which clients have to trust then"
	switch {
	case !pair.Leaf.IsCA:
		return nil, fmt.Errorf("%s is not the certificate of an authority: %s", certFile, mend)
	case time.Now().After(pair.Leaf.NotAfter):
		return nil, fmt.Errorf("the authority %s has expired at %s: %s", certFile, pair.Leaf.NotAfter.UTC().Format(time.RFC3339), mend)
	}
	return &CA{cert: pair.Leaf, key: pair.PrivateKey.(crypto.Signer)}, nil // crypto/tls reads no other keys
}

// WriteFolder issues a leaf into dir/folder as cert.pem and key.pem.
func (ca *CA) WriteFolder(dir, folder string, leaf Leaf) error {
	certPEM, keyPEM, err := ca.Issue(leaf)
	if err != nil {
		return err
	}
	folder = filepath.Join(dir, folder)
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	return WritePair(filepath.Join(folder, "cert.pem"), filepath.Join(folder, "key.pem"), certPEM, keyPEM)
}

// WritePair writes a certificate and its key, each aside and renamed over, the
// key first. A key is never readable by others, not even while it is written.
// Files that are there keep their owner, and their mode as far as it is not
// laxer than that of new ones; the key's group may read it if it could.
func WritePair(certFile, keyFile string, certPEM, keyPEM []byte) error {
	if err := replace(keyFile, keyPEM, 0o600, 0o640); err != nil {
		return err
	}
	return replace(certFile, certPEM, 0o644, 0o644)
}

// replace writes a file with a mode, or with what its mode was as far as that
// is within most.
func replace(file string, data []byte, mode, most fs.FileMode) error {
	owner, group := -1, -1
	if info, err := os.Lstat(file); err == nil && info.Mode().IsRegular() {
		mode = info.Mode().Perm() & most
		if stat, ok := info.Sys().(*syscall.Stat_t); ok {
			owner, group = int(stat.Uid), int(stat.Gid)
		}
	}
	f, err := os.CreateTemp(filepath.Dir(file), "."+filepath.Base(file)+"-*") // for its owner only
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Chown(owner, group) // before the mode: with its group changed, it could be read by a wrong one
	}
	if err == nil {
		err = f.Chmod(mode)
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), file)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

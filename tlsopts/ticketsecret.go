package tlsopts

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"unicode"
	"unicode/utf8"
)

const (
	// minTicketSecret is the length of nginx's and Node.js's ticket keys of
	// AES-128, and the least for a line of text.
	minTicketSecret = 48
	// maxTicketSecrets is more than any rotation needs. Each costs three key
	// derivations in a time step.
	maxTicketSecrets = 16
	maxSecretFile    = 64 << 10
	// minDistinct is how many different bytes a secret has at least. 48 random
	// hexadecimal digits have fewer than 8 once in 10^13 times; a file of
	// zeros, reserved but never written, has one.
	minDistinct = 8
)

// parseTicketSecrets reads the secrets of a file, the one that encrypts first.
// See TicketOptions.SecretFile for the forms. No error has a part of a secret.
func parseTicketSecrets(data []byte) ([][]byte, error) {
	if !isText(data) {
		if len(data) < minTicketSecret {
			return nil, fmt.Errorf("the secret has %d bytes; %d is the least: make one with \"openssl rand -out FILE 48\"", len(data), minTicketSecret)
		}
		return checkDistinct([][]byte{data})
	}
	var secrets [][]byte
	number := 0
	for line := range bytes.Lines(data) {
		number++
		line = bytes.TrimSpace(line)
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		if len(line) < minTicketSecret {
			return nil, fmt.Errorf("line %d has %d characters; %d is the least: make one with \"openssl rand -base64 48\"", number, len(line), minTicketSecret)
		}
		if !slices.ContainsFunc(secrets, func(other []byte) bool { return bytes.Equal(other, line) }) {
			secrets = append(secrets, line)
		}
	}
	switch {
	case len(secrets) == 0:
		return nil, errors.New("no secret in the file: make one with \"openssl rand -base64 48\"")
	case len(secrets) > maxTicketSecrets:
		return nil, fmt.Errorf("%d secrets; %d is the limit: remove the old ones at the end", len(secrets), maxTicketSecrets)
	}
	return checkDistinct(secrets)
}

func checkDistinct(secrets [][]byte) ([][]byte, error) {
	for i, secret := range secrets {
		var seen [256]bool
		distinct := 0
		for _, b := range secret {
			if !seen[b] {
				seen[b] = true
				distinct++
			}
		}
		if distinct < minDistinct {
			return nil, fmt.Errorf("secret %d has but %d different bytes and is not random: make one with \"openssl rand -base64 48\"", i+1, distinct)
		}
	}
	return secrets, nil
}

// isText tells lines of text from 48 or more random bytes, of which so many
// are control characters or no UTF-8 that chance does not hide them all.
func isText(data []byte) bool {
	return utf8.Valid(data) && !bytes.ContainsFunc(data, func(r rune) bool {
		return unicode.IsControl(r) && r != '\n' && r != '\r' && r != '\t'
	})
}

func readSecretFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() { // opening a FIFO would wait for a writer
		return nil, fmt.Errorf("%s: not a regular file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxSecretFile+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxSecretFile {
		return nil, fmt.Errorf("%s: larger than %d bytes, which no file of secrets is", path, maxSecretFile)
	}
	return data, nil
}

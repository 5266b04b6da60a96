package test

import (
	"crypto/hmac"
	"crypto/md5"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"
)

// saslMechanism does AUTH as saslUser, up to the reply that says whether the
// password was right.
type saslMechanism func(c *client, password string) (reply string, err error)

var saslMechanisms = map[string]saslMechanism{
	"PLAIN":         saslPlain,
	"LOGIN":         saslLogin,
	"CRAM-MD5":      saslCRAM,
	"SCRAM-SHA-256": saslSCRAM,
}

// last sends a line and reads whatever reply.
func (c *client) last(line string) (string, error) {
	err := c.send([]byte(line + "\r\n"))
	if err != nil {
		return "", err
	}
	return c.anyReply(), nil
}

// challenged sends a line and decodes the challenge that it gets.
func (c *client) challenged(line string) (string, error) {
	reply, err := c.exchange(line, 334)
	if err != nil {
		return "", err
	}
	text, err := base64.StdEncoding.DecodeString(strings.TrimSpace(reply[len("334 "):]))
	return string(text), err
}

func saslPlain(c *client, password string) (string, error) {
	return c.last("AUTH PLAIN " + base64Of("\x00"+saslUser+"\x00"+password))
}

func saslLogin(c *client, password string) (string, error) {
	if _, err := c.challenged("AUTH LOGIN"); err != nil {
		return "", err
	}
	if _, err := c.challenged(base64Of(saslUser)); err != nil {
		return "", err
	}
	return c.last(base64Of(password))
}

func saslCRAM(c *client, password string) (string, error) {
	challenge, err := c.challenged("AUTH CRAM-MD5")
	if err != nil {
		return "", err
	}
	mac := hmac.New(md5.New, []byte(password))
	mac.Write([]byte(challenge))
	return c.last(base64Of(saslUser + " " + hex.EncodeToString(mac.Sum(nil))))
}

// saslSCRAM is RFC 5802 without channel binding. It checks the server's proof,
// too.
func saslSCRAM(c *client, password string) (string, error) {
	first := "n=" + saslUser + ",r=" + rand.Text()
	challenge, err := c.challenged("AUTH SCRAM-SHA-256 " + base64Of("n,,"+first))
	if err != nil {
		return "", err
	}
	var nonce, salt64 string
	var rounds int
	if _, err := fmt.Sscanf(strings.ReplaceAll(challenge, ",", " "), "r=%s s=%s i=%d", &nonce, &salt64, &rounds); err != nil {
		return "", fmt.Errorf("challenge %q: %w", challenge, err)
	}
	salt, err := base64.StdEncoding.DecodeString(salt64)
	if err != nil || !strings.HasPrefix(nonce, first[strings.Index(first, "r=")+2:]) {
		return "", fmt.Errorf("challenge %q to %q: %w", challenge, first, err)
	}
	salted, err := pbkdf2.Key(sha256.New, password, salt, rounds, sha256.Size)
	if err != nil {
		return "", err
	}
	final := "c=biws,r=" + nonce
	both := first + "," + challenge + "," + final
	key := hmacSHA256(salted, "Client Key")
	stored := sha256.Sum256(key)
	proof := make([]byte, sha256.Size)
	subtle.XORBytes(proof, key, hmacSHA256(stored[:], both))
	reply, err := c.last(base64Of(final + ",p=" + base64.StdEncoding.EncodeToString(proof)))
	if err != nil || !strings.HasPrefix(reply, "334 ") {
		return reply, err
	}
	want := "v=" + base64.StdEncoding.EncodeToString(hmacSHA256(hmacSHA256(salted, "Server Key"), both))
	if got := strings.TrimSpace(reply[len("334 "):]); got != base64Of(want) {
		return reply, fmt.Errorf("the server's proof is %q, want %q", got, base64Of(want))
	}
	return c.last("")
}

func hmacSHA256(key []byte, text string) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(text))
	return mac.Sum(nil)
}

package tlsopts

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"time"
)

// keyName tells a ticket's key without trying them all.
type keyName [16]byte

// ticketKey encrypts tickets in one time step.
type ticketKey struct {
	name keyName
	aead cipher.AEAD // AES-256-GCM with random nonces; safe for concurrent use
}

// secretSet are the secrets of one reading of the file. It does not change.
type secretSet struct {
	secrets [][]byte
	sum     [sha256.Size]byte // of the file
}

// keyring has all keys of one time step. It does not change.
type keyring struct {
	from *secretSet
	step int64
	keys []ticketKey // the first encrypts, all decrypt
}

func (r *keyring) find(name keyName) *ticketKey {
	for i := range r.keys {
		if r.keys[i].name == name {
			return &r.keys[i]
		}
	}
	return nil
}

// keyring returns the keys for now. It takes no lock; those who first come in
// a new time step may each derive the same keys.
func (t *Tickets) keyring() *keyring {
	from, step := t.secrets.Load(), t.step()
	if ring := t.ring.Load(); ring != nil && ring.from == from && ring.step == step {
		return ring
	}
	ring := &keyring{from: from, step: step}
	// The present step first. The one before is for tickets that were issued in
	// it, the one after for replicas whose clock is ahead.
	for _, at := range []int64{step, step - 1, step + 1} {
		for _, secret := range from.secrets {
			ring.keys = append(ring.keys, deriveTicketKey(secret, at, t.rotate))
		}
	}
	t.ring.Store(ring)
	return ring
}

// step is the number of the present time step, the same on all replicas.
func (t *Tickets) step() int64 {
	return t.now().UnixNano() / int64(t.rotate)
}

// deriveTicketKey makes the key of a secret for a time step. Steps of another
// length have other keys: they would not rotate together. It panics only if the
// standard library refuses the sizes that are written here.
func deriveTicketKey(secret []byte, step int64, length time.Duration) ticketKey {
	const label = "smtp-tlsproxy session ticket 1"
	info := binary.BigEndian.AppendUint64([]byte(label), uint64(length))
	info = binary.BigEndian.AppendUint64(info, uint64(step))
	const keySize = 32 // AES-256
	var key ticketKey
	derived, err := hkdf.Key(sha256.New, secret, nil, string(info), len(key.name)+keySize)
	if err != nil {
		panic("tlsopts: HKDF of 48 bytes: " + err.Error()) // only lengths beyond its limit fail
	}
	copy(key.name[:], derived)
	block, err := aes.NewCipher(derived[len(key.name):])
	if err == nil {
		key.aead, err = cipher.NewGCMWithRandomNonce(block)
	}
	if err != nil {
		panic("tlsopts: AES-256-GCM: " + err.Error()) // only other key sizes fail
	}
	return key
}

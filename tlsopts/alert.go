package tlsopts

import (
	"crypto/tls"
	"errors"
	"net"
	"strconv"
	"sync"
)

// Alert is the description of a TLS alert, as RFC 8446 section 6 numbers it.
type Alert uint8

// alertNames are the names of RFC 8446 section 6. What earlier versions had
// besides is reserved there, and no client of today sends it.
var alertNames = map[Alert]string{
	0: "close_notify", 10: "unexpected_message", 20: "bad_record_mac", 22: "record_overflow", 40: "handshake_failure",
	42: "bad_certificate", 43: "unsupported_certificate", 44: "certificate_revoked", 45: "certificate_expired",
	46: "certificate_unknown", 47: "illegal_parameter", 48: "unknown_ca", 49: "access_denied", 50: "decode_error",
	51: "decrypt_error", 70: "protocol_version", 71: "insufficient_security", 80: "internal_error", 86: "inappropriate_fallback",
	90: "user_canceled", 109: "missing_extension", 110: "unsupported_extension", 112: "unrecognized_name",
	113: "bad_certificate_status_response", 115: "unknown_psk_identity", 116: "certificate_required", 120: "no_application_protocol",
}

// Alerts lists the alerts that have a name, in no order.
func Alerts() []Alert {
	alerts := make([]Alert, 0, len(alertNames))
	for a := range alertNames {
		alerts = append(alerts, a)
	}
	return alerts
}

// String is the name in RFC 8446, such as unknown_ca, or alert_41 for what has
// none there.
func (a Alert) String() string {
	if name, ok := alertNames[a]; ok {
		return name
	}
	return "alert_" + strconv.Itoa(int(a))
}

// RejectsCertificate is whether who sent the alert looked at the other side's
// certificate, or at the OCSP response stapled to it, and does not go on
// because of what it saw (RFC 8446 section 6.2, RFC 6066 section 8).
// access_denied is one of them: the certificate was valid, and not wanted.
// decrypt_error is none: a signature over the handshake was wrong.
func (a Alert) RejectsCertificate() bool {
	switch a {
	case 42, 43, 44, 45, 46, 48, 49, 113:
		return true
	}
	return false
}

// alertTexts finds an alert by what crypto/tls says of it. A remote alert has
// a type there that is not exported and can not be converted; tls.AlertError,
// which is, has the same texts, for all numbers different ones. They are made
// when the first alert comes.
var alertTexts = sync.OnceValue(func() map[string]Alert {
	texts := make(map[string]Alert, 256)
	for n := range 256 {
		texts[tls.AlertError(n).Error()] = Alert(n)
	}
	return texts
})

// RemoteAlert finds the alert in an error of crypto/tls with which the other
// side ended the connection.
func RemoteAlert(err error) (Alert, bool) {
	remote, ok := errors.AsType[*net.OpError](err)
	if !ok || remote.Op != "remote error" || remote.Err == nil {
		return 0, false
	}
	a, ok := alertTexts()[remote.Err.Error()]
	return a, ok
}

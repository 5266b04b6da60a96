package metrics

import (
	"crypto/tls"
	"strconv"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/tlsopts"
)

// negotiated are the labels of a successful handshake.
type negotiated struct{ version, cipher, group, resumed string }

// The label values for what crypto/tls can negotiate. Whatever a later Go
// release adds counts as "other" until it is named here or, for cipher suites,
// in [tls.CipherSuites].
var (
	versionLabels = labelsOf([]tlsopts.Version{tlsopts.TLS10, tlsopts.TLS11, tlsopts.TLS12, tlsopts.TLS13},
		tlsopts.Version.String)
	cipherLabels = labelsOf(suiteIDs(), tlsopts.CipherSuiteName)
	groupLabels  = labelsOf([]tls.CurveID{
		tls.CurveP256, tls.CurveP384, tls.CurveP521, tls.X25519,
		tls.X25519MLKEM768, tls.SecP256r1MLKEM768, tls.SecP384r1MLKEM1024,
	}, tls.CurveID.String)
)

// alertLabels are the alerts that a client can end a handshake with;
// close_notify is an end of file like any other.
var alertLabels = func() []string {
	labels := []string{other}
	for _, alert := range tlsopts.Alerts() {
		if name := alert.String(); name != "close_notify" {
			labels = append(labels, name)
		}
	}
	return labels
}()

func labelsOf[ID comparable](ids []ID, name func(ID) string) map[ID]string {
	labels := make(map[ID]string, len(ids))
	for _, id := range ids {
		labels[id] = name(id)
	}
	return labels
}

func suiteIDs() []uint16 {
	var ids []uint16
	for _, suite := range append(tls.CipherSuites(), tls.InsecureCipherSuites()...) {
		ids = append(ids, suite.ID)
	}
	return ids
}

// negotiatedIn reads the labels out of a connection's state. The group is
// "none" where none was used: RSA key exchange, and resumption in TLS 1.2.
func negotiatedIn(state *tls.ConnectionState) negotiated {
	n := negotiated{
		version: labelOf(versionLabels, tlsopts.Version(state.Version)),
		cipher:  labelOf(cipherLabels, state.CipherSuite),
		group:   none,
		resumed: strconv.FormatBool(state.DidResume),
	}
	if state.CurveID != 0 {
		n.group = labelOf(groupLabels, state.CurveID)
	}
	return n
}

func labelOf[ID comparable](labels map[ID]string, id ID) string {
	if label, ok := labels[id]; ok {
		return label
	}
	return other
}

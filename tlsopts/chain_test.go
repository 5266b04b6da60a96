package tlsopts_test

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/tlsopts"
)

func TestR32_ChainOrder(t *testing.T) {
	root := signCA(t, "root", nil)
	high := signCA(t, "high", &root)
	low := signCA(t, "low", &high)
	leaf := signLeaf(t, &low, "P-256", "a.example")
	// A second root that cross-signed "high", as Let's Encrypt's had.
	oldRoot := signCA(t, "old root", nil)
	cross := sign(t, &oldRoot, high.key, func(c *x509.Certificate) {
		c.Subject = high.cert.Subject
		c.IsCA, c.BasicConstraintsValid = true, true
	})
	// Another authority's of the same name, told apart by its key.
	twin := signCA(t, "low", &high)
	stray := signLeaf(t, &low, "P-256", "stray.example")
	foreign := signCA(t, "foreign", nil)

	tests := map[string]struct{ in, want []signed }{
		"right":         {[]signed{leaf, low, high}, []signed{leaf, low, high}},
		"reversed":      {[]signed{high, low, leaf}, []signed{leaf, low, high}},
		"leaf last":     {[]signed{low, high, leaf}, []signed{leaf, low, high}},
		"root kept":     {[]signed{leaf, root, high, low}, []signed{leaf, low, high, root}},
		"copies":        {[]signed{leaf, leaf, low, low, leaf}, []signed{leaf, low}},
		"cross-signed":  {[]signed{leaf, low, high, cross}, []signed{leaf, low, high, cross}},
		"cross first":   {[]signed{leaf, low, cross, high, oldRoot}, []signed{leaf, low, cross, oldRoot, high}},
		"twin":          {[]signed{leaf, twin, low}, []signed{leaf, low, twin}},
		"other leaf":    {[]signed{stray, leaf, low}, []signed{leaf, low}},
		"gap":           {[]signed{leaf, high}, []signed{leaf, high}},
		"foreign":       {[]signed{foreign, leaf, low}, []signed{leaf, low, foreign}},
		"leaf alone":    {[]signed{leaf}, []signed{leaf}},
		"everything":    {[]signed{root, foreign, high, stray, low, leaf}, []signed{leaf, low, high, root, foreign}},
		"leaf's and CA": {[]signed{root, leaf}, []signed{leaf, root}},
	}
	for name, tt := range tests {
		data := leaf.keyPEM(t)
		for _, s := range tt.in {
			data = append(data, s.pem()...)
		}
		pairs, err := tlsopts.ParsePairs(nil, pemFile(data))
		noErr(t, err)
		checkPair(t, name, pairs[0], leaf, tt.want...)
	}
}

func TestR32_ChainNotes(t *testing.T) {
	root := signCA(t, "root", nil)
	high := signCA(t, "high", &root)
	low := signCA(t, "low", &high)
	leaf := signLeaf(t, &low, "P-256", "a.example")
	public := sign(t, &low, newKey(t, "P-256"), func(c *x509.Certificate) {
		c.DNSNames, c.IssuingCertificateURL = []string{"a.example"}, []string{"http://ca.example/low.der"}
	})
	dated := func(from, to time.Duration) signed {
		return sign(t, &high, low.key, func(c *x509.Certificate) {
			c.Subject = pkix.Name{CommonName: "low"}
			c.NotBefore, c.NotAfter = time.Now().Add(from), time.Now().Add(to)
			c.IsCA, c.BasicConstraintsValid = true, true
		})
	}
	tests := map[string]struct {
		chain []signed
		want  []string
	}{
		"fine":            {[]signed{leaf, low, high}, nil},
		"fine with root":  {[]signed{leaf, low, high, root}, nil},
		"private":         {[]signed{leaf}, nil},
		"no intermediate": {[]signed{public}, []string{"no intermediate certificate"}},
		"gap":             {[]signed{leaf, high}, []string{"certificate 2 of the chain, \"high\", issued none before it"}},
		"wrong order":     {[]signed{leaf, high, low}, []string{"certificate 2 of the chain, \"high\", issued none before it"}},
		"expired":         {[]signed{leaf, dated(-2*time.Hour, -time.Hour)}, []string{"certificate 2 of the chain, \"low\", expired at "}},
		"not yet":         {[]signed{leaf, dated(time.Hour, 2*time.Hour)}, []string{"certificate 2 of the chain, \"low\", is not valid before "}},
		"empty":           {nil, []string{"the chain is empty"}},
	}
	for name, tt := range tests {
		pair := &tls.Certificate{}
		for _, s := range tt.chain {
			pair.Certificate = append(pair.Certificate, s.cert.Raw)
		}
		got := tlsopts.ChainNotes(pair)
		if !slices.EqualFunc(got, tt.want, strings.Contains) {
			t.Errorf("%s: notes %q, want %q", name, got, tt.want)
		}
	}
	if got := tlsopts.ChainNotes(&tls.Certificate{Certificate: [][]byte{leaf.cert.Raw, []byte("x")}}); len(got) != 1 || !strings.HasPrefix(got[0], "certificate 2 of the chain cannot be read") {
		t.Errorf("unreadable: %q", got)
	}
}

package verify

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// TestPoliciesFind holds that each policy finds what it is there to find, so
// that a clean run means something.
func TestPoliciesFind(t *testing.T) {
	good := join(kustomizeText(t, fmt.Sprintf("resources: [%s/gateway-proxy-protocol]\ncomponents: [%[1]s/components/certificates, %[1]s/components/podmonitor]\n", checkout), nil))
	sidecar := join(kustomize(t, kustomizeDir+"/sidecar"))
	for _, c := range []struct {
		name   string
		base   string // YAML
		policy func(rendering) faults
		old    string
		broken string // in place of old
		want   string
	}{
		{"root", good, restricted, "runAsNonRoot: true", "runAsNonRoot: false", "beyond the profile restricted"},
		{"root in a sidecar", sidecar, restricted, "runAsNonRoot: true", "runAsNonRoot: false", "beyond the profile restricted"},
		{"too much beside a sidecar", sidecar, restricted, "- SYS_CHROOT", "- SYS_ADMIN", "beyond the profile baseline"},
		{"service links", good, running, "enableServiceLinks: false", "enableServiceLinks: true", "enableServiceLinks"},
		{"token", good, running, "automountServiceAccountToken: false", "automountServiceAccountToken: true", "token"},
		{"user", good, running, "runAsUser: 65532", "runAsUser: 1000", "image's user"},
		{"writable", good, running, "readOnlyRootFilesystem: true", "readOnlyRootFilesystem: false", "can write"},
		{"no memory limit", good, running, "memory: 512Mi", "cpu: 1", "GOMEMLIMIT"},
		{"probe of a page", good, probed, "path: /readyz", "path: /ready", "no probe asks /readyz"},
		{"probe of a port", good, probed, "port: admin", "port: mx", "is asked on port"},
		{"admin on loopback", good, probed, `address: ":9465"`, `address: "127.0.0.1:9465"`, "is asked on port"},
		{"long drain", good, drained, "drain: 2m", "drain: 131s", "terminationGracePeriodSeconds"},
		{"long pause", sidecar, drained, "seconds: 60", "seconds: 90", "terminationGracePeriodSeconds"},
		{"no ServiceAccount", good, referenced, "serviceAccountName: smtp-tlsproxy", "serviceAccountName: other", "no ServiceAccount other"},
		{"no ConfigMap", good, referenced, "configMap:\n          name: smtp-tlsproxy-", "configMap:\n          name: other-", "no ConfigMap other-"},
		{"no Secret", sidecar, referenced, "secretName: smtp-tlsproxy-tickets", "secretName: other", "how Secret other is made"},
		{"mode", good, referenced, "defaultMode: 288", "defaultMode: 256", "mode 0440"},
		{"no volume", good, referenced, "mountPath: /certs\n          name: certs", "mountPath: /certs\n          name: keys", "is no volume"},
		{"subPath", good, referenced, "mountPath: /certs\n", "mountPath: /certs\n          subPath: a\n", "subPath"},
		{"other key", good, referenced, "key: tls.key", "key: ca.crt", "does not become a folder"},
		{"other name", good, referenced, "- mail.example.com\n", "- mx.example.com\n", "does not have the name"},
		{"Secret of nobody", sidecar, referenced, "optional: true", "optional: false", "nothing makes Secret mail-example-com-tls"},
		{"long port name", good, admissible, "name: submission-int", "name: submission-internal", "port submission-internal"},
		{"replicas twice", good, scaled, "minReadySeconds: 5", "replicas: 2", "HorizontalPodAutoscaler"},
		{"hidden clients", good, served, "externalTrafficPolicy: Local", "externalTrafficPolicy: Cluster", "hides the addresses"},
		{"crossed ports", good, served, "port: 587", "port: 465", "no listener for port 465"},
		{"TLS demanded on 25", good, served, "starttls: optional", "starttls: required", "no listener for port 25"},
		{"admin for all", good, served, "targetPort: mx", "targetPort: admin", "hands out the admin address"},
		{"other labels", good, selected, "template:\n    metadata:\n      labels:\n        app.kubernetes.io/component: gateway", "template:\n    metadata:\n      labels:\n        app.kubernetes.io/component: other", "finds 0 kinds of pods"},
		{"other metrics", good, selected, "path: /metrics", "path: /metric", "where there is nothing"},
		{"admin open", good, guarded, "- port: mx", "- port: admin", "shuts port mx"},
		{"port shut", good, guarded, "- port: submission\n", "- port: mx\n", "shuts port submission"},
		{"anyone as load balancer", good, guarded, "- ipBlock:\n        cidr: 192.0.2.0/24", "- podSelector: {}", "lets others than the load balancer"},
	} {
		if !strings.Contains(c.base, c.old) {
			t.Errorf("%s: nothing to break: there is no %q", c.name, c.old)
		}
		var all []document
		for _, text := range splitYAML(strings.ReplaceAll(c.base, c.old, c.broken)) {
			all = append(all, document{from: c.name, text: []byte(text)})
		}
		found := c.policy(decode(t, all))
		if !slices.ContainsFunc(found, func(fault string) bool { return strings.Contains(fault, c.want) }) {
			t.Errorf("%s: found %q, want %q", c.name, found, c.want)
		}
	}
}

func join(documents []document) string {
	var all []string
	for _, d := range documents {
		all = append(all, string(d.text))
	}
	return strings.Join(all, "\n---\n")
}

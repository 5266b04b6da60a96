package verify

import (
	"os"
	"path"
	"regexp"
	"slices"
	"strings"

	certmanager "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	core "k8s.io/api/core/v1"
)

// madeByHand are the Secrets that docs/kubernetes.md tells to make, with their keys.
var madeByHand = func() map[string]string {
	text, err := os.ReadFile("../../docs/kubernetes.md")
	if err != nil {
		panic(err)
	}
	all := map[string]string{}
	for _, match := range regexp.MustCompile(`create secret generic (\S+) --from-(?:literal|file)=([^=\s]+)=`).FindAllStringSubmatch(string(text), -1) {
		all[match[1]] = match[2]
	}
	return all
}()

// referenced: whatever a pod names is there.
func referenced(r rendering) (f faults) {
	for _, p := range r.pods() {
		if name := p.spec().ServiceAccountName; name != "" && name != "default" {
			if account, ok := named[*core.ServiceAccount](r, name); !ok || account.AutomountServiceAccountToken == nil || *account.AutomountServiceAccountToken {
				f.add("%s: there is no ServiceAccount %s without a token", p.owner, name)
			}
		}
		f = append(f, mounts(p)...)
		for _, volume := range p.spec().Volumes {
			if m := volume.ConfigMap; m != nil && (m.Optional == nil || !*m.Optional) {
				if _, ok := named[*core.ConfigMap](r, m.Name); !ok {
					f.add("%s: there is no ConfigMap %s", p.owner, m.Name)
				}
			}
			if s := volume.Secret; s != nil {
				if madeByHand[s.SecretName] == "" {
					f.add("%s: docs/kubernetes.md does not say how Secret %s is made", p.owner, s.SecretName)
				}
				f = append(f, readable(p, volume.Name, s.DefaultMode)...)
			}
			if volume.Projected == nil {
				continue
			}
			f = append(f, readable(p, volume.Name, volume.Projected.DefaultMode)...)
			for _, source := range volume.Projected.Sources {
				f = append(f, certificate(r, p, source)...)
			}
		}
	}
	return f
}

// mounts: volumes and mounts are each other's, and none is a subPath, which
// would never be renewed (kubernetes/kubernetes#50345).
func mounts(p pod) (f faults) {
	there := slices.Clone(p.claims)
	for _, volume := range p.spec().Volumes {
		there = append(there, volume.Name)
	}
	mounted := map[string]bool{}
	for _, c := range p.containers() {
		for _, mount := range c.VolumeMounts {
			mounted[mount.Name] = true
			if !slices.Contains(there, mount.Name) {
				f.add("%s: %s mounts %s, which is no volume", p.owner, c.Name, mount.Name)
			}
			if ours(c) && (mount.SubPath != "" || mount.SubPathExpr != "" || !mount.ReadOnly) {
				f.add("%s: %s mounts %s as a subPath or for writing", p.owner, c.Name, mount.Name)
			}
		}
	}
	for _, name := range there {
		if !mounted[name] {
			f.add("%s: nothing mounts the volume %s", p.owner, name)
		}
	}
	return f
}

// readable: the group of the pod, and nobody else, reads what is secret.
func readable(p pod, volume string, mode *int32) (f faults) {
	if mode == nil || *mode != 0o440 {
		f.add("%s: the files of %s do not have the mode 0440", p.owner, volume)
	}
	if group := p.spec().SecurityContext.FSGroup; group == nil || *group != 65532 {
		f.add("%s: the files of %s belong to root alone: there is no fsGroup", p.owner, volume)
	}
	return f
}

// certificate: a projected Secret becomes a folder of one server name; and it
// may be missing, or a Certificate makes it for that name.
func certificate(r rendering, p pod, source core.VolumeProjection) (f faults) {
	s := source.Secret
	if s == nil {
		f.add("%s: a projected volume has a source that is no Secret", p.owner)
		return f
	}
	var files []string
	for _, item := range s.Items {
		files = append(files, item.Key+" "+path.Base(item.Path))
	}
	if !slices.Equal(files, []string{"tls.crt tls.crt", "tls.key tls.key"}) || path.Dir(s.Items[0].Path) != path.Dir(s.Items[1].Path) {
		f.add("%s: Secret %s does not become a folder with tls.crt and tls.key: %v", p.owner, s.Name, s.Items)
		return f
	}
	folder := path.Dir(s.Items[0].Path)
	for _, c := range of[*certmanager.Certificate](r) {
		if c.Spec.SecretName == s.Name {
			if name := strings.Replace(folder, "_.", "*.", 1); !slices.Contains(c.Spec.DNSNames, name) {
				f.add("Certificate %s does not have the name %s of its folder", c.Name, name)
			}
			return f
		}
	}
	if s.Optional == nil || !*s.Optional {
		f.add("%s: nothing makes Secret %s, and the pod would wait for it", p.owner, s.Name)
	}
	return f
}

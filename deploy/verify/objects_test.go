package verify

import (
	"path"
	"strings"
	"testing"

	certmanager "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/yaml"
)

// document is one YAML document, and where it is from.
type document struct {
	from string
	text []byte
}

// rendering is what one kubectl apply or helm install brings.
type rendering []runtime.Object

// decode reads documents with the types of their API servers; a key that these
// do not know, or one that stands twice, is a fault.
func decode(t *testing.T, documents []document) rendering {
	t.Helper()
	if len(documents) == 0 {
		t.Fatal("nothing was rendered")
	}
	var all rendering
	for _, d := range documents {
		object, err := decodeOne(d.text)
		if err != nil {
			t.Errorf("%s: %v\n%s", d.from, err, d.text)
			continue
		}
		all = append(all, object)
	}
	return all
}

func decodeOne(text []byte) (runtime.Object, error) {
	object, _, err := strict.Decode(text, nil, nil)
	return object, err
}

var strict = func() runtime.Decoder {
	all := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{scheme.AddToScheme, certmanager.AddToScheme, monitoring.AddToScheme} {
		if err := add(all); err != nil {
			panic(err)
		}
	}
	return serializer.NewCodecFactory(all, serializer.EnableStrict).UniversalDeserializer()
}()

// of are the objects of one type.
func of[T runtime.Object](r rendering) []T {
	var all []T
	for _, object := range r {
		if o, ok := object.(T); ok {
			all = append(all, o)
		}
	}
	return all
}

// named finds an object of one type by its name, or nothing.
func named[T runtime.Object](r rendering, name string) (found T, ok bool) {
	for _, object := range of[T](r) {
		if nameOf(object) == name {
			return object, true
		}
	}
	return found, false
}

func nameOf(object runtime.Object) string {
	accessor, err := meta.Accessor(object)
	if err != nil {
		panic(err)
	}
	return accessor.GetName()
}

// pod is one kind of pod that a rendering brings.
type pod struct {
	owner  string // "Deployment smtp-tlsproxy"
	meta   *core.PodTemplateSpec
	claims []string // volumes of volumeClaimTemplates
}

// pods are all that a rendering brings, with the pods of chart tests.
func (r rendering) pods() []pod {
	var all []pod
	for _, o := range of[*apps.Deployment](r) {
		all = append(all, pod{owner: "Deployment " + o.Name, meta: &o.Spec.Template})
	}
	for _, o := range of[*apps.StatefulSet](r) {
		p := pod{owner: "StatefulSet " + o.Name, meta: &o.Spec.Template}
		for _, claim := range o.Spec.VolumeClaimTemplates {
			p.claims = append(p.claims, claim.Name)
		}
		all = append(all, p)
	}
	for _, o := range of[*core.Pod](r) {
		all = append(all, pod{owner: "Pod " + o.Name, meta: &core.PodTemplateSpec{ObjectMeta: o.ObjectMeta, Spec: o.Spec}})
	}
	return all
}

func (p pod) spec() *core.PodSpec { return &p.meta.Spec }

// containers are those that start first, and the others.
func (p pod) containers() []core.Container {
	return append(append([]core.Container{}, p.spec().InitContainers...), p.spec().Containers...)
}

// proxy is the container in which the proxy serves, if there is one.
func (p pod) proxy() (core.Container, bool) {
	for _, c := range p.containers() {
		if ours(c) && len(c.Args) == 1 && c.Args[0] == "serve" {
			return c, true
		}
	}
	return core.Container{}, false
}

// ours tells whether a container runs the proxy's image.
func ours(c core.Container) bool {
	name, _, _ := strings.Cut(c.Image, "@")
	name, _, _ = strings.Cut(path.Base(name), ":")
	return name == "smtp-tlsproxy"
}

// settings are the keys of the proxy's configuration that have to fit the objects.
type settings struct {
	Listeners []struct {
		Name, Address, Mode, STARTTLS string
		ProxyProtocol                 any `json:"proxy_protocol"`
	}
	Timeouts struct{ Drain string }
	Admin    struct{ Address string }
}

// configuration is the text that the proxy of a pod is given.
func (r rendering) configuration(p pod) string {
	for _, volume := range p.spec().Volumes {
		if volume.ConfigMap == nil {
			continue
		}
		if m, ok := named[*core.ConfigMap](r, volume.ConfigMap.Name); ok && m.Data["config.yaml"] != "" {
			return m.Data["config.yaml"]
		}
	}
	return ""
}

func (r rendering) settings(p pod) (s settings, err error) {
	err = yaml.Unmarshal([]byte(r.configuration(p)), &s)
	return s, err
}

// TestDecodingIsStrict holds that decode finds what it is there to find.
func TestDecodingIsStrict(t *testing.T) {
	for _, text := range []string{
		"apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {externalTrafficPolicies: Local}",
		"apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {type: NodePort, type: ClusterIP}",
		"apiVersion: v1\nkind: Services\nmetadata: {name: a}",
		"apiVersion: cert-manager.io/v1\nkind: Certificate\nmetadata: {name: a}\nspec: {secret: a}",
		"apiVersion: monitoring.coreos.com/v1\nkind: PodMonitor\nmetadata: {name: a}\nspec: {endpoints: []}",
	} {
		if object, err := decodeOne([]byte(text)); err == nil {
			t.Errorf("was taken as %T:\n%s", object, text)
		}
	}
}

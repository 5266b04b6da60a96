package verify

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	apps "k8s.io/api/apps/v1"
	autoscaling "k8s.io/api/autoscaling/v2"
	core "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
)

// faults are what is wrong with a rendering.
type faults []string

func (f *faults) add(format string, arguments ...any) {
	*f = append(*f, fmt.Sprintf(format, arguments...))
}

// policies are all that a rendering has to hold to.
var policies = []func(rendering) faults{restricted, running, probed, drained, referenced, admissible, scaled, served, selected, guarded}

func TestPolicies(t *testing.T) {
	for name, r := range variants(t) {
		proxies := 0
		for _, p := range r.pods() {
			if _, ok := p.proxy(); ok {
				proxies++
			}
		}
		if proxies != 1 {
			t.Errorf("%s: %d kinds of pods have the proxy, want 1", name, proxies)
		}
		for _, holds := range policies {
			for _, fault := range holds(r) {
				t.Errorf("%s: %s", name, fault)
			}
		}
	}
}

// restricted: the proxy fits the restricted profile of the Pod Security
// Standards, as the API server's own admission judges it. A mail server beside it
// may need root, but no more than the baseline profile allows.
func restricted(r rendering) (f faults) {
	judge, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		f.add("%v", err)
		return f
	}
	allowed := func(p pod, level api.Level, spec *core.PodSpec) {
		result := policy.AggregateCheckResults(judge.EvaluatePod(api.LevelVersion{Level: level, Version: api.LatestVersion()}, &p.meta.ObjectMeta, spec))
		if !result.Allowed {
			f.add("%s is beyond the profile %s: %s", p.owner, level, result.ForbiddenDetail())
		}
	}
	for _, p := range r.pods() {
		allowed(p, api.LevelBaseline, p.spec())
		alone := p.spec().DeepCopy()
		foreign := func(c core.Container) bool { return !ours(c) }
		alone.Containers = slices.DeleteFunc(alone.Containers, foreign)
		alone.InitContainers = slices.DeleteFunc(alone.InitContainers, foreign)
		allowed(p, api.LevelRestricted, alone)
	}
	return f
}

// running: what the profile does not ask for, and the proxy can do with.
func running(r rendering) (f faults) {
	for _, p := range r.pods() {
		spec := p.spec()
		if spec.EnableServiceLinks == nil || *spec.EnableServiceLinks {
			f.add("%s: enableServiceLinks is on, and a Service of our name would set variables that begin as ours", p.owner)
		}
		if spec.AutomountServiceAccountToken == nil || *spec.AutomountServiceAccountToken {
			f.add("%s: has a token of the API server, which it does not need", p.owner)
		}
		for _, c := range p.containers() {
			if !ours(c) {
				continue
			}
			uid := spec.SecurityContext.RunAsUser
			if s := c.SecurityContext; s.RunAsUser != nil {
				uid = s.RunAsUser
			}
			if uid == nil || *uid != 65532 {
				f.add("%s: %s does not run as the image's user", p.owner, c.Name)
			}
			if readOnly := c.SecurityContext.ReadOnlyRootFilesystem; readOnly == nil || !*readOnly {
				f.add("%s: %s can write its root file system", p.owner, c.Name)
			}
			if len(c.SecurityContext.Capabilities.Add) > 0 {
				f.add("%s: %s has capabilities", p.owner, c.Name)
			}
			limited := !c.Resources.Limits.Memory().IsZero()
			told := slices.ContainsFunc(c.Env, func(e core.EnvVar) bool {
				return e.Name == "GOMEMLIMIT" && e.ValueFrom != nil && e.ValueFrom.ResourceFieldRef != nil && e.ValueFrom.ResourceFieldRef.Resource == "limits.memory"
			})
			if limited != told {
				f.add("%s: %s has a memory limit: %t, and GOMEMLIMIT from it: %t", p.owner, c.Name, limited, told)
			}
		}
	}
	return f
}

// probed: the kubelet asks the pages that the program has, at the port that
// its configuration says, on an address that is not loopback.
func probed(r rendering) (f faults) {
	for _, p := range r.pods() {
		c, ok := p.proxy()
		if !ok {
			continue
		}
		s, err := r.settings(p)
		if err != nil {
			f.add("%s: %v", p.owner, err)
			continue
		}
		for path, probe := range map[string]*core.Probe{"/readyz": c.ReadinessProbe, "/healthz": c.LivenessProbe} {
			if probe == nil || probe.HTTPGet == nil || probe.HTTPGet.Path != path {
				f.add("%s: no probe asks %s", p.owner, path)
				continue
			}
			if port := portOf(p, probe.HTTPGet.Port.String()); port == 0 || !everyInterface(s.Admin.Address, port) {
				f.add("%s: %s is asked on port %s, and admin.address is %q", p.owner, path, probe.HTTPGet.Port.String(), s.Admin.Address)
			}
		}
	}
	return f
}

// drained: the pause before SIGTERM and the drain fit into the grace period. A
// sidecar gets its SIGTERM when the containers that it serves have ended.
func drained(r rendering) (f faults) {
	const spare = 10 * time.Second
	for _, p := range r.pods() {
		proxy, ok := p.proxy()
		if !ok {
			continue
		}
		s, err := r.settings(p)
		if err != nil {
			f.add("%s: %v", p.owner, err)
			continue
		}
		drain := 2 * time.Minute // the program's default
		if s.Timeouts.Drain != "" {
			if drain, err = time.ParseDuration(s.Timeouts.Drain); err != nil {
				f.add("%s: %v", p.owner, err)
			}
		}
		sidecar := proxy.RestartPolicy != nil && *proxy.RestartPolicy == core.ContainerRestartPolicyAlways
		needed := drain + spare
		for _, c := range p.spec().Containers {
			needed += pause(c)
			if sidecar {
				needed += spare // its own stop
			}
		}
		if grace := p.spec().TerminationGracePeriodSeconds; grace == nil || time.Duration(*grace)*time.Second < needed {
			f.add("%s: terminationGracePeriodSeconds is below the %s that the pauses, timeouts.drain and a stop need", p.owner, needed)
		}
	}
	return f
}

func pause(c core.Container) time.Duration {
	if c.Lifecycle == nil || c.Lifecycle.PreStop == nil || c.Lifecycle.PreStop.Sleep == nil {
		return 0
	}
	return time.Duration(c.Lifecycle.PreStop.Sleep.Seconds) * time.Second
}

// admissible: names of ports and labels are such as the API server takes.
func admissible(r rendering) (f faults) {
	for _, object := range r {
		if wrong := validation.IsDNS1123Subdomain(nameOf(object)); wrong != nil {
			f.add("%T %q: %v", object, nameOf(object), wrong)
		}
		labels := object.(metav1.Object).GetLabels()
		for _, key := range []string{"name", "part-of", "managed-by"} {
			if labels["app.kubernetes.io/"+key] == "" && !strings.Contains(fmt.Sprintf("%T", object), "Certificate") {
				f.add("%T %s has no label app.kubernetes.io/%s", object, nameOf(object), key)
			}
		}
		for key, value := range labels {
			if wrong := append(validation.IsQualifiedName(key), validation.IsValidLabelValue(value)...); wrong != nil {
				f.add("%T %s: label %s: %v", object, nameOf(object), key, wrong)
			}
		}
	}
	for _, p := range r.pods() {
		seen := map[string]bool{}
		for _, c := range p.containers() {
			for _, port := range c.Ports {
				number := fmt.Sprint(port.ContainerPort)
				if seen[number] || port.Name != "" && seen[port.Name] {
					f.add("%s: port %s %s stands twice", p.owner, port.Name, number)
				}
				seen[number], seen[port.Name] = true, true
				if port.Name == "" {
					continue
				}
				if wrong := validation.IsValidPortName(port.Name); wrong != nil {
					f.add("%s: port %s: %v", p.owner, port.Name, wrong)
				}
			}
		}
	}
	for _, s := range of[*core.Service](r) {
		for _, port := range s.Spec.Ports {
			if wrong := validation.IsDNS1123Label(port.Name); wrong != nil {
				f.add("Service %s: port %q: %v", s.Name, port.Name, wrong)
			}
		}
	}
	return f
}

// scaled: what scales the pods is the only one that says how many there are.
func scaled(r rendering) (f faults) {
	for _, h := range of[*autoscaling.HorizontalPodAutoscaler](r) {
		d, ok := named[*apps.Deployment](r, h.Spec.ScaleTargetRef.Name)
		switch {
		case !ok:
			f.add("HorizontalPodAutoscaler %s scales nothing", h.Name)
		case d.Spec.Replicas != nil:
			f.add("Deployment %s says how many replicas there are, and so does a HorizontalPodAutoscaler", d.Name)
		case d.Spec.Template.Spec.Containers[0].Resources.Requests.Cpu().IsZero():
			f.add("Deployment %s requests no CPU, of which the HorizontalPodAutoscaler computes a share", d.Name)
		}
		if h.Spec.Behavior.ScaleDown.StabilizationWindowSeconds == nil {
			f.add("HorizontalPodAutoscaler %s ends sessions at each lull", h.Name)
		}
	}
	return f
}

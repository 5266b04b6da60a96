package verify

import (
	"maps"
	"slices"
	"strconv"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	disruption "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// portOf is the number of a container's port, by its name or number; 0 is none.
func portOf(p pod, name string) int {
	for _, c := range p.containers() {
		for _, port := range c.Ports {
			if number := int(port.ContainerPort); name != "" && (port.Name == name || strconv.Itoa(number) == name) {
				return number
			}
		}
	}
	return 0
}

// everyInterface tells whether an address of the configuration is a port of
// every interface.
func everyInterface(address string, port int) bool {
	return slices.Contains([]string{":", "0.0.0.0:", "[::]:"}, address[:max(0, len(address)-len(strconv.Itoa(port)))]) &&
		address[len(address)-len(strconv.Itoa(port)):] == strconv.Itoa(port)
}

// selectedBy are the pods that a selector finds.
func (r rendering) selectedBy(selector *metav1.LabelSelector) []pod {
	s, err := metav1.LabelSelectorAsSelector(selector)
	if err != nil || s.Empty() {
		return nil
	}
	return slices.DeleteFunc(r.pods(), func(p pod) bool { return !s.Matches(labels.Set(p.meta.Labels)) })
}

// modes are what listens behind the ports that clients know: RFC 8314 has TLS
// from the first byte on 465, and RFC 3207 forbids to demand it on 25.
var modes = map[int32]struct{ mode, starttls string }{465: {"implicit", ""}, 587: {"starttls", ""}, 25: {"starttls", "optional"}}

// served: each port of a Service leads to a listener of the right mode, and
// clients keep their addresses on the way.
func served(r rendering) (f faults) {
	for _, s := range of[*core.Service](r) {
		if t := s.Spec.Type; (t == core.ServiceTypeLoadBalancer || t == core.ServiceTypeNodePort) && s.Spec.ExternalTrafficPolicy != core.ServiceExternalTrafficPolicyLocal {
			f.add("Service %s hides the addresses of clients: externalTrafficPolicy is %q", s.Name, s.Spec.ExternalTrafficPolicy)
		}
		pods := r.selectedBy(metav1.SetAsLabelSelector(s.Spec.Selector))
		if len(pods) != 1 {
			f.add("Service %s finds %d kinds of pods", s.Name, len(pods))
			continue
		}
		settings, err := r.settings(pods[0])
		if err != nil {
			f.add("%v", err)
			continue
		}
		for _, port := range s.Spec.Ports {
			target := portOf(pods[0], port.TargetPort.String())
			if target != 0 && everyInterface(settings.Admin.Address, target) {
				if s.Spec.ClusterIP != core.ClusterIPNone {
					f.add("Service %s hands out the admin address", s.Name)
				}
				continue
			}
			fits := false
			for _, l := range settings.Listeners {
				m, known := modes[port.Port]
				fits = fits || known && target != 0 && everyInterface(l.Address, target) && l.Mode == m.mode && l.STARTTLS == m.starttls
			}
			if !fits {
				f.add("Service %s: no listener for port %d stands behind %s", s.Name, port.Port, port.TargetPort.String())
			}
		}
	}
	return f
}

// selected: selectors find the proxy's pods, and those of tests only where
// they are meant to.
func selected(r rendering) (f faults) {
	finds := func(what string, selector *metav1.LabelSelector) {
		pods := r.selectedBy(selector)
		if len(pods) != 1 {
			f.add("%s finds %d kinds of pods", what, len(pods))
		} else if _, ok := pods[0].proxy(); !ok {
			f.add("%s finds %s", what, pods[0].owner)
		}
	}
	for _, o := range of[*apps.Deployment](r) {
		finds("Deployment "+o.Name, o.Spec.Selector)
	}
	for _, o := range of[*apps.StatefulSet](r) {
		finds("StatefulSet "+o.Name, o.Spec.Selector)
		if s, ok := named[*core.Service](r, o.Spec.ServiceName); !ok || s.Spec.ClusterIP != core.ClusterIPNone {
			f.add("StatefulSet %s has no headless Service", o.Name)
		}
	}
	for _, o := range of[*disruption.PodDisruptionBudget](r) {
		finds("PodDisruptionBudget "+o.Name, o.Spec.Selector)
	}
	for _, o := range of[*networking.NetworkPolicy](r) {
		finds("NetworkPolicy "+o.Name, &o.Spec.PodSelector)
	}
	for _, o := range of[*monitoring.PodMonitor](r) {
		finds("PodMonitor "+o.Name, &o.Spec.Selector)
		for _, endpoint := range o.Spec.PodMetricsEndpoints {
			for _, p := range r.selectedBy(&o.Spec.Selector) {
				if endpoint.Path != "/metrics" || endpoint.Port == nil || portOf(p, *endpoint.Port) == 0 {
					f.add("PodMonitor %s asks where there is nothing", o.Name)
				}
			}
		}
	}
	for _, p := range r.pods() {
		if _, ok := p.proxy(); ok && len(p.spec().TopologySpreadConstraints) == 0 {
			f.add("%s: all pods may come to one node", p.owner)
		}
		for _, c := range p.spec().TopologySpreadConstraints {
			finds("topologySpreadConstraints of "+p.owner, c.LabelSelector)
		}
	}
	return f
}

// guarded: where there is a NetworkPolicy, it lets mail in to every port of the
// Services, keeps the admin address for those that it names, and mail that comes
// with a PROXY header for the load balancer.
func guarded(r rendering) (f faults) {
	for _, o := range of[*networking.NetworkPolicy](r) {
		pods := r.selectedBy(&o.Spec.PodSelector)
		if len(pods) != 1 || !slices.Contains(o.Spec.PolicyTypes, networking.PolicyTypeIngress) {
			continue
		}
		settings, err := r.settings(pods[0])
		if err != nil {
			f.add("%v", err)
			continue
		}
		open := map[int][]networking.NetworkPolicyPeer{}
		for _, rule := range o.Spec.Ingress {
			if len(rule.Ports) == 0 {
				f.add("NetworkPolicy %s opens all ports", o.Name)
			}
			for _, port := range rule.Ports {
				number := portOf(pods[0], port.Port.String())
				if number == 0 {
					f.add("NetworkPolicy %s opens port %s, which is none", o.Name, port.Port)
				}
				open[number] = rule.From
			}
		}
		for number, from := range open {
			if everyInterface(settings.Admin.Address, number) && len(from) == 0 {
				f.add("NetworkPolicy %s opens the admin address to all", o.Name)
			}
			for _, l := range settings.Listeners {
				if everyInterface(l.Address, number) && l.ProxyProtocol != nil && (len(from) == 0 || from[0].IPBlock == nil) {
					f.add("NetworkPolicy %s lets others than the load balancer speak for clients on %s", o.Name, l.Name)
				}
			}
		}
		for _, s := range of[*core.Service](r) {
			for _, port := range s.Spec.Ports {
				if number := portOf(pods[0], port.TargetPort.String()); !slices.Contains(slices.Collect(maps.Keys(open)), number) {
					f.add("NetworkPolicy %s shuts port %s of Service %s", o.Name, port.Name, s.Name)
				}
			}
		}
	}
	return f
}

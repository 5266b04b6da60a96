package verify

import (
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	"helm.sh/helm/v3/pkg/lint"
	"helm.sh/helm/v3/pkg/lint/support"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

const (
	kustomizeDir = "../kubernetes"
	chartDir     = "../helm/smtp-tlsproxy"
	// checkout is how a kustomization of a user's own names kustomizeDir.
	checkout = "../smtp-tlsproxy/deploy/kubernetes"
)

// overlays are what kubectl apply -k takes.
var overlays = []string{"gateway", "gateway-proxy-protocol", "sidecar"}

// kustomize renders the overlay in a folder.
func kustomize(t *testing.T, dir string) []document {
	t.Helper()
	resources, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), dir)
	if err != nil {
		t.Fatalf("kustomize build %s: %v", dir, err)
	}
	var all []document
	for _, resource := range resources.Resources() {
		text, err := resource.AsYAML()
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, document{from: dir, text: text})
	}
	return all
}

// kustomizeText renders a kustomization.yaml of a user's own, with files beside it.
func kustomizeText(t *testing.T, text string, files map[string]string) []document {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	deploy, err := filepath.Abs(kustomizeDir)
	if err != nil {
		t.Fatal(err)
	}
	relative, err := filepath.Rel(dir, deploy)
	if err != nil {
		t.Fatal(err)
	}
	files = maps.Clone(files)
	if files == nil {
		files = map[string]string{}
	}
	files["kustomization.yaml"] = strings.ReplaceAll(text, checkout, relative)
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return kustomize(t, dir)
}

// chartVariants are the files of values with which the chart is tried.
func chartVariants(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(chartDir + "/ci/*-values.yaml")
	if err != nil || len(files) < 4 {
		t.Fatalf("found the values files %q: %v", files, err)
	}
	return files
}

// helmTemplate renders the chart as "helm template" does, or says why not.
func helmTemplate(values map[string]any) ([]document, string, error) {
	chart, err := loader.Load(chartDir)
	if err != nil {
		return nil, "", err
	}
	release := chartutil.ReleaseOptions{Name: "mail", Namespace: "mail", Revision: 1, IsInstall: true}
	all, err := chartutil.ToRenderValues(chart, values, release, chartutil.DefaultCapabilities)
	if err != nil {
		return nil, "", err
	}
	rendered, err := engine.Render(chart, all)
	if err != nil {
		return nil, "", err
	}
	var documents []document
	var notes string
	for _, name := range slices.Sorted(maps.Keys(rendered)) {
		switch path.Ext(name) {
		case ".yaml":
			for _, text := range splitYAML(rendered[name]) {
				documents = append(documents, document{from: name, text: []byte(text)})
			}
		case ".txt":
			notes = rendered[name]
		}
	}
	return documents, notes, nil
}

// splitYAML splits a file at its "---" lines, and leaves out what has only comments.
func splitYAML(text string) []string {
	var all []string
	for part := range strings.SplitSeq("\n"+text, "\n---\n") {
		for line := range strings.Lines(part) {
			if trimmed := strings.TrimSpace(line); trimmed != "" && !strings.HasPrefix(trimmed, "#") {
				all = append(all, part)
				break
			}
		}
	}
	return all
}

func readValues(t *testing.T, file string) map[string]any {
	t.Helper()
	values, err := chartutil.ReadValuesFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return values
}

// variants are all renderings that a user can come to, by name.
func variants(t *testing.T) map[string]rendering {
	t.Helper()
	all := map[string]rendering{}
	for _, overlay := range overlays {
		all[overlay] = decode(t, kustomize(t, kustomizeDir+"/"+overlay))
		all[overlay+" with components"] = decode(t, kustomizeText(t, fmt.Sprintf(
			"resources: [%s/%s]\ncomponents: [%[1]s/components/certificates, %[1]s/components/podmonitor]\n", checkout, overlay), nil))
	}
	for _, file := range chartVariants(t) {
		all["chart with "+filepath.Base(file)] = chart(t, file, readValues(t, file))
	}
	for folder, files := range documented(t) {
		switch {
		case files["kustomization.yaml"] != "":
			all["docs/kubernetes.md: "+folder] = decode(t, kustomizeText(t, files["kustomization.yaml"], files))
		default:
			values, err := chartutil.ReadValues([]byte(files["values.yaml"]))
			if err != nil {
				t.Fatal(err)
			}
			all["docs/kubernetes.md: "+folder] = chart(t, folder, values)
		}
	}
	return all
}

// chart renders the chart with values that are good.
func chart(t *testing.T, name string, values map[string]any) rendering {
	t.Helper()
	documents, notes, err := helmTemplate(values)
	if err != nil {
		t.Fatalf("helm template --values %s: %v", name, err)
	}
	if !strings.Contains(notes, "kubectl get service -n mail ") {
		t.Errorf("%s: the notes are %q", name, notes)
	}
	return decode(t, documents)
}

// TestHelmLint holds that "helm lint" has nothing to say but that there is no icon.
func TestHelmLint(t *testing.T) {
	for _, file := range chartVariants(t) {
		linter := lint.AllWithKubeVersion(chartDir, readValues(t, file), "mail", &chartutil.DefaultCapabilities.KubeVersion)
		if len(linter.Messages) == 0 {
			t.Errorf("%s: helm lint did not even miss the icon: it looks in the wrong place", file)
		}
		for _, message := range linter.Messages {
			if message.Severity > support.InfoSev {
				t.Errorf("%s: helm lint: %s", file, message)
			}
		}
	}
}

// TestChartRefuses holds that values that could not work end here, with words.
func TestChartRefuses(t *testing.T) {
	config := func(text string) map[string]any { return map[string]any{"config": text} }
	const listeners = "listeners: [{name: submissions, address: ':2465'}, {name: submission, address: ':2587'}, {name: mx, address: ':2525'}]\n"
	for name, c := range map[string]struct {
		values map[string]any
		want   string
	}{
		"no certificate":          {map[string]any{"certificates": []any{}}, "certificates is empty: name one"},
		"an unknown key":          {map[string]any{"replicaCount": 3}, "replicaCount"},
		"an unknown key below":    {map[string]any{"service": map[string]any{"port": 25}}, "port"},
		"a path for a name":       {map[string]any{"certificates": []any{map[string]any{"name": "../etc"}}}, "pattern"},
		"no YAML":                 {config("a: [b"), "config is not YAML"},
		"a socket of systemd":     {config("listeners: [{name: mx, address: 'systemd:mx'}]"), "where no Service can reach it"},
		"a listener on loopback":  {config("listeners: [{name: mx, address: '127.0.0.1:2525'}]"), "where no Service can reach it"},
		"no admin address":        {config(listeners), "probes and Prometheus can not reach it"},
		"admin off":               {config(listeners + "admin: {address: off}"), "probes and Prometheus can not reach it"},
		"a port without listener": {config("listeners: [{name: mx, address: ':2525'}]\nadmin: {address: ':9465'}"), "service.ports.submission: config has no listener of that name"},
		"a drain that is too long": {config(listeners + "admin: {address: ':9465'}\ntimeouts: {drain: 1h30m}"),
			"terminationGracePeriodSeconds is 150, but preStopSleepSeconds, timeouts.drain of config and 10 seconds to spare are 5420"},
		"no port at all": {map[string]any{"service": map[string]any{"ports": map[string]any{"submissions": 0.0, "submission": int64(0), "mx": 0}}},
			"service.ports: every port is 0"},
		"no internal port at all": {map[string]any{"internalService": map[string]any{"ports": map[string]any{"submissions": 0}}},
			"internalService.ports: every port is 0"},
		"a pause that is too long": {map[string]any{"preStopSleepSeconds": 21}, "are 151"},
	} {
		values := map[string]any{"certificates": []any{map[string]any{"name": "mail.example.com"}}}
		maps.Copy(values, c.values)
		if _, _, err := helmTemplate(values); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: helm template gives %v, want %q", name, err, c.want)
		}
	}
}

{{/*
What the chart has to know of .Values.config, as JSON: the port of each listener
and of the admin address, and timeouts.drain in seconds. What could not work in
a pod is refused here, where somebody looks.
*/}}
{{- define "smtp-tlsproxy.facts" -}}
{{- $config := fromYaml .Values.config -}}
{{- if hasKey $config "Error" -}}
{{- fail (printf "config is not YAML: %s" $config.Error) -}}
{{- end -}}
{{- $everyInterface := "^(0[.]0[.]0[.]0|\\[::\\])?:[0-9]+$" -}}
{{- $ports := dict -}}
{{- range $config.listeners -}}
{{- $address := toString .address -}}
{{- if not (regexMatch $everyInterface $address) -}}
{{- fail (printf "config: listener %s has the address %q, where no Service can reach it; write a port of all interfaces, such as \":2465\"" (toString .name) $address) -}}
{{- end -}}
{{- $_ := set $ports (toString .name) (regexFind "[0-9]+$" $address | int) -}}
{{- end -}}
{{- $admin := dig "admin" "address" "127.0.0.1:9465" $config | toString -}}
{{- if not (regexMatch $everyInterface $admin) -}}
{{- fail (printf "config: admin.address is %q, where probes and Prometheus can not reach it; write admin: {address: \":9465\"}" $admin) -}}
{{- end -}}
{{- $drain := 0.0 -}}
{{- range regexFindAll "[0-9.]+(h|ms|m|s)" (dig "timeouts" "drain" "2m" $config | toString) -1 -}}
{{- $unit := regexFind "[a-z]+$" . -}}
{{- $drain = addf $drain (mulf (trimSuffix $unit . | float64) (get (dict "h" 3600 "m" 60 "s" 1 "ms" 0.001) $unit)) -}}
{{- end -}}
{{- $needed := addf $drain .Values.preStopSleepSeconds 10 | ceil | int -}}
{{- if lt (int .Values.terminationGracePeriodSeconds) $needed -}}
{{- fail (printf "terminationGracePeriodSeconds is %d, but preStopSleepSeconds, timeouts.drain of config and 10 seconds to spare are %d: raise it, or sessions are cut" (int .Values.terminationGracePeriodSeconds) $needed) -}}
{{- end -}}
{{- toJson (dict "ports" $ports "admin" (regexFind "[0-9]+$" $admin | int)) -}}
{{- end }}

{{/* The container's port of a listener: {ports: what facts has, listener: its name, key: where it is named}. */}}
{{- define "smtp-tlsproxy.targetPort" -}}
{{- if not (hasKey .ports .listener) -}}
{{- fail (printf "%s.%s: config has no listener of that name; 0 takes the port away" .key .listener) -}}
{{- end -}}
{{- get .ports .listener | int -}}
{{- end }}

{{/* The ports of a Service: {facts, ports: port by listener, key: where they are}. */}}
{{- define "smtp-tlsproxy.servicePorts" -}}
{{- $in := . -}}
{{- /* The NetworkPolicy would have no ports either, and to it that is all of them. */ -}}
{{- $some := false -}}
{{- range .ports }}{{ if . }}{{ $some = true }}{{ end }}{{ end -}}
{{- if not $some -}}
{{- fail (printf "%s: every port is 0, and a Service has one at least" .key) -}}
{{- end -}}
{{- range $listener, $port := .ports }}
{{- if $port }}
- name: {{ $listener | replace "_" "-" }}
  port: {{ $port | int }}
  targetPort: {{ include "smtp-tlsproxy.targetPort" (dict "ports" $in.facts.ports "listener" $listener "key" $in.key) }}
{{- end }}
{{- end }}
{{- end }}

{{/* The same ports for a NetworkPolicy. */}}
{{- define "smtp-tlsproxy.policyPorts" -}}
{{- $in := . -}}
{{- range $listener, $port := .ports }}
{{- if $port }}
- port: {{ include "smtp-tlsproxy.targetPort" (dict "ports" $in.facts.ports "listener" $listener "key" $in.key) }}
{{- end }}
{{- end }}
{{- end }}

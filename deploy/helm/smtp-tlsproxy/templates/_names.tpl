{{/* The name of each object: that of the release, with the chart's where it does not say so already. */}}
{{- define "smtp-tlsproxy.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 53 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 53 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 53 | trimSuffix "-" -}}
{{- end -}}
{{- end }}

{{- define "smtp-tlsproxy.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "smtp-tlsproxy.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end }}

{{/* What finds the pods of this release, and nothing else. It can not change while the release lives. */}}
{{- define "smtp-tlsproxy.selector" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: gateway
{{- end }}

{{- define "smtp-tlsproxy.labels" -}}
{{ include "smtp-tlsproxy.selector" . }}
{{ include "smtp-tlsproxy.commonLabels" . }}
{{- end }}

{{- define "smtp-tlsproxy.commonLabels" -}}
app.kubernetes.io/part-of: mail
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{/* The chart test's pod, which no other selector of this chart may find. */}}
{{- define "smtp-tlsproxy.testSelector" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: test
{{- end }}

{{- define "smtp-tlsproxy.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end }}

{{/* The Secret of one of .Values.certificates. */}}
{{- define "smtp-tlsproxy.secretName" -}}
{{- default (printf "%s-tls" (regexReplaceAll "^[*_][.]" .name "wildcard-" | replace "." "-")) .secretName -}}
{{- end }}

{{/* What the restricted profile of the Pod Security Standards asks of a pod, and of a container. */}}
{{- define "smtp-tlsproxy.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
# The group that may read the keys.
fsGroup: 65532
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "smtp-tlsproxy.securityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

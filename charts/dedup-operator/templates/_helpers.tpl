{{- define "dedup-operator.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 53 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 53 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "dedup-operator.selectorLabels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "dedup-operator.labels" -}}
{{ include "dedup-operator.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: {{ .Chart.Name }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "dedup-operator.serviceAccount" -}}
{{- if .Values.serviceAccount.name -}}
{{- .Values.serviceAccount.name -}}
{{- else if .Values.serviceAccount.create -}}
{{- include "dedup-operator.fullname" . -}}
{{- else -}}
default
{{- end -}}
{{- end -}}

{{/* The name of objects that belong to no namespace. Two releases of one name in two namespaces have different names. */}}
{{- define "dedup-operator.clusterName" -}}
{{- printf "%s.%s" (include "dedup-operator.fullname" .) .Release.Namespace -}}
{{- end -}}

{{/* CEL: the operator created the object for a DedupJob. The argument is object or oldObject. The owner of a run of a
schedule is its CronJob. */}}
{{- define "dedup-operator.isOwned" -}}
(has({{ . }}.metadata.ownerReferences) && {{ . }}.metadata.ownerReferences.exists(owner,
(owner.kind == 'DedupJob' && owner.apiVersion.startsWith('streamdedup.dev/'))
|| (request.kind.kind == 'Job' && request.operation == 'DELETE' && owner.kind == 'CronJob'
&& has({{ . }}.metadata.labels) && 'streamdedup.dev/job' in {{ . }}.metadata.labels)))
|| (variables.mayOutliveItsJob && has({{ . }}.metadata.labels) && 'streamdedup.dev/job' in {{ . }}.metadata.labels
&& 'app.kubernetes.io/managed-by' in {{ . }}.metadata.labels
&& {{ . }}.metadata.labels['app.kubernetes.io/managed-by'] == 'dedup-operator')
{{- end -}}

{{/* The name of a pull Secret, which is written as a name or as {name: …}. */}}
{{- define "dedup-operator.secretName" -}}
{{- if kindIs "map" . }}{{ .name }}{{ else }}{{ . }}{{ end -}}
{{- end -}}

{{/* The reference of an image. Arguments: (dict "image" .Values.image "root" $) */}}
{{- define "dedup-operator.image" -}}
{{- if .image.digest -}}
{{- printf "%s@%s" .image.repository .image.digest -}}
{{- else -}}
{{- printf "%s:%s" .image.repository (.image.tag | default .root.Chart.AppVersion) -}}
{{- end -}}
{{- end -}}

{{/* The operator's rights in each namespace that it watches. It reads no Secrets and creates no pods; controllers create them. */}}
{{- define "dedup-operator.rules" -}}
- apiGroups: [streamdedup.dev]
  resources: [dedupjobs]
  verbs: [get, list, watch]
- apiGroups: [streamdedup.dev]
  resources: [dedupjobs/status]
  verbs: [update]
- apiGroups: [apps]
  resources: [statefulsets]
  verbs: [get, list, watch, create, update, delete]
- apiGroups: [batch]
  resources: [jobs, cronjobs]
  verbs: [get, list, watch, create, update, delete]
- apiGroups: [""]
  resources: [persistentvolumeclaims]
  verbs: [get, list, watch, create, update{{ if .Values.rbac.changeClaimOwner }}, delete{{ end }}]
- apiGroups: [""]
  resources: [configmaps]
  verbs: [get, list, watch, create, update, delete]
- apiGroups: [""]
  resources: [services]
  verbs: [get, create]
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch]
- apiGroups: [""]
  resources: [events]
  verbs: [list]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create]
{{- end -}}

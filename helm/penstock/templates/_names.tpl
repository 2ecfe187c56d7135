{{- define "penstock.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 30 | trimSuffix "-" -}}
{{- end -}}

{{/* The prefix of all names. A pod's name is its host name, which is cut after 63 characters, and
workers are known by it: so this is short, and two long names that begin alike stay two. */}}
{{- define "penstock.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- $full := .Values.fullnameOverride | default (contains $name .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name $name)) -}}
{{- if gt (len $full) 30 -}}
{{- $full = printf "%s-%s" (trunc 21 $full | trimSuffix "-") (sha256sum $full | trunc 8) -}}
{{- end -}}
{{- $full -}}
{{- end -}}

{{/* The name of the object of a part: list $ "web". */}}
{{- define "penstock.object" -}}
{{- printf "%s-%s" (include "penstock.fullname" (first .)) (last .) -}}
{{- end -}}

{{/* By what the pods of a part are selected: list $ "web". They hold for the life of a release. */}}
{{- define "penstock.selector" -}}
app.kubernetes.io/name: {{ include "penstock.name" (first .) | quote }}
app.kubernetes.io/instance: {{ (first .).Release.Name | quote }}
app.kubernetes.io/component: {{ last . }}
{{- end -}}

{{/* The labels of an object of a part. No pod has these, or each version would start servers anew. */}}
{{- define "penstock.labels" -}}
{{ include "penstock.selector" . }}
app.kubernetes.io/version: {{ (first .).Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ (first .).Release.Service }}
helm.sh/chart: {{ printf "%s-%s" (first .).Chart.Name (first .).Chart.Version | replace "+" "_" | trunc 63 }}
{{- end -}}

{{/* The labels of what outlives versions unchanged: claims of a StatefulSet. */}}
{{- define "penstock.metadata" -}}
name: {{ include "penstock.object" . }}
namespace: {{ (first .).Release.Namespace }}
labels:
  {{- include "penstock.labels" . | nindent 2 }}
{{- end -}}

{{- define "penstock.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (ternary (include "penstock.fullname" .) "default" .Values.serviceAccount.create) -}}
{{- end -}}

{{/* An image: list $ registry image. */}}
{{- define "penstock.reference" -}}
{{- $image := last . -}}
{{- $registry := index . 1 -}}
{{- if $registry }}{{ trimSuffix "/" $registry }}/{{ end -}}
{{- $image.repository -}}
{{- if $image.digest }}@{{ $image.digest }}{{ else }}:{{ $image.tag }}{{ end -}}
{{- end -}}

{{/* One of our own images: list $ image. */}}
{{- define "penstock.image" -}}
{{- $root := first . -}}
{{- $image := last . -}}
{{- $tag := $image.tag | default $root.Values.image.tag | default $root.Chart.AppVersion -}}
{{- include "penstock.reference" (list $root $root.Values.image.registry (merge (dict "tag" $tag) $image)) -}}
{{- end -}}

{{/* The workers that run: each one's entry merged over the defaults, by name, as YAML. */}}
{{- define "penstock.workers" -}}
{{- range $name, $entry := .Values.workers }}
{{- $worker := mergeOverwrite (deepCopy $.Values.workerDefaults) (deepCopy ($entry | default dict)) }}
{{- if $worker.enabled }}
{{ $name }}:
  {{- toYaml $worker | nindent 2 }}
{{- end }}
{{- end }}
{{- end -}}

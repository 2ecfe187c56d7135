{{/* What differs for the pods of a part, over what holds for all: list $ pod. */}}
{{- define "penstock.pod" -}}
{{- toYaml (mergeOverwrite (deepCopy (first .).Values.podDefaults) (deepCopy (last .))) -}}
{{- end -}}

{{/* The metadata of a pod: dict root part pod checksums. */}}
{{- define "penstock.pod.metadata" -}}
{{- $pod := include "penstock.pod" (list .root .pod) | fromYaml -}}
{{- with merge (dict) (.checksums | default dict) ($pod.annotations | default dict) }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
labels:
  {{- include "penstock.selector" (list .root .part) | nindent 2 }}
  {{- with $pod.labels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{/* All of a pod's spec but its containers and volumes: dict root part pod user grace. */}}
{{- define "penstock.pod.spec" -}}
{{- $root := .root -}}
{{- $part := .part -}}
{{- $pod := include "penstock.pod" (list .root .pod) | fromYaml -}}
serviceAccountName: {{ include "penstock.serviceAccount" .root }}
automountServiceAccountToken: false
# Variables for every Service of the namespace would be taken for settings.
enableServiceLinks: false
{{- if eq (int .user) 10001 }}
# As the first process of a container a process that has not set up its signals yet ignores SIGTERM,
# and would be waited for until its grace is over. So the pod's own process is the first one.
shareProcessNamespace: true
{{- end }}
terminationGracePeriodSeconds: {{ int .grace }}
securityContext:
  runAsNonRoot: true
  runAsUser: {{ .user }}
  runAsGroup: {{ .user }}
  fsGroup: {{ .user }}
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $pod.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- range $key := list "nodeSelector" "tolerations" "affinity" }}
{{- with get $pod $key }}
{{ $key }}:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- with $pod.topologySpreadConstraints }}
topologySpreadConstraints:
  {{- range . }}
  - labelSelector:
      matchLabels:
        {{- include "penstock.selector" (list $root $part) | nindent 8 }}
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
{{- end -}}

{{- define "penstock.container.security" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end -}}

{{/* A worker or the scheduler shows by a file how it is; no probe asks the broker. Until it has begun
it may wait for servers; and what is slow on a busy node is not ended. */}}
{{- define "penstock.probes.file" -}}
startupProbe:
  exec: {command: [penstock, health]}
  # Later than the file of an earlier life of the container is gone.
  initialDelaySeconds: 5
  periodSeconds: 3
  timeoutSeconds: 10
  failureThreshold: {{ div (add (int .Values.waitSeconds) 90) 3 }}
readinessProbe:
  exec: {command: [penstock, health, --ready]}
  periodSeconds: 10
  timeoutSeconds: 10
  failureThreshold: 3
livenessProbe:
  exec: {command: [penstock, health]}
  periodSeconds: 30
  timeoutSeconds: 15
  failureThreshold: 3
{{- end -}}

{{/* The probes of an HTTP server: dict root port live ready. */}}
{{- define "penstock.probes.http" -}}
startupProbe:
  httpGet: {path: {{ .live }}, port: {{ .port }}}
  periodSeconds: 2
  timeoutSeconds: 5
  failureThreshold: {{ div (add (int .root.Values.waitSeconds) 90) 2 }}
readinessProbe:
  httpGet: {path: {{ .ready }}, port: {{ .port }}}
  periodSeconds: 5
  timeoutSeconds: 5
  failureThreshold: 3
livenessProbe:
  httpGet: {path: {{ .live }}, port: {{ .port }}}
  periodSeconds: 15
  timeoutSeconds: 10
  failureThreshold: 4
{{- end -}}

{{/* The probes of a server by a command: dict command. A server that reads a large file at its start
is not ended for it. */}}
{{- define "penstock.probes.command" -}}
startupProbe:
  exec:
    command: &probe
      {{- toYaml .command | nindent 6 }}
  periodSeconds: 2
  timeoutSeconds: 5
  failureThreshold: 300
readinessProbe:
  exec: {command: *probe}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 3
livenessProbe:
  exec: {command: *probe}
  periodSeconds: 15
  timeoutSeconds: 10
  failureThreshold: 6
{{- end -}}

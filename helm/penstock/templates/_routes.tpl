{{/* Below which paths Flower answers whoever asks, for Prometheus and probes: from outside web answers
there, which has nothing at such an address, or wants its key. A proxy takes the longest path that
fits, of Ingress and Gateway API alike. list $ part. JSON. */}}
{{- define "penstock.closed" -}}
{{- $closed := list -}}
{{- if eq (last .) "flower" -}}
{{- range list "metrics" "healthcheck" }}{{ $closed = append $closed (printf "%s/%s" (first $).Values.flower.prefix .) }}{{ end -}}
{{- end -}}
{{- toJson $closed -}}
{{- end -}}

{{/* An Ingress: dict root part paths values. */}}
{{- define "penstock.ingress" -}}
{{- $name := include "penstock.object" (list .root .part) -}}
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  {{- include "penstock.metadata" (list .root .part) | nindent 2 }}
  {{- with .values.annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  {{- with .values.className }}
  ingressClassName: {{ . }}
  {{- end }}
  {{- with .values.tls }}
  tls:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  rules:
    {{- $paths := .paths }}
    {{- range .values.hosts }}
    - host: {{ . | quote }}
      http:
        paths:
          {{- range $paths }}
          - path: {{ . }}
            pathType: Prefix
            backend: {service: {name: {{ $name }}, port: {name: http}}}
          {{- end }}
          {{- range include "penstock.closed" (list $.root $.part) | fromJsonArray }}
          - path: {{ . }}
            pathType: Prefix
            backend: {service: {name: {{ include "penstock.object" (list $.root "web") }}, port: {name: http}}}
          {{- end }}
    {{- end }}
{{- end -}}

{{/* An HTTPRoute: dict root part port paths values. */}}
{{- define "penstock.route" -}}
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata:
  {{- include "penstock.metadata" (list .root .part) | nindent 2 }}
  {{- with .values.annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  parentRefs:
    {{- toYaml .values.parentRefs | nindent 4 }}
  {{- with .values.hostnames }}
  hostnames:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  rules:
    - matches:
        {{- range .paths }}
        - path: {type: PathPrefix, value: {{ . }}}
        {{- end }}
      backendRefs:
        - {name: {{ include "penstock.object" (list .root .part) }}, port: {{ int .port }}}
    {{- with include "penstock.closed" (list .root .part) | fromJsonArray }}
    - matches:
        {{- range . }}
        - path: {type: PathPrefix, value: {{ . }}}
        {{- end }}
      backendRefs:
        - {name: {{ include "penstock.object" (list $.root "web") }}, port: {{ int $.root.Values.web.service.port }}}
    {{- end }}
{{- end -}}

{{/* The configuration of a Redis server: list $ role. */}}
{{- define "penstock.redis.config" -}}
{{- $role := last . -}}
{{- (first .).Files.Get (printf "files/redis/%s.conf" $role) -}}
{{- with (get (first .).Values.redis $role).extraConfig }}
{{ . }}
{{ end -}}
---
{{ (first .).Files.Get (printf "files/acl/%s.acl" $role) -}}
{{- end -}}

{{/* The users that a Redis server knows: list $ role. JSON. */}}
{{- define "penstock.redis.users" -}}
{{- $users := list -}}
{{- range regexFindAll "(?m)^user \\S+ on " ((first .).Files.Get (printf "files/acl/%s.acl" (last .))) -1 -}}
{{- $users = append $users (. | trimPrefix "user " | trimSuffix " on ") -}}
{{- end -}}
{{- toJson $users -}}
{{- end -}}

{{/* The claim of a StatefulSet, which can never be changed: list $ part persistence. */}}
{{- define "penstock.claim" -}}
{{- $root := first . -}}
- metadata:
    name: data
    labels:
      {{- include "penstock.selector" (list $root (index . 1)) | nindent 6 }}
  spec:
    accessModes: [ReadWriteOnce]
    {{- with (last .).storageClassName | default $root.Values.persistence.storageClassName }}
    storageClassName: {{ . }}
    {{- end }}
    resources: {requests: {storage: {{ (last .).size }}}}
{{- end -}}

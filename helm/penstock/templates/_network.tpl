{{/* Whom a part with such needs talks to: list $ needs. YAML: the parts inside of this release, and
the ports of what is outside of it. */}}
{{- define "penstock.reaches" -}}
{{- $root := first . -}}
{{- $values := $root.Values -}}
{{- $needs := last . -}}
{{- $inside := list -}}
{{- $outside := list -}}
{{- $servers := include "penstock.roles" . | fromJsonArray -}}
{{- if has "database" $needs }}{{ $servers = append $servers "postgresql" }}{{ end -}}
{{- range $name := $servers -}}
{{- if (eq $name "postgresql" | ternary $values.postgresql (get $values.redis $name)).enabled -}}
{{- $inside = append $inside $name -}}
{{- else -}}
{{- $outside = append $outside (int (include "penstock.server" (list $root $name) | fromYaml).port) -}}
{{- end -}}
{{- end -}}
{{- if has "mail" $needs -}}
{{- if $values.devServices.enabled }}{{ $inside = append $inside "mail" }}{{ else if $values.smtp.host }}{{ $outside = append $outside (int $values.smtp.port) }}{{ end -}}
{{- with $values.smtp.notificationUrl }}{{ $outside = append $outside (include "penstock.port" . | int) }}{{ end -}}
{{- end -}}
{{- if has "payment" $needs -}}
{{- if $values.devServices.enabled }}{{ $inside = append $inside "provider" }}{{ else if $values.payment.url }}{{ $outside = append $outside (include "penstock.port" $values.payment.url | int) }}{{ end -}}
{{- end -}}
{{- if and (has "files" $needs) (eq $values.files.store "s3") -}}
{{- $outside = append $outside (include "penstock.port" ($values.files.s3.endpoint | default "https://") | int) -}}
{{- end -}}
{{- if has "web" $needs }}{{ $inside = append $inside "web" }}{{ end -}}
{{- toYaml (dict "inside" $inside "outside" (uniq $outside)) -}}
{{- end -}}

{{/* The port of a URL. */}}
{{- define "penstock.port" -}}
{{- $parts := urlParse . -}}
{{- regexFind "[0-9]+$" (regexFind ":[0-9]+$" $parts.host) | default (eq $parts.scheme "https" | ternary "443" "80") -}}
{{- end -}}

{{/* Where secrets are mounted. Not below /run/secrets: a service account's token is put there. */}}
{{- define "penstock.secrets.folder" -}}/etc/penstock/secrets{{- end -}}
{{- define "penstock.ca.folder" -}}/etc/penstock/ca{{- end -}}

{{/* A secret by its name here: list $ "smtp_password". YAML: the Secret it is in and its key there,
what was given, whether it is ours to choose, and the key in values.yaml. */}}
{{- define "penstock.secret" -}}
{{- $root := first . -}}
{{- $name := last . -}}
{{- $values := $root.Values -}}
{{- $at := dict
  "api_key" (list $values.api "key" "api" true)
  "operator_key" (list $values.api.operator "key" "api.operator" false)
  "smtp_password" (list $values.smtp "password" "smtp" false)
  "payment_key" (list $values.payment "key" "payment" false)
  "flower_sign_in" (list $values.flower "signIn" "flower" true)
  "s3_secret_access_key" (list $values.files.s3 "secretAccessKey" "files.s3" false)
  "database_password" (list $values.postgresql.auth "password" "postgresql.auth" $values.postgresql.enabled)
-}}
{{- range $role := list "broker" "results" "cache" "files" -}}
{{- $_ := set $at (printf "%s_password" $role) (list (get $values.redis $role).external "password" (printf "redis.%s.external" $role) false) -}}
{{- end -}}
{{- $block := dict -}}
{{- $key := "" -}}
{{- $given := "" -}}
{{- $path := "" -}}
{{- $ours := true -}}
{{- if hasPrefix "redis_" $name -}}
{{- $key = trimPrefix "redis_" $name -}}
{{- $block = $values.redis.auth -}}
{{- $given = get $block.passwords $key -}}
{{- $path = printf "redis.auth.passwords.%s" $key -}}
{{- else -}}
{{- $found := get $at $name -}}
{{- $block = index $found 0 -}}
{{- $key = index $found 1 -}}
{{- $given = get $block $key -}}
{{- $path = printf "%s.%s" (index $found 2) $key -}}
{{- $ours = index $found 3 -}}
{{- end -}}
{{- if and $block.existingSecret (not (get $block.existingSecretKeys $key)) -}}
{{- fail (printf "%s.existingSecretKeys.%s: says no key of the Secret %s" (regexReplaceAll "\\.(passwords\\.)?[^.]+$" $path "") $key $block.existingSecret) -}}
{{- end -}}
{{- toYaml (dict
  "secret" ($block.existingSecret | default (include "penstock.fullname" $root))
  "key" (empty $block.existingSecret | ternary ($name | replace "_" "-") (get $block.existingSecretKeys $key))
  "own" (not $block.existingSecret)
  "given" ($given | default "")
  "set" (or $ours (not (not $block.existingSecret)) (not (not $given)))
  "path" $path
) -}}
{{- end -}}

{{/* The roles of Redis that a part with such needs uses: list $ needs. JSON. */}}
{{- define "penstock.roles" -}}
{{- $values := (first .).Values -}}
{{- $roles := list -}}
{{- range $need := last . -}}
{{- if eq $need "jobs" }}{{ $roles = concat $roles (list "broker" "results") }}{{ end -}}
{{- if and (eq $need "cache") (eq $values.cache.backend "redis") }}{{ $roles = append $roles "cache" }}{{ end -}}
{{- if and (eq $need "files") (eq $values.files.store "redis") }}{{ $roles = append $roles "files" }}{{ end -}}
{{- end -}}
{{- toJson $roles -}}
{{- end -}}

{{/* The roles that are servers here: JSON. */}}
{{- define "penstock.roles.own" -}}
{{- $own := list -}}
{{- range $role := include "penstock.roles" (list . (list "jobs" "cache" "files")) | fromJsonArray -}}
{{- if (get $.Values.redis $role).enabled }}{{ $own = append $own $role }}{{ end -}}
{{- end -}}
{{- toJson $own -}}
{{- end -}}

{{/* The names of the secrets that a part gets: list $ user needs. JSON. */}}
{{- define "penstock.secrets.of" -}}
{{- $root := index . 0 -}}
{{- $user := index . 1 -}}
{{- $needs := index . 2 -}}
{{- $wanted := list -}}
{{- $own := include "penstock.roles.own" $root | fromJsonArray -}}
{{- range $role := include "penstock.roles" (list $root $needs) | fromJsonArray -}}
{{- if has $role $own }}{{ $wanted = append $wanted (printf "redis_%s" $user) }}{{ else }}{{ $wanted = append $wanted (printf "%s_password" $role) }}{{ end -}}
{{- end -}}
{{- $more := dict "api" "api_key" "operator" "operator_key" "database" "database_password" "mail" "smtp_password" "payment" "payment_key" "flower" "flower_sign_in" -}}
{{- range $need := $needs -}}
{{- with get $more $need }}{{ $wanted = append $wanted . }}{{ end -}}
{{- if and (eq $need "files") (eq $root.Values.files.store "s3") }}{{ $wanted = append $wanted "s3_secret_access_key" }}{{ end -}}
{{- end -}}
{{- $set := list -}}
{{- range $name := uniq $wanted -}}
{{- if (include "penstock.secret" (list $root $name) | fromYaml).set }}{{ $set = append $set $name }}{{ end -}}
{{- end -}}
{{- toJson $set -}}
{{- end -}}

{{/* The file of a secret; a part knows one password of our Redis servers, its own. */}}
{{- define "penstock.secret.file" -}}
{{- hasPrefix "redis_" . | ternary "redis_password" . -}}
{{- end -}}

{{/* Host and port of a server: list $ "broker" | "postgresql". YAML. */}}
{{- define "penstock.server" -}}
{{- $root := first . -}}
{{- $name := last . -}}
{{- $server := eq $name "postgresql" | ternary $root.Values.postgresql (get $root.Values.redis $name) -}}
{{- if $server.enabled -}}
host: {{ include "penstock.object" . }}
port: {{ eq $name "postgresql" | ternary 5432 6379 }}
database: {{ eq $name "postgresql" | ternary "penstock" "0" }}
user: {{ eq $name "postgresql" | ternary "penstock" "" | quote }}
tls: {enabled: false}
{{- else -}}
{{- toYaml (omit $server.external "password" "existingSecret" "existingSecretKeys") -}}
{{- end -}}
{{- end -}}

{{/* The certificate that a server's is checked against. */}}
{{- define "penstock.ca" -}}
{{- $tls := (include "penstock.server" . | fromYaml).tls -}}
{{- empty $tls.caSecret | ternary "/etc/ssl/certs/ca-certificates.crt" (printf "%s/%s.crt" (include "penstock.ca.folder" .) (last .)) -}}
{{- end -}}

{{- define "penstock.redis.url" -}}
{{- $server := include "penstock.server" . | fromYaml -}}
{{- $server.tls.enabled | ternary "rediss" "redis" }}://{{ $server.host }}:{{ int $server.port }}/{{ int $server.database }}
{{- if $server.tls.enabled }}?ssl_cert_reqs=required&ssl_ca_certs={{ include "penstock.ca" . }}{{ end -}}
{{- end -}}

{{- define "penstock.database.url" -}}
{{- $at := list . "postgresql" -}}
{{- $server := include "penstock.server" $at | fromYaml -}}
postgresql://{{ $server.user }}@{{ $server.host }}:{{ int $server.port }}/{{ $server.database }}
{{- if $server.tls.enabled }}?sslmode=verify-full&sslrootcert={{ include "penstock.ca" $at }}{{ end -}}
{{- end -}}

{{/* The environment of one of our own containers: dict root user needs more. `more` are a list of
entries of the part's own and come last, so that they win. */}}
{{- define "penstock.env" -}}
{{- $root := .root -}}
{{- $values := .root.Values -}}
{{- $own := include "penstock.roles.own" $root | fromJsonArray -}}
{{- $roles := include "penstock.roles" (list $root .needs) | fromJsonArray -}}
{{- $env := list
  (dict "name" "PENSTOCK_WAIT" "value" (.wait | default $values.waitSeconds | toString))
  (dict "name" "PENSTOCK_LOG_LEVEL" "value" $values.log.level)
  (dict "name" "PENSTOCK_LOG_FORMAT" "value" $values.log.format)
-}}
{{- range $role := $roles -}}
{{- $setting := eq $role "files" | ternary "PENSTOCK_FILES" (printf "PENSTOCK_%s_URL" (upper $role)) -}}
{{- $env = append $env (dict "name" $setting "value" (include "penstock.redis.url" (list $root $role))) -}}
{{- with (get $values.redis $role).external.user -}}
{{- if not (has $role $own) }}{{ $env = append $env (dict "name" (printf "PENSTOCK_%s_USER" (upper $role)) "value" .) }}{{ end -}}
{{- end -}}
{{- end -}}
{{- if has "jobs" .needs -}}
{{- $env = append $env (dict "name" "PENSTOCK_RECORDS_TTL" "value" (int64 $values.jobs.recordsTtl | toString)) -}}
{{- $env = append $env (dict "name" "PENSTOCK_RETRY_SCALE" "value" ($values.jobs.retryScale | toString)) -}}
{{- end -}}
{{- if has "database" .needs -}}
{{- $env = append $env (dict "name" "PENSTOCK_DATABASE_URL" "value" (include "penstock.database.url" $root)) -}}
{{- end -}}
{{- if has "files" .needs -}}
{{- $env = append $env (dict "name" "PENSTOCK_FILES_TTL" "value" (int64 $values.files.ttl | toString)) -}}
{{- if eq $values.files.store "volume" -}}
{{- $env = append $env (dict "name" "PENSTOCK_FILES" "value" "/var/lib/penstock/files") -}}
{{- else if eq $values.files.store "s3" -}}
{{- $s3 := $values.files.s3 -}}
{{- $place := printf "s3://%s" $s3.bucket -}}
{{- with $s3.prefix }}{{ $place = printf "%s/%s" $place . }}{{ end -}}
{{- $env = append $env (dict "name" "PENSTOCK_FILES" "value" $place) -}}
{{- range $name, $value := dict "ENDPOINT" $s3.endpoint "REGION" $s3.region "ACCESS_KEY_ID" $s3.accessKeyId -}}
{{- if $value }}{{ $env = append $env (dict "name" (printf "PENSTOCK_S3_%s" $name) "value" $value) }}{{ end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if has "mail" .needs -}}
{{- if $values.devServices.enabled -}}
{{- $env = concat $env (list
  (dict "name" "PENSTOCK_SMTP_HOST" "value" (include "penstock.object" (list $root "mail")))
  (dict "name" "PENSTOCK_SMTP_PORT" "value" "1025")
  (dict "name" "PENSTOCK_SMTP_SECURITY" "value" "none")) -}}
{{- else if $values.smtp.host -}}
{{- $env = concat $env (list
  (dict "name" "PENSTOCK_SMTP_HOST" "value" $values.smtp.host)
  (dict "name" "PENSTOCK_SMTP_PORT" "value" (int $values.smtp.port | toString))
  (dict "name" "PENSTOCK_SMTP_SECURITY" "value" $values.smtp.security)) -}}
{{- with $values.smtp.username }}{{ $env = append $env (dict "name" "PENSTOCK_SMTP_USERNAME" "value" .) }}{{ end -}}
{{- end -}}
{{- $env = append $env (dict "name" "PENSTOCK_MAIL_FROM" "value" $values.smtp.from) -}}
{{- with $values.smtp.notificationUrl }}{{ $env = append $env (dict "name" "PENSTOCK_NOTIFICATION_URL" "value" .) }}{{ end -}}
{{- end -}}
{{- if has "payment" .needs -}}
{{- with $values.devServices.enabled | ternary (printf "http://%s:8090" (include "penstock.object" (list $root "provider"))) $values.payment.url -}}
{{- $env = append $env (dict "name" "PENSTOCK_PAYMENT_URL" "value" .) -}}
{{- end -}}
{{- end -}}
{{- range $secret := include "penstock.secrets.of" (list $root .user .needs) | fromJsonArray -}}
{{- $file := include "penstock.secret.file" $secret -}}
{{- if eq $file "redis_password" }}{{ $env = append $env (dict "name" "PENSTOCK_REDIS_USER" "value" $.user) }}{{ end -}}
{{- $env = append $env (dict "name" (printf "PENSTOCK_%s_FILE" (upper $file)) "value" (printf "%s/%s" (include "penstock.secrets.folder" $root) $file)) -}}
{{- end -}}
{{- $env = concat $env (.own | default list) $values.extraEnv (.more | default list) -}}
{{- /* Of two with one name the later holds. */ -}}
{{- $last := dict -}}
{{- $names := list -}}
{{- range $env }}{{ $_ := set $last .name . }}{{ $names = append $names .name }}{{ end -}}
env:
  {{- range uniq $names }}
  {{- toYaml (list (get $last .)) | nindent 2 }}
  {{- end }}
{{- end -}}

{{/* The volumes of one of our own pods: dict root user needs tmp state. */}}
{{- define "penstock.volumes" -}}
{{- $root := .root -}}
{{- $secrets := include "penstock.secrets.of" (list $root .user .needs) | fromJsonArray -}}
- name: tmp
  emptyDir: {sizeLimit: {{ .tmp | default "64Mi" }}}
{{- if $secrets }}
- name: secrets
  projected:
    defaultMode: 0440
    sources:
      {{- range $name := $secrets }}
      {{- $at := include "penstock.secret" (list $root $name) | fromYaml }}
      - secret:
          name: {{ $at.secret }}
          items: [{key: {{ $at.key | quote }}, path: {{ include "penstock.secret.file" $name }}}]
      {{- end }}
{{- end }}
{{- with include "penstock.cas" . | fromJsonArray }}
- name: ca
  projected:
    defaultMode: 0440
    sources:
      {{- range . }}
      - secret:
          name: {{ .secret }}
          items: [{key: {{ .key | quote }}, path: {{ .server }}.crt}]
      {{- end }}
{{- end }}
{{- if and (has "files" .needs) (eq $root.Values.files.store "volume") }}
- name: files
  persistentVolumeClaim:
    claimName: {{ $root.Values.files.volume.existingClaim | default (include "penstock.object" (list $root "files")) }}
{{- end }}
{{- if .state }}
- name: state
  {{- if $root.Values.persistence.enabled }}
  persistentVolumeClaim: {claimName: {{ include "penstock.object" (list $root .state) }}}
  {{- else }}
  emptyDir: {}
  {{- end }}
{{- end }}
{{- end -}}

{{/* Where those volumes are mounted. */}}
{{- define "penstock.mounts" -}}
- {name: tmp, mountPath: /tmp}
{{- if include "penstock.secrets.of" (list .root .user .needs) | fromJsonArray }}
- {name: secrets, mountPath: {{ include "penstock.secrets.folder" .root }}, readOnly: true}
{{- end }}
{{- if include "penstock.cas" . | fromJsonArray }}
- {name: ca, mountPath: {{ include "penstock.ca.folder" .root }}, readOnly: true}
{{- end }}
{{- if and (has "files" .needs) (eq .root.Values.files.store "volume") }}
- {name: files, mountPath: /var/lib/penstock/files}
{{- end }}
{{- if .state }}
- {name: state, mountPath: /var/lib/penstock/state}
{{- end }}
{{- end -}}

{{/* The authorities that a part needs for external servers: dict root needs. JSON. */}}
{{- define "penstock.cas" -}}
{{- $root := .root -}}
{{- $servers := include "penstock.roles" (list .root .needs) | fromJsonArray -}}
{{- if has "database" .needs }}{{ $servers = append $servers "postgresql" }}{{ end -}}
{{- $found := list -}}
{{- range $name := $servers -}}
{{- $tls := (include "penstock.server" (list $root $name) | fromYaml).tls -}}
{{- if and $tls.enabled $tls.caSecret -}}
{{- $found = append $found (dict "server" $name "secret" $tls.caSecret "key" $tls.caKey) -}}
{{- end -}}
{{- end -}}
{{- toJson $found -}}
{{- end -}}

{{/* Changes where a secret that was given changes, and not where one was made. */}}
{{- define "penstock.checksums" -}}
{{- $given := dict -}}
{{- range $name := include "penstock.secrets.of" (list .root .user .needs) | fromJsonArray -}}
{{- with (include "penstock.secret" (list $.root $name) | fromYaml).given }}{{ $_ := set $given $name . }}{{ end -}}
{{- end -}}
{{- if $given }}{{ toYaml (dict "checksum/secrets" (toJson $given | sha256sum)) }}{{ end -}}
{{- end -}}

{{/* Waits until the Job has brought the schema up to date: dict root image user. */}}
{{- define "penstock.wait" -}}
- name: schema
  image: {{ .image }}
  imagePullPolicy: {{ .root.Values.image.pullPolicy }}
  command: [penstock, db, wait]
  {{- include "penstock.env" (dict "root" .root "user" "" "needs" (list "database") "wait" .root.Values.migrate.waitSeconds) | nindent 2 }}
  {{- include "penstock.container.security" . | nindent 2 }}
  resources:
    {{- toYaml .resources | nindent 4 }}
  volumeMounts:
    {{- include "penstock.mounts" (dict "root" .root "user" .user "needs" .needs) | nindent 4 }}
{{- end -}}

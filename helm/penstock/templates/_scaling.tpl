{{/* Workers come at once and go slowly: one that was needed a minute ago may be needed again. */}}
{{- define "penstock.scaleDown" -}}
{{- $down := .Values.autoscaling.scaleDown -}}
scaleDown:
  stabilizationWindowSeconds: {{ int $down.stabilizationSeconds }}
  policies:
    - {type: Pods, value: {{ int $down.pods }}, periodSeconds: {{ int $down.periodSeconds }}}
{{- end -}}

{{- define "lockstep.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 52 | trimSuffix "-" }}{{ else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 52 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "lockstep.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: node
{{- end }}

{{- define "lockstep.labels" -}}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "lockstep.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "lockstep.serviceAccount" -}}
{{ .Values.serviceAccount.name | default (include "lockstep.name" .) }}
{{- end }}

{{- /* The file that each node and each job reads. */ -}}
{{- define "lockstep.config" -}}
{{- $set := dict "listen" "0.0.0.0:8080" "admin_listen" "0.0.0.0:9081" -}}
{{- with .Values.tls.listener }}{{ $_ := set $set "listen_tls" (dict "cert" "/run/secrets/listener/tls.crt" "key" "/run/secrets/listener/tls.key") }}{{ end -}}
{{ toYaml (merge $set (deepCopy .Values.config)) }}
{{- end }}

{{- /* Secrets are files, and the environment says where. */ -}}
{{- define "lockstep.env" -}}
- {name: LOCKSTEP_MYSQL_SOURCE_FILE, value: /run/secrets/mysql/source}
- {name: LOCKSTEP_MYSQL_REPLICAS_FILE, value: /run/secrets/mysql/replicas}
- {name: LOCKSTEP_SECRET_FILE, value: /run/secrets/seal/seal}
{{- if .Values.secrets.nats }}
- {name: LOCKSTEP_NATS_PASSWORD_FILE, value: /run/secrets/nats/password}
{{- end }}
{{- if .Values.secrets.redis }}
- {name: LOCKSTEP_REDIS_ACCESS_PASSWORD_FILE, value: /run/secrets/redis/password}
{{- end }}
{{- if .Values.secrets.oidc }}
- {name: LOCKSTEP_OIDC_CLIENT_SECRET_FILE, value: /run/secrets/oidc/client-secret}
{{- end }}
{{- end }}

{{- /* What is mounted at /run/secrets: directory and Secret. The right to change the schema goes to migrations only. */ -}}
{{- define "lockstep.mounts" -}}
- {name: config, mountPath: /etc/lockstep, readOnly: true}
{{- range $directory, $secret := dict "mysql" .Values.secrets.mysql "seal" .Values.secrets.seal "nats" .Values.secrets.nats "redis" .Values.secrets.redis "oidc" .Values.secrets.oidc "listener" .Values.tls.listener "ca" .Values.tls.authority }}
{{- if $secret }}
- {name: {{ $directory }}, mountPath: /run/secrets/{{ $directory }}, readOnly: true}
{{- end }}
{{- end }}
{{- end }}

{{- define "lockstep.volumes" -}}
{{- $root := . -}}
- name: mysql
  secret:
    secretName: {{ .Values.secrets.mysql }}
    defaultMode: 0440
    items:
      - {key: source, path: source}
      - {key: replicas, path: replicas}
{{- range $directory, $secret := dict "seal" .Values.secrets.seal "nats" .Values.secrets.nats "redis" .Values.secrets.redis "oidc" .Values.secrets.oidc "listener" .Values.tls.listener "ca" .Values.tls.authority }}
{{- if $secret }}
- name: {{ $directory }}
  secret: {secretName: {{ $secret }}, defaultMode: 0440}
{{- end }}
{{- end }}
{{- end }}

{{- define "lockstep.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "lockstep.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

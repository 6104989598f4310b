{{- define "deputy.labels" -}}
app.kubernetes.io/name: deputy
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "deputy.fullname" -}}
{{- if contains "deputy" .Release.Name }}{{ .Release.Name | trunc 53 | trimSuffix "-" }}{{ else }}{{ printf "%s-deputy" .Release.Name | trunc 53 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "deputy.image" -}}
{{- if .Values.image.digest }}{{ .Values.image.repository }}@{{ .Values.image.digest }}{{ else }}{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}{{ end }}
{{- end }}

{{/* deputy.yaml: the values over what the folders and variables of the pods need. */}}
{{- define "deputy.settings" -}}
{{- $postgres := dict "store" (dict "postgres" (dict "password" (dict "env" "DEPUTY_POSTGRES_PASSWORD"))) -}}
{{- $own := dict "node" (dict "env" "DEPUTY_NODE") "kek" (dict "env" "DEPUTY_KEK") "keys" "/var/lib/deputy-keys/keys" "state" "/var/lib/deputy/state" -}}
{{- $listen := dict "listen" (dict "socket" "/run/deputy/deputy.sock" "socket_mode" "0660" "socket_group" 7881 "admin" "/var/lib/deputy/admin.sock" "connect" "0.0.0.0:7880") -}}
{{- $limits := dict "limits" (dict "shutdown_delay" "5s" "drain" "10s") -}}
{{- $settings := mergeOverwrite (deepCopy .Values.settings) $own $listen $postgres -}}
{{- if .Values.secret.redisPassword -}}
{{- $settings = mergeOverwrite $settings (dict "cache" (dict "redis" (dict "password" (dict "env" "DEPUTY_REDIS_PASSWORD")))) -}}
{{- else -}}
{{- $settings = omit $settings "cache" -}}
{{- end -}}
{{- toYaml (merge $settings $limits) -}}
{{- end }}

{{- define "deputy.securityContext" -}}
runAsNonRoot: true
runAsUser: 7880
runAsGroup: 7880
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{/* Folders of mode 0700, which no volume is by itself. */}}
{{- define "deputy.folders" -}}
name: folders
image: {{ include "deputy.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
command: [node, -e, "for (const path of ['/var/lib/deputy/state', '/var/lib/deputy-keys/keys']) require('node:fs').mkdirSync(path, {recursive: true, mode: 0o700})"]
securityContext:
  {{- include "deputy.securityContext" . | nindent 2 }}
resources:
  requests: {cpu: 10m, memory: 64Mi}
  limits: {memory: 128Mi}
volumeMounts:
  - {name: state, mountPath: /var/lib/deputy}
  - {name: keys, mountPath: /var/lib/deputy-keys}
{{- end }}

{{/* The daemon, but for what differs between its two forms. */}}
{{- define "deputy.container" -}}
name: deputy
image: {{ include "deputy.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
env:
  - name: DEPUTY_NODE
    valueFrom: {fieldRef: {fieldPath: {{ ternary "spec.nodeName" "metadata.name" (eq .Values.mode "daemonset") }}}}
  - name: DEPUTY_KEK
    valueFrom: {secretKeyRef: {name: {{ .Values.secret.name }}, key: {{ .Values.secret.kek }}}}
  - name: DEPUTY_POSTGRES_PASSWORD
    valueFrom: {secretKeyRef: {name: {{ .Values.secret.name }}, key: {{ .Values.secret.postgresPassword }}}}
  {{- if .Values.secret.redisPassword }}
  - name: DEPUTY_REDIS_PASSWORD
    valueFrom: {secretKeyRef: {name: {{ .Values.secret.name }}, key: {{ .Values.secret.redisPassword }}}}
  {{- end }}
ports:
  - {name: connect, containerPort: 7880}
# Has a lease, reaches its store and can record: not ready before, and not any more once it is ending.
readinessProbe:
  exec:
    command: [node, /usr/lib/deputy/dist/cli/main.js, status]
  periodSeconds: 5
  timeoutSeconds: 3
  failureThreshold: 1
startupProbe:
  exec:
    command: [node, /usr/lib/deputy/dist/cli/main.js, status]
  periodSeconds: 2
  timeoutSeconds: 3
  failureThreshold: 30
# Alive as long as it answers: a store that is away is no reason to start anew.
livenessProbe:
  exec:
    command: [node, -e, "require('node:http').get({socketPath: process.env.DEPUTY_SOCKET, path: '/healthz', timeout: 2000}, (answer) => process.exit(answer.statusCode === 200 ? 0 : 1)).on('timeout', () => process.exit(1)).on('error', () => process.exit(1))"]
  periodSeconds: 10
  timeoutSeconds: 3
  failureThreshold: 3
securityContext:
  {{- include "deputy.securityContext" . | nindent 2 }}
resources:
  {{- toYaml .Values.resources | nindent 2 }}
volumeMounts:
  # By itself, so that folders can be mounted beside it; new settings are new pods.
  - {name: config, mountPath: /etc/deputy/deputy.yaml, subPath: deputy.yaml, readOnly: true}
  - {name: state, mountPath: /var/lib/deputy}
  - {name: keys, mountPath: /var/lib/deputy-keys}
  - {name: socket, mountPath: /run/deputy}
  - {name: tmp, mountPath: /tmp}
  {{- range $at, $each := .Values.configMaps }}
  - {name: files-{{ $at }}, mountPath: /etc/deputy/{{ $each.path }}, readOnly: true}
  {{- end }}
{{- end }}

{{- define "deputy.volumes" -}}
- name: config
  configMap: {name: {{ include "deputy.fullname" . }}}
- name: state
  emptyDir: {medium: Memory, sizeLimit: 64Mi}
- name: keys
  persistentVolumeClaim: {claimName: {{ .Values.keys.existingClaim | default (printf "%s-keys" (include "deputy.fullname" .)) }}}
- name: tmp
  emptyDir: {medium: Memory, sizeLimit: 16Mi}
{{- range $at, $each := .Values.configMaps }}
- name: files-{{ $at }}
  configMap: {name: {{ $each.name }}}
{{- end }}
{{- end }}

{{- define "deputy.placement" -}}
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "jetrouter.name" -}}
{{- include "jetrouter.label" (default .Chart.Name .Values.nameOverride | trunc 40) -}}
{{- end -}}

{{/* A name of Services, too: a letter first, no dots, and with what is hung on it no more than 63 characters. */}}
{{- define "jetrouter.fullname" -}}
{{- $name := include "jetrouter.name" . -}}
{{- $full := .Release.Name -}}
{{- if .Values.fullnameOverride }}{{ $full = .Values.fullnameOverride }}
{{- else if not (contains $name .Release.Name) }}{{ $full = printf "%s-%s" .Release.Name $name }}
{{- end -}}
{{- $full = $full | lower | replace "." "-" | replace "_" "-" -}}
{{- if regexMatch "^[0-9]" $full }}{{ $full = printf "r-%s" $full }}{{ end -}}
{{- $full | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{/* What a label may have. */}}
{{- define "jetrouter.label" -}}
{{- regexReplaceAll "[^A-Za-z0-9]+$" (regexReplaceAll "[^A-Za-z0-9_.-]" . "_" | trunc 63) "" -}}
{{- end -}}

{{- define "jetrouter.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{/* dict "root" $ "part" "frontend" */}}
{{- define "jetrouter.selector" -}}
app.kubernetes.io/name: {{ include "jetrouter.name" .root | quote }}
app.kubernetes.io/instance: {{ .root.Release.Name | quote }}
app.kubernetes.io/component: {{ .part }}
{{- end -}}

{{- define "jetrouter.labels" -}}
{{ include "jetrouter.selector" . }}
app.kubernetes.io/version: {{ include "jetrouter.label" (.root.Values.image.tag | default .root.Chart.AppVersion) | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ include "jetrouter.label" (printf "%s-%s" .root.Chart.Name .root.Chart.Version) }}
{{- end -}}

{{- define "jetrouter.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{ .Values.serviceAccount.name | default (include "jetrouter.fullname" .) }}
{{- else -}}
{{ .Values.serviceAccount.name | default "default" }}
{{- end -}}
{{- end -}}

{{/* Of DNS; its Pods listen on 5353 in OpenShift. */}}
{{- define "jetrouter.dnsPorts" -}}
{{- range list 53 5353 }}
- {port: {{ . }}, protocol: UDP}
- {port: {{ . }}, protocol: TCP}
{{- end }}
{{- end -}}

{{- define "jetrouter.podSecurity" -}}
{{- include "jetrouter.podSecurityOf" (list . 65532) -}}
{{- end -}}

{{/* list $ USER */}}
{{- define "jetrouter.podSecurityOf" -}}
runAsNonRoot: true
{{- if not (index . 0).Values.platformUser }}
runAsUser: {{ index . 1 }}
runAsGroup: {{ index . 1 }}
fsGroup: {{ index . 1 }}
{{- end }}
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{/* Where Pods may be: of values that have these four. */}}
{{- define "jetrouter.placement" -}}
{{- range $key := list "nodeSelector" "tolerations" "affinity" "priorityClassName" }}
{{- with get $ $key }}
{{ $key }}:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "jetrouter.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{/* A value of an option as an environment variable has it. Numbers of a file of values are floats. */}}
{{- define "jetrouter.value" -}}
{{- if kindIs "slice" . -}}
{{- $words := list -}}
{{- range . }}{{ $words = append $words (include "jetrouter.value" .) }}{{ end -}}
{{- join "," $words -}}
{{- else if kindIs "float64" . -}}
{{- if eq (floor .) . }}{{ printf "%.0f" . }}{{ else }}{{ printf "%v" . }}{{ end -}}
{{- else -}}
{{- toString . -}}
{{- end -}}
{{- end -}}

{{/* Options as env entries: dict "root" $ "command" "frontend" "config" {option: value} "own" {option: value}.
     What config says wins over own. */}}
{{- define "jetrouter.env" -}}
{{- $known := get (.root.Files.Get "files/options.yaml" | fromYaml) .command -}}
{{- /* Not by merge, to which 0 and false are nothing. */}}
{{- $all := dict -}}
{{- range $some := list .own .config }}{{ range $option, $value := $some }}{{ $_ := set $all $option $value }}{{ end }}{{ end -}}
{{- range $option := keys $all | sortAlpha }}
{{- if not (hasKey $known $option) }}{{ fail (printf "%s has no option '%s': see docs/configuration.md" $.command $option) }}{{ end }}
- name: {{ get $known $option }}
  value: {{ include "jetrouter.value" (get $all $option) | quote }}
{{- end }}
{{- end -}}

{{/* An option of the frontends, or its default: list $ "http-port" 8000 */}}
{{- define "jetrouter.option" -}}
{{- $root := index . 0 -}}
{{- if hasKey $root.Values.config (index . 1) -}}
{{- include "jetrouter.value" (get $root.Values.config (index . 1)) -}}
{{- else -}}
{{- index . 2 -}}
{{- end -}}
{{- end -}}

{{/* A port that a container has by this name: list CONFIG "http-port" DEFAULT. One that is chosen at the start, or none, is
     nothing that a Service or a probe could name. */}}
{{- define "jetrouter.port" -}}
{{- $port := index . 2 -}}
{{- if hasKey (index . 0) (index . 1) }}{{ $port = get (index . 0) (index . 1) }}{{ end -}}
{{- if eq (int $port) 0 }}{{ fail (printf "%s: %v: it must be a port that can be named" (index . 1) $port) }}{{ end -}}
{{- int $port -}}
{{- end -}}

{{- define "jetrouter.httpPort" -}}
{{ include "jetrouter.port" (list .Values.config "http-port" 8000) }}
{{- end -}}

{{- define "jetrouter.adminPort" -}}
{{ include "jetrouter.port" (list .Values.config "admin-port" .Values.admin.port) }}
{{- end -}}

{{- define "jetrouter.https" -}}
{{- if or .Values.tls.secretName (hasKey .Values.config "tls-cert-path") }}true{{ end -}}
{{- end -}}

{{- define "jetrouter.url" -}}
{{ if include "jetrouter.https" . }}https{{ else }}http{{ end }}://{{ include "jetrouter.fullname" . }}:{{ .Values.service.port }}
{{- end -}}

{{- define "jetrouter.adminUrl" -}}
{{ if include "jetrouter.https" . }}https{{ else }}http{{ end }}://{{ include "jetrouter.fullname" . }}-admin:{{ .Values.admin.port }}
{{- end -}}

{{- define "jetrouter.adminSecret" -}}
{{ .Values.admin.token.secretName | default (printf "%s-admin" (include "jetrouter.fullname" .)) }}
{{- end -}}

{{/* ---------------------------------------------------------------- NATS */}}

{{- define "jetrouter.natsName" -}}
{{ include "jetrouter.fullname" . }}-nats
{{- end -}}

{{- define "jetrouter.natsSecret" -}}
{{ .Values.nats.passwordsSecretName | default (include "jetrouter.natsName" .) }}
{{- end -}}

{{/* What fits together of TLS, or an error. */}}
{{- define "jetrouter.natsTlsCheck" -}}
{{- $tls := .Values.nats.tls -}}
{{- if and $tls.clientCertificate (not $tls.secretName) -}}
{{- fail "nats.tls.clientCertificate needs nats.tls.secretName, a Secret with tls.crt, tls.key and ca.crt" -}}
{{- end -}}
{{- if and $tls.server.secretName (not .Values.nats.enabled) -}}
{{- fail "nats.tls.server is of the chart's servers: with nats.enabled=false nats.tls.secretName is enough" -}}
{{- end -}}
{{- if and .Values.nats.enabled $tls.secretName (not $tls.server.secretName) -}}
{{- fail "nats.tls.secretName: the chart's servers speak no TLS without nats.tls.server.secretName" -}}
{{- end -}}
{{- if and $tls.server.requireClientCertificate (not (and $tls.server.secretName $tls.clientCertificate)) -}}
{{- fail "nats.tls.server.requireClientCertificate needs nats.tls.server.secretName and nats.tls.clientCertificate" -}}
{{- end -}}
{{- end -}}

{{/* The Secret whose ca.crt vouches for the servers; "": no TLS, or the system's authorities. */}}
{{- define "jetrouter.natsCaSecret" -}}
{{ .Values.nats.tls.secretName | default .Values.nats.tls.server.secretName }}
{{- end -}}

{{/* A server's name: list $ 0. One that a wildcard of a certificate fits: *.NAME.NAMESPACE.svc */}}
{{- define "jetrouter.natsHost" -}}
{{- $name := include "jetrouter.natsName" (index . 0) -}}
{{ $name }}-{{ index . 1 }}.{{ $name }}.{{ (index . 0).Release.Namespace }}.svc
{{- end -}}

{{/* Each server by its name: a client that loses one goes to the next. */}}
{{- define "jetrouter.natsUrl" -}}
{{- if .Values.nats.enabled -}}
{{- $scheme := ternary "tls" "nats" (ne .Values.nats.tls.server.secretName "") -}}
{{- $urls := list -}}
{{- range $i := until (int .Values.nats.replicas) }}{{ $urls = append $urls (printf "%s://%s:4222" $scheme (include "jetrouter.natsHost" (list $ $i))) }}{{ end -}}
{{- join "," $urls -}}
{{- else -}}
{{- required "nats.url must be set with nats.enabled=false" .Values.nats.url -}}
{{- end -}}
{{- end -}}

{{- define "jetrouter.streamReplicas" -}}
{{- if .Values.nats.streamReplicas -}}
{{ .Values.nats.streamReplicas }}
{{- else if .Values.nats.enabled -}}
{{ .Values.nats.replicas }}
{{- else -}}
1
{{- end -}}
{{- end -}}

{{/* A size in bytes: 1024, 64GiB, 18GB, of which K, M, G and T are powers of 1024 for NATS as for us. */}}
{{- define "jetrouter.bytes" -}}
{{- $text := include "jetrouter.value" . | lower -}}
{{- $unit := get (dict "k" 1024.0 "m" 1048576.0 "g" 1073741824.0 "t" 1099511627776.0) (regexFind "[kmgt]" $text) | default 1.0 -}}
{{- printf "%.0f" (mulf (regexFind "^[0-9]+" $text) $unit) -}}
{{- end -}}

{{/* The streams that are asked for are ones that the chart's servers can make: NATS sets each one's whole size aside on every
     server that has a copy, and without room a pool never comes into being. */}}
{{- define "jetrouter.natsFits" -}}
{{- if not (hasKey .Values.config "nats-server") -}}
{{- $copies := include "jetrouter.option" (list . "nats-replicas" (include "jetrouter.streamReplicas" .)) | int -}}
{{- $servers := int .Values.nats.replicas -}}
{{- if gt $copies $servers -}}
{{- fail (printf "nats.streamReplicas: %d copies of each stream are more than nats.replicas, %d" $copies $servers) -}}
{{- end -}}
{{- $size := include "jetrouter.option" (list . "stream-max-bytes" "8GiB") -}}
{{- $room := divf (include "jetrouter.bytes" .Values.nats.storage.maxFileStore) (include "jetrouter.bytes" $size) | floor -}}
{{- $pools := len (splitList "\n" (include "jetrouter.pools" .)) -}}
{{- if lt (mulf $room $servers) (mulf $pools $copies) -}}
{{- fail (printf "nats.storage.maxFileStore: %s on each of %d servers has no room for %d pools with %d copies of stream-max-bytes (%s): more storage, or less config.stream-max-bytes" .Values.nats.storage.maxFileStore $servers $pools $copies $size) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* What every process that speaks to NATS is told of it, as options. */}}
{{- define "jetrouter.natsOptions" -}}
{{- include "jetrouter.natsTlsCheck" . -}}
nats-server: {{ include "jetrouter.natsUrl" . | quote }}
nats-replicas: {{ include "jetrouter.streamReplicas" . }}
{{- if include "jetrouter.natsCaSecret" . }}
nats-tls-ca: /etc/jetrouter/nats-tls/ca.crt
{{- if .Values.nats.tls.clientCertificate }}
nats-tls-cert: /etc/jetrouter/nats-tls/tls.crt
nats-tls-key: /etc/jetrouter/nats-tls/tls.key
{{- end }}
{{- end }}
{{- end -}}

{{/* Credentials, as env entries: dict "root" $ "role" "frontend" */}}
{{- define "jetrouter.natsEnv" -}}
{{- if .root.Values.nats.enabled }}
{{- $user := ternary "router" "bridge" (eq .role "frontend") }}
- name: NATS_AUTH_USERNAME
  value: {{ $user }}
- name: NATS_AUTH_PASSWORD
  valueFrom:
    secretKeyRef: {name: {{ include "jetrouter.natsSecret" .root }}, key: {{ $user }}-password}
{{- else }}
{{- $auth := get .root.Values.nats.auth .role }}
{{- if $auth.secretName }}
{{- range $name, $key := dict "NATS_AUTH_USERNAME" $auth.usernameKey "NATS_AUTH_PASSWORD" $auth.passwordKey "NATS_AUTH_TOKEN" $auth.tokenKey "NATS_AUTH_NKEY" $auth.nkeyKey }}
{{- if $key }}
- name: {{ $name }}
  valueFrom:
    secretKeyRef: {name: {{ $auth.secretName }}, key: {{ $key }}}
{{- end }}
{{- end }}
{{- if $auth.credentialsKey }}
- name: NATS_AUTH_CREDENTIALS_FILE
  value: /etc/jetrouter/nats/{{ $auth.credentialsKey }}
{{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{/* dict "root" $ "role" "frontend": the key of the credentials file, if there is one */}}
{{- define "jetrouter.natsCredentialsKey" -}}
{{- $auth := get .root.Values.nats.auth .role -}}
{{- if and (not .root.Values.nats.enabled) $auth.secretName }}{{ $auth.credentialsKey }}{{ end -}}
{{- end -}}

{{- define "jetrouter.natsVolumes" -}}
{{- with include "jetrouter.natsCredentialsKey" . }}
- name: nats-credentials
  secret:
    secretName: {{ (get $.root.Values.nats.auth $.role).secretName }}
    items: [{key: {{ . }}, path: {{ . }}}]
{{- end }}
{{- with include "jetrouter.natsCaSecret" .root }}
- name: nats-tls
  secret:
    secretName: {{ . }}
    # Not the key of a server.
    items:
      - {key: ca.crt, path: ca.crt}
      {{- if $.root.Values.nats.tls.clientCertificate }}
      - {key: tls.crt, path: tls.crt}
      - {key: tls.key, path: tls.key}
      {{- end }}
{{- end }}
{{- end -}}

{{- define "jetrouter.natsMounts" -}}
{{- if include "jetrouter.natsCredentialsKey" . }}
- {name: nats-credentials, mountPath: /etc/jetrouter/nats, readOnly: true}
{{- end }}
{{- if include "jetrouter.natsCaSecret" .root }}
- {name: nats-tls, mountPath: /etc/jetrouter/nats-tls, readOnly: true}
{{- end }}
{{- end -}}

{{/* "namespace-x-component-y", as the router spells it. */}}
{{- define "jetrouter.pool" -}}
namespace-{{ regexReplaceAll "[^a-z0-9-]" (lower .namespace) "-" }}-component-{{ regexReplaceAll "[^a-z0-9-]" (lower .component) "-" }}
{{- end -}}

{{/* Names of all pools that are routed to or published to, a line each. */}}
{{- define "jetrouter.pools" -}}
{{- $pools := dict -}}
{{- range $config := list .Values.config .Values.bridge.config -}}
{{- $namespace := get $config "namespace" | default (get $.Values.config "namespace") | default "dynamo" -}}
{{- $component := get $config "component" | default (get $.Values.config "component") | default "backend" -}}
{{- range $word := splitList "," (include "jetrouter.value" $component) -}}
{{- $_ := set $pools (include "jetrouter.pool" (dict "namespace" $namespace "component" $word)) true -}}
{{- end -}}
{{- end -}}
{{- range .Values.nats.extraPools }}{{ $_ := set $pools (include "jetrouter.pool" .) true }}{{ end -}}
{{- keys $pools | sortAlpha | join "\n" -}}
{{- end -}}

{{/* Subjects of a role as a list of NATS' configuration: dict "root" $ "role" "router" "kind" "publish" */}}
{{- define "jetrouter.subjects" -}}
{{- $subjects := list -}}
{{- range $pool := splitList "\n" (include "jetrouter.pools" .root) -}}
{{- range $line := splitList "\n" ($.root.Files.Get (printf "files/permissions-%s.txt" $.role)) -}}
{{- if hasPrefix (printf "%s " $.kind) $line -}}
{{- $subjects = append $subjects (trimPrefix (printf "%s " $.kind) $line | replace "POOL" $pool | quote) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and (eq .role "router") (eq .kind "publish") (eq (include "jetrouter.option" (list .root "discover-pools" false)) "true") -}}
{{- $subjects = append $subjects (quote "$JS.API.STREAM.NAMES") -}}
{{- end -}}
{{- uniq $subjects | join ", " -}}
{{- end -}}

{{/* ---------------------------------------------------------------- bridge */}}

{{/* The container of a bridge beside one engine: dict "root" $ "own" {option: value} */}}
{{- define "jetrouter.bridgeContainer" -}}
name: bridge
image: {{ include "jetrouter.image" .root | quote }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
args: [bridge]
restartPolicy: Always
env:
  - name: POD_IP
    valueFrom: {fieldRef: {fieldPath: status.podIP}}
  {{- $own := merge (dict) .own (include "jetrouter.natsOptions" .root | fromYaml) (include "jetrouter.bridgePool" .root | fromYaml) (dict "system-port" 9090) }}
  {{- include "jetrouter.env" (dict "root" .root "command" "bridge" "config" .root.Values.bridge.config "own" $own) | nindent 2 }}
  {{- include "jetrouter.natsEnv" (dict "root" .root "role" "bridge") | nindent 2 }}
ports:
  - {name: bridge, containerPort: {{ include "jetrouter.port" (list .root.Values.bridge.config "system-port" 9090) }}}
livenessProbe: {httpGet: {path: /live, port: bridge}}
securityContext:
  {{- include "jetrouter.containerSecurity" .root | nindent 2 }}
  runAsNonRoot: true
  {{- if not .root.Values.platformUser }}
  runAsUser: 65532
  {{- end }}
resources:
  {{- toYaml .root.Values.bridge.resources | nindent 2 }}
{{- with include "jetrouter.natsMounts" (dict "root" .root "role" "bridge") }}
volumeMounts:
  {{- . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* What a bridge shares with the frontends: of their pools the first, and how streams are made, for either may
     come first. */}}
{{- define "jetrouter.bridgePool" -}}
namespace: {{ include "jetrouter.option" (list . "namespace" "dynamo") | quote }}
component: {{ splitList "," (include "jetrouter.option" (list . "component" "backend")) | first | quote }}
{{- range list "stream-max-bytes" "lease-ttl-secs" "router-host-cache-hit-weight" "router-disk-cache-hit-weight" }}
{{- if hasKey $.Values.config . }}
{{ . }}: {{ include "jetrouter.value" (get $.Values.config .) | quote }}
{{- end }}
{{- end }}
{{- end -}}

{{/* A Pod's spec that runs one command of ours against the frontends:
     dict "root" $ "name" "reset" "args" […] "env" {variable: value} "configMap" NAME (mounted at /etc/jetrouter/files) */}}
{{- define "jetrouter.ctlPod" -}}
restartPolicy: Never
serviceAccountName: {{ include "jetrouter.serviceAccountName" .root }}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  {{- include "jetrouter.podSecurity" .root | nindent 2 }}
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
containers:
  - name: {{ .name }}
    image: {{ include "jetrouter.image" .root | quote }}
    imagePullPolicy: {{ .root.Values.image.pullPolicy }}
    args:
      {{- toYaml .args | nindent 6 }}
    env:
      {{- range $name, $value := .env }}
      - {name: {{ $name }}, value: {{ $value | quote }}}
      {{- end }}
      {{- if .configMap }}
      {{- else }}
      - {name: JETROUTER_ADMIN_TOKEN_FILE, value: /etc/jetrouter/admin/token}
      {{- end }}
      {{- if .root.Values.tls.secretName }}
      - {name: JETROUTER_HTTPS_CA, value: /etc/jetrouter/tls/ca.crt}
      {{- end }}
    securityContext:
      {{- include "jetrouter.containerSecurity" .root | nindent 6 }}
    resources:
      requests: {cpu: 50m, memory: 64Mi}
      limits: {memory: 512Mi}
    volumeMounts:
      {{- if .configMap }}
      - {name: files, mountPath: /etc/jetrouter/files, readOnly: true}
      {{- else }}
      - {name: admin, mountPath: /etc/jetrouter/admin, readOnly: true}
      {{- end }}
      {{- if .root.Values.tls.secretName }}
      - {name: tls, mountPath: /etc/jetrouter/tls, readOnly: true}
      {{- end }}
volumes:
  {{- if .configMap }}
  - name: files
    configMap: {name: {{ .configMap }}}
  {{- else }}
  - name: admin
    secret:
      secretName: {{ include "jetrouter.adminSecret" .root }}
      items: [{key: {{ .root.Values.admin.token.key }}, path: token}]
  {{- end }}
  {{- if .root.Values.tls.secretName }}
  # The certificate must be for the names of both Services, and ca.crt who vouches for it.
  - name: tls
    secret:
      secretName: {{ .root.Values.tls.secretName }}
      items: [{key: ca.crt, path: ca.crt}]
  {{- end }}
{{- end -}}

# Completion of jetrouter for bash. Made from src/app/config_table.h by `./dev docs`; do not edit.

_jetrouter_options() {
    case $1 in
    frontend)
        echo '--help
            --http-host
            --http-port
            --http-reuse-port --no-http-reuse-port
            --http-threads
            --http-body-limit-mb
            --http-bodies-max-mb
            --http-connections-max
            --http-header-timeout-secs
            --http-body-timeout-secs
            --http-idle-timeout-secs
            --request-timeout-secs
            --migration-limit
            --retry-statuses
            --overload-status
            --model-alias
            --worker-failures
            --worker-aside-secs
            --forward-token-ids --no-forward-token-ids
            --tokenizer-cache-mb
            --tokenizer-timeout-secs
            --tokenizer-prefixes --no-tokenizer-prefixes
            --drain-delay-secs
            --drain-timeout-secs
            --ready-timeout-secs
            --admin-port
            --admin-token-file
            --tls-cert-path
            --tls-key-path
            --worker-connect-timeout-secs
            --worker-first-byte-timeout-secs
            --https-ca
            --https-insecure --no-https-insecure
            --worker
            --router-mode
            --encoder-cuda-to-cpu-ratio
            --router-kv-overlap-score-weight
            --router-kv-overlap-score-credit
            --router-kv-overlap-score-credit-decay
            --router-prefill-load-scale
            --router-decode-active-request-weight
            --router-host-cache-hit-weight
            --router-disk-cache-hit-weight
            --router-temperature
            --router-cost-model
            --router-preset
            --router-tie-break
            --router-kv-events --no-router-kv-events
            --router-durable-kv-events --no-router-durable-kv-events
            --router-replica-sync --no-router-replica-sync
            --router-track-active-blocks --no-router-track-active-blocks
            --router-assume-kv-reuse --no-router-assume-kv-reuse
            --router-track-output-blocks --no-router-track-output-blocks
            --router-track-prefill-tokens --no-router-track-prefill-tokens
            --router-event-threads
            --kv-cache-block-size
            --load-aware --no-load-aware
            --agentic --no-agentic
            --router-min-initial-workers
            --router-ttl-secs
            --router-max-tree-size
            --router-prune-target-ratio
            --router-predicted-ttl-secs
            --router-session-affinity-ttl-secs
            --enable-cache-control --no-enable-cache-control
            --router-queue-threshold
            --router-queue-policy
            --router-policy-config
            --active-decode-blocks-threshold
            --active-prefill-tokens-threshold
            --active-prefill-tokens-threshold-frac
            --active-request-expiry-secs
            --namespace
            --component
            --discover-pools --no-discover-pools
            --nats-server
            --nats-tls-ca
            --nats-tls-cert
            --nats-tls-key
            --nats-tls-hostname
            --nats-replicas
            --embedded-nats
            --replica-id
            --lease-ttl-secs
            --stale-worker-secs
            --stream-max-bytes
            --router-snapshot-threshold
            --snapshot-max-age-secs
            --snapshot-compat
            --router-reset-states
            --index-max-entries
            --huge-pages --no-huge-pages
            --log-level
            --log-format
            --access-log
            --access-log-sample
            --access-log-file
            --slow-request-ms
            --otel-export-enabled --no-otel-export-enabled
            --otel-exporter-otlp-endpoint
            --otel-exporter-otlp-traces-endpoint
            --otel-exporter-otlp-timeout
            --otel-service-name
            --otel-resource-attributes
            --otel-traces-sampler
            --otel-traces-sampler-arg
            --otel-bsp-schedule-delay
            --otel-bsp-max-queue-size
            --otel-bsp-max-export-batch-size
            --dump-config-to
            --check-config --no-check-config
            --metrics-prefix
            --store-kv
            --discovery-backend
            --request-plane
            --event-plane
            --connector
            --dyn-tool-call-parser
            --dyn-reasoning-parser
            --custom-jinja-template
            --endpoint-types
            --interactive --no-interactive
            --model-name
            --model-path
            --namespace-prefix
            --enforce-disagg --no-enforce-disagg
            --decode-fallback --no-decode-fallback
            --admission-control
            --kserve-grpc-server --no-kserve-grpc-server
            --grpc-metrics-port
            --enable-anthropic-api --no-enable-anthropic-api
            --strip-anthropic-preamble --no-strip-anthropic-preamble
            --enable-streaming-tool-dispatch --no-enable-streaming-tool-dispatch
            --enable-streaming-reasoning-dispatch --no-enable-streaming-reasoning-dispatch
            --dyn-chat-processor
            --dyn-debug-perf --no-dyn-debug-perf
            --dyn-preprocess-workers
            --router-prefill-load-model
            --use-remote-indexer --no-use-remote-indexer
            --serve-indexer --no-serve-indexer
            --shared-cache-type
            --shared-cache-multiplier
            --router-tracking-hash
            --etcd-endpoints'
        ;;
    router)
        echo '--help
            --http-host
            --http-port
            --http-reuse-port --no-http-reuse-port
            --http-threads
            --http-body-limit-mb
            --http-bodies-max-mb
            --http-connections-max
            --http-header-timeout-secs
            --http-body-timeout-secs
            --http-idle-timeout-secs
            --request-timeout-secs
            --migration-limit
            --retry-statuses
            --overload-status
            --model-alias
            --worker-failures
            --worker-aside-secs
            --forward-token-ids --no-forward-token-ids
            --tokenizer-cache-mb
            --tokenizer-timeout-secs
            --tokenizer-prefixes --no-tokenizer-prefixes
            --drain-delay-secs
            --drain-timeout-secs
            --ready-timeout-secs
            --admin-port
            --admin-token-file
            --tls-cert-path
            --tls-key-path
            --worker-connect-timeout-secs
            --worker-first-byte-timeout-secs
            --https-ca
            --https-insecure --no-https-insecure
            --router-kv-overlap-score-weight
            --router-kv-overlap-score-credit
            --router-kv-overlap-score-credit-decay
            --router-prefill-load-scale
            --router-decode-active-request-weight
            --router-host-cache-hit-weight
            --router-disk-cache-hit-weight
            --router-temperature
            --router-cost-model
            --router-preset
            --router-tie-break
            --router-kv-events --no-router-kv-events
            --router-durable-kv-events --no-router-durable-kv-events
            --router-replica-sync --no-router-replica-sync
            --router-track-active-blocks --no-router-track-active-blocks
            --router-assume-kv-reuse --no-router-assume-kv-reuse
            --router-track-output-blocks --no-router-track-output-blocks
            --router-track-prefill-tokens --no-router-track-prefill-tokens
            --router-event-threads
            --load-aware --no-load-aware
            --agentic --no-agentic
            --router-min-initial-workers
            --endpoint
            --router-block-size
            --router-ttl-secs
            --router-max-tree-size
            --router-prune-target-ratio
            --router-predicted-ttl-secs
            --router-session-affinity-ttl-secs
            --router-queue-threshold
            --router-queue-policy
            --router-policy-config
            --active-decode-blocks-threshold
            --active-prefill-tokens-threshold
            --active-prefill-tokens-threshold-frac
            --active-request-expiry-secs
            --namespace
            --nats-server
            --nats-tls-ca
            --nats-tls-cert
            --nats-tls-key
            --nats-tls-hostname
            --nats-replicas
            --replica-id
            --lease-ttl-secs
            --stale-worker-secs
            --stream-max-bytes
            --router-snapshot-threshold
            --snapshot-max-age-secs
            --snapshot-compat
            --router-reset-states
            --index-max-entries
            --huge-pages --no-huge-pages
            --log-level
            --log-format
            --access-log
            --access-log-sample
            --access-log-file
            --slow-request-ms
            --otel-export-enabled --no-otel-export-enabled
            --otel-exporter-otlp-endpoint
            --otel-exporter-otlp-traces-endpoint
            --otel-exporter-otlp-timeout
            --otel-service-name
            --otel-resource-attributes
            --otel-traces-sampler
            --otel-traces-sampler-arg
            --otel-bsp-schedule-delay
            --otel-bsp-max-queue-size
            --otel-bsp-max-export-batch-size
            --dump-config-to
            --check-config --no-check-config
            --store-kv
            --discovery-backend
            --request-plane
            --event-plane
            --connector
            --dyn-tool-call-parser
            --dyn-reasoning-parser
            --custom-jinja-template
            --endpoint-types
            --router-prefill-load-model
            --use-remote-indexer --no-use-remote-indexer
            --serve-indexer --no-serve-indexer
            --shared-cache-type
            --shared-cache-multiplier
            --router-tracking-hash
            --etcd-endpoints'
        ;;
    bridge)
        echo '--help
            --https-ca
            --https-insecure --no-https-insecure
            --router-host-cache-hit-weight
            --router-disk-cache-hit-weight
            --namespace
            --component
            --nats-server
            --nats-tls-ca
            --nats-tls-cert
            --nats-tls-key
            --nats-tls-hostname
            --nats-replicas
            --worker-id
            --lease-ttl-secs
            --stream-max-bytes
            --event-format
            --engine-url
            --kv-events-endpoint
            --kv-events-replay-endpoint
            --kv-events-bind --no-kv-events-bind
            --kv-events-report-mode
            --data-parallel-size
            --data-parallel-rank
            --device
            --engines-dir
            --system-port
            --system-host
            --block-size
            --max-num-seqs
            --max-num-batched-tokens
            --log-level
            --log-format
            --dump-config-to
            --check-config --no-check-config
            --store-kv
            --discovery-backend
            --request-plane
            --event-plane
            --connector
            --dyn-tool-call-parser
            --dyn-reasoning-parser
            --custom-jinja-template
            --endpoint-types
            --durable-kv-events --no-durable-kv-events
            --etcd-endpoints'
        ;;
    mocker)
        echo '--help
            --http-host
            --http-port
            --drain-timeout-secs
            --router-host-cache-hit-weight
            --router-disk-cache-hit-weight
            --namespace
            --component
            --nats-server
            --nats-tls-ca
            --nats-tls-cert
            --nats-tls-key
            --nats-tls-hostname
            --nats-replicas
            --worker-id
            --lease-ttl-secs
            --stream-max-bytes
            --event-format
            --data-parallel-size
            --device
            --model-name
            --num-workers
            --block-size
            --num-gpu-blocks-override
            --max-num-seqs
            --max-num-batched-tokens
            --max-model-len
            --speedup-ratio
            --step-base-ms
            --step-prefill-us
            --step-attention-ps
            --step-decode-us
            --step-kv-ns
            --startup-delay-secs
            --lora-modules
            --fault
            --event-flavour
            --zmq-kv-events-ports
            --zmq-replay-ports
            --bridge --no-bridge
            --log-level
            --log-format
            --dump-config-to
            --check-config --no-check-config
            --store-kv
            --discovery-backend
            --request-plane
            --event-plane
            --connector
            --dyn-tool-call-parser
            --dyn-reasoning-parser
            --custom-jinja-template
            --endpoint-types
            --durable-kv-events --no-durable-kv-events
            --etcd-endpoints'
        ;;
    replay)
        echo '--help
            --https-ca
            --https-insecure --no-https-insecure
            --trace
            --limit
            --speed
            --model
            --label
            --compare
            --url
            --json --no-json
            --log-level
            --log-format
            --dump-config-to
            --check-config --no-check-config'
        ;;
    ctl)
        echo '--help
            --admin-token-file
            --https-ca
            --https-insecure --no-https-insecure
            --namespace
            --component
            --nats-server
            --nats-tls-ca
            --nats-tls-cert
            --nats-tls-key
            --nats-tls-hostname
            --url
            --json --no-json
            --wait --no-wait
            --reset-token
            --seq
            --log-level
            --log-format
            --dump-config-to
            --check-config --no-check-config'
        ;;
    esac
}

_jetrouter_values() {
    case "$1 $2" in
    'frontend --http-host') COMPREPLY=() ;;
    'frontend --http-port') COMPREPLY=() ;;
    'frontend --http-threads') COMPREPLY=() ;;
    'frontend --http-body-limit-mb') COMPREPLY=() ;;
    'frontend --http-bodies-max-mb') COMPREPLY=() ;;
    'frontend --http-connections-max') COMPREPLY=() ;;
    'frontend --http-header-timeout-secs') COMPREPLY=() ;;
    'frontend --http-body-timeout-secs') COMPREPLY=() ;;
    'frontend --http-idle-timeout-secs') COMPREPLY=() ;;
    'frontend --request-timeout-secs') COMPREPLY=() ;;
    'frontend --migration-limit') COMPREPLY=() ;;
    'frontend --retry-statuses') COMPREPLY=() ;;
    'frontend --overload-status') COMPREPLY=() ;;
    'frontend --model-alias') COMPREPLY=() ;;
    'frontend --worker-failures') COMPREPLY=() ;;
    'frontend --worker-aside-secs') COMPREPLY=() ;;
    'frontend --tokenizer-cache-mb') COMPREPLY=() ;;
    'frontend --tokenizer-timeout-secs') COMPREPLY=() ;;
    'frontend --drain-delay-secs') COMPREPLY=() ;;
    'frontend --drain-timeout-secs') COMPREPLY=() ;;
    'frontend --ready-timeout-secs') COMPREPLY=() ;;
    'frontend --admin-port') COMPREPLY=() ;;
    'frontend --admin-token-file') mapfile -t COMPREPLY < <(compgen -f -- "$3") ;;
    'frontend --tls-cert-path') mapfile -t COMPREPLY < <(compgen -f -- "$3") ;;
    'frontend --tls-key-path') mapfile -t COMPREPLY < <(compgen -f -- "$3") ;;
    'frontend --worker-connect-timeout-secs') COMPREPLY=() ;;
    'frontend --worker-first-byte-timeout-secs') COMPREPLY=() ;;
    'frontend --https-ca') mapfile -t COMPREPLY < <(compgen -f -- "$3") ;;
    'frontend --worker') COMPREPLY=() ;;
    'frontend --router-mode') mapfile -t COMPREPLY < <(compgen -W 'round-robin random kv direct power-of-two least-loaded device-aware-weighted' -- "$3") ;;
    'frontend --encoder-cuda-to-cpu-ratio') COMPREPLY=() ;;
    'frontend --router-kv-overlap-score-weight') COMPREPLY=() ;;
    'frontend --router-kv-overlap-score-credit') COMPREPLY=() ;;
    'frontend --router-kv-overlap-score-credit-decay') COMPREPLY=() ;;
    'frontend --router-prefill-load-scale') COMPREPLY=() ;;
    'frontend --router-decode-active-request-weight') COMPREPLY=() ;;
    'frontend --router-host-cache-hit-weight') COMPREPLY=() ;;
    'frontend --router-disk-cache-hit-weight') COMPREPLY=() ;;
    'frontend --router-temperature') COMPREPLY=() ;;
    'frontend --router-cost-model') mapfile -t COMPREPLY < <(compgen -W 'seconds dynamo' -- "$3") ;;
    'frontend --router-preset') mapfile -t COMPREPLY < <(compgen -W 'none dynamo dynamo-tuned' -- "$3") ;;
    'frontend --router-tie-break') mapfile -t COMPREPLY < <(compgen -W 'request-hash tree-size random' -- "$3") ;;
    'frontend --router-event-threads') COMPREPLY=() ;;
    'frontend --kv-cache-block-size') COMPREPLY=() ;;
    'frontend --router-min-initial-workers') COMPREPLY=() ;;
    'frontend --router-ttl-secs') COMPREPLY=() ;;
    'frontend --router-max-tree-size') COMPREPLY=() ;;
    'frontend --router-prune-target-ratio') COMPREPLY=() ;;
    'frontend --router-predicted-ttl-secs') COMPREPLY=() ;;
    'frontend --router-session-affinity-ttl-secs') COMPREPLY=() ;;
    'frontend --router-queue-threshold') COMPREPLY=() ;;
    'frontend --router-queue-policy') mapfile -t COMPREPLY < <(compgen -W 'fcfs wspt lcfs' -- "$3") ;;
    'frontend --router-policy-config') mapfile -t COMPREPLY < <(compgen -f -- "$3") ;;
    'frontend --active-decode-blocks-threshold') COMPREPLY=() ;;
    'frontend --active-prefill-tokens-threshold') COMPREPLY=() ;;
    'frontend --active-prefill-tokens-threshold-frac') COMPREPLY=() ;;
    'frontend --active-request-expiry-secs') COMPREPLY=() ;;
    'frontend --namespace') COMPREPLY=() ;;
    'frontend --component') COMPREPLY=() ;;
    'frontend --nats-server') COMPREPLY=() ;;
    'frontend --nats-tls-ca') mapfile -t COMPREPLY < <(compgen -f -- "$3") ;;
    'frontend --nats-tls-cert') mapfile -t COMPREPLY < <(compgen -f -- "$3") ;;
    'frontend --nats-tls-key') mapfile -t COMPREPLY < <(compgen -f -- "$3") ;;
    'frontend --nats-tls-hostname') COMPREPLY=() ;;
    'frontend --nats-replicas') COMPREPLY=() ;;
    'frontend --embedded-nats') mapfile -t COMPREPLY < <(compgen -d -- "$3") ;;
    'frontend --replica-id') COMPREPLY=() ;;
    'frontend --lease-ttl-secs') COMPREPLY=() ;;
    'frontend --stale-worker-secs') COMPREPLY=() ;;
    'frontend --stream-max-bytes') COMPREPLY=() ;;
    'frontend --router-snapshot-threshold') COMPREPLY=() ;;
    'frontend --snapshot-max-age-secs') COMPREPLY=() ;;
    'frontend --snapshot-compat') mapfile -t COMPREPLY < <(compgen -W 'none dynamo-1.0' -- "$3") ;;
    'frontend --router-reset-states') COMPREPLY=() ;;
    'frontend --index-max-entries') COMPREPLY=() ;;
    'frontend --log-level') mapfile -t COMPREPLY < <(compgen -W 'debug info warn error off' -- "$3") ;;
    'frontend --log-format') mapfile -t COMPREPLY < <(compgen -W 'text json' -- "$3") ;;
    'frontend --access-log') mapfile -t COMPREPLY < <(compgen -W 'off sampled full' -- "$3") ;;
    'frontend --access-log-sample') COMPREPLY=() ;;
    'frontend --access-log-file') mapfile -t COMPREPLY < <(compgen -f -- "$3") ;;
    'frontend --slow-request-ms') COMPREPLY=() ;;
    'frontend --otel-exporter-otlp-endpoint') COMPREPLY=() ;;
    'frontend --otel-exporter-otlp-traces-endpoint') COMPREPLY=() ;;
    'frontend --otel-exporter-otlp-timeout') COMPREPLY=() ;;
    'frontend --otel-service-name') COMPREPLY=() ;;
    'frontend --otel-resource-attributes') COMPREPLY=() ;;
    'frontend --otel-traces-sampler') mapfile -t COMPREPLY < <(compgen -W 'parentbased-traceidratio parentbased-always-on parentbased-always-off traceidratio always-on always-off' -- "$3") ;;
    'frontend --otel-traces-sampler-arg') COMPREPLY=() ;;
    'frontend --otel-bsp-schedule-delay') COMPREPLY=() ;;
    'frontend --otel-bsp-max-queue-size') COMPREPLY=() ;;
    'frontend --otel-bsp-max-export-batch-size') COMPREPLY=() ;;
    'frontend --dump-config-to') mapfile -t COMPREPLY < <(compgen -f -- "$3") ;;
    'frontend --metrics-prefix') COMPREPLY=() ;;
    'frontend --store-kv') mapfile -t COMPREPLY < <(compgen -W 'etcd file mem kubernetes' -- "$3") ;;
    'frontend --discovery-backend') mapfile -t COMPREPLY < <(compgen -W 'etcd kubernetes file mem' -- "$3") ;;
    'frontend --request-plane') mapfile -t COMPREPLY < <(compgen -W 'tcp nats http' -- "$3") ;;
    'frontend --event-plane') mapfile -t COMPREPLY < <(compgen -W 'nats zmq auto' -- "$3") ;;
    'frontend --connector') COMPREPLY=() ;;
    'frontend --dyn-tool-call-parser') COMPREPLY=() ;;
    'frontend --dyn-reasoning-parser') COMPREPLY=() ;;
    'frontend --custom-jinja-template') mapfile -t COMPREPLY < <(compgen -f -- "$3") ;;
    'frontend --endpoint-types') COMPREPLY=() ;;
    'frontend --model-name') COMPREPLY=() ;;
    'frontend --model-path') COMPREPLY=() ;;
    'frontend --namespace-prefix') COMPREPLY=() ;;
    'frontend --admission-control') mapfile -t COMPREPLY < <(compgen -W 'token-capacity none' -- "$3") ;;
    'frontend --grpc-metrics-port') COMPREPLY=() ;;
    'frontend --dyn-chat-processor') mapfile -t COMPREPLY < <(compgen -W 'dynamo vllm sglang' -- "$3") ;;
    'frontend --dyn-preprocess-workers') COMPREPLY=() ;;
    'frontend --router-prefill-load-model') mapfile -t COMPREPLY < <(compgen -W 'none aic' -- "$3") ;;
    'frontend --shared-cache-type') mapfile -t COMPREPLY < <(compgen -W 'none hicache' -- "$3") ;;
    'frontend --shared-cache-multiplier') COMPREPLY=() ;;
    'frontend --router-tracking-hash') mapfile -t COMPREPLY < <(compgen -W 'public-xxh3-v1 keyed-xxh3-v1' -- "$3") ;;
    'frontend --etcd-endpoints') COMPREPLY=() ;;
    'router --http-host') COMPREPLY=() ;;
    'router --http-port') COMPREPLY=() ;;
    'router --http-threads') COMPREPLY=() ;;
    'router --http-body-limit-mb') COMPREPLY=() ;;
    'router --http-bodies-max-mb') COMPREPLY=() ;;
    'router --http-connections-max') COMPREPLY=() ;;
    'router --http-header-timeout-secs') COMPREPLY=() ;;
    'router --http-body-timeout-secs') COMPREPLY=() ;;
    'router --http-idle-timeout-secs') COMPREPLY=() ;;
    'router --request-timeout-secs') COMPREPLY=() ;;
    'router --migration-limit') COMPREPLY=() ;;
    'router --retry-statuses') COMPREPLY=() ;;
    'router --overload-status') COMPREPLY=() ;;
    'router --model-alias') COMPREPLY=() ;;
    'router --worker-failures') COMPREPLY=() ;;
    'router --worker-aside-secs') COMPREPLY=() ;;
    'router --tokenizer-cache-mb') COMPREPLY=() ;;
    'router --tokenizer-timeout-secs') COMPREPLY=() ;;
    'router --drain-delay-secs') COMPREPLY=() ;;
    'router --drain-timeout-secs') COMPREPLY=() ;;
    'router --ready-timeout-secs') COMPREPLY=() ;;
    'router --admin-port') COMPREPLY=() ;;
    'router --admin-token-file') mapfile -t COMPREPLY < <(compgen -f -- "$3") ;;
    'router --tls-cert-path') mapfile -t COMPREPLY < <(compgen -f -- "$3") ;;
    'router --tls-key-path') mapfile -t COMPREPLY < <(compgen -f -- "$3") ;;
    'router --worker-connect-timeout-secs') COMPREPLY=() ;;
    'router --worker-first-byte-timeout-secs') COMPREPLY=() ;;
    'router --https-ca') mapfile -t COMPREPLY < <(compgen -f -- "$3") ;;
    'router --router-kv-overlap-score-weight') COMPREPLY=() ;;
    'router --router-kv-overlap-score-credit') COMPREPLY=() ;;
    'router --router-kv-overlap-score-credit-decay') COMPREPLY=() ;;
    'router --router-prefill-load-scale') COMPREPLY=() ;;
    'router --router-decode-active-request-weight') COMPREPLY=() ;;
    'router --router-host-cache-hit-weight') COMPREPLY=() ;;
    'router --router-disk-cache-hit-weight') COMPREPLY=() ;;
    'router --router-temperature') COMPREPLY=() ;;
    'router --router-cost-model') mapfile -t COMPREPLY < <(compgen -W 'seconds dynamo' -- "$3") ;;
    'router --router-preset') mapfile -t COMPREPLY < <(compgen -W 'none dynamo dynamo-tuned' -- "$3") ;;
    'router --router-tie-break') mapfile -t COMPREPLY < <(compgen -W 'request-hash tree-size random' -- "$3") ;;
    'router --router-event-threads') COMPREPLY=() ;;
    'router --router-min-initial-workers') COMPREPLY=() ;;
    'router --endpoint') COMPREPLY=() ;;
    'router --router-block-size') COMPREPLY=() ;;
    'router --router-ttl-secs') COMPREPLY=() ;;
    'router --router-max-tree-size') COMPREPLY=() ;;
    'router --router-prune-target-ratio') COMPREPLY=() ;;
    'router --router-predicted-ttl-secs') COMPREPLY=() ;;
    'router --router-session-affinity-ttl-secs') COMPREPLY=() ;;
    'router --router-queue-threshold') COMPREPLY=() ;;
    'router --router-queue-policy') mapfile -t COMPREPLY < <(compgen -W 'fcfs wspt lcfs' -- "$3") ;;
    'router --router-policy-config') mapfile -t COMPREPLY < <(compgen -f -- "$3") ;;
    'router --active-decode-blocks-threshold') COMPREPLY=() ;;
    'router --active-prefill-tokens-threshold') COMPREPLY=() ;;
    'router --active-prefill-tokens-threshold-frac') COMPREPLY=() ;;
    'router --active-request-expiry-secs') COMPREPLY=() ;;
    'router --namespace') COMPREPLY=() ;;
    'router --nats-server') COMPREPLY=() ;;
    'router --nats-tls-ca') mapfile -t COMPREPLY < <(compgen -f -- "$3") ;;
    'router --nats-tls-cert') mapfile -t COMPREPLY < <(compgen -f -- "$3") ;;
    'router --nats-tls-key') mapfile -t COMPREPLY < <(compgen -f -- "$3") ;;
    'router --nats-tls-hostname') COMPREPLY=() ;;
    'router --nats-replicas') COMPREPLY=() ;;
    'router --replica-id') COMPREPLY=() ;;
    'router --lease-ttl-secs') COMPREPLY=() ;;
    'router --stale-worker-secs') COMPREPLY=() ;;
    'router --stream-max-bytes') COMPREPLY=() ;;
    'router --router-snapshot-threshold') COMPREPLY=() ;;
    'router --snapshot-max-age-secs') COMPREPLY=() ;;
    'router --snapshot-compat') mapfile -t COMPREPLY < <(compgen -W 'none dynamo-1.0' -- "$3") ;;
    'router --router-reset-states') COMPREPLY=() ;;
    'router --index-max-entries') COMPREPLY=() ;;
    'router --log-level') mapfile -t COMPREPLY < <(compgen -W 'debug info warn error off' -- "$3") ;;
    'router --log-format') mapfile -t COMPREPLY < <(compgen -W 'text json' -- "$3") ;;
    'router --access-log') mapfile -t COMPREPLY < <(compgen -W 'off sampled full' -- "$3") ;;
    'router --access-log-sample') COMPREPLY=() ;;
    'router --access-log-file') mapfile -t COMPREPLY < <(compgen -f -- "$3") ;;
    'router --slow-request-ms') COMPREPLY=() ;;
    'router --otel-exporter-otlp-endpoint') COMPREPLY=() ;;
    'router --otel-exporter-otlp-traces-endpoint') COMPREPLY=() ;;
    'router --otel-exporter-otlp-timeout') COMPREPLY=() ;;
    'router --otel-service-name') COMPREPLY=() ;;
    'router --otel-resource-attributes') COMPREPLY=() ;;
    'router --otel-traces-sampler') mapfile -t COMPREPLY < <(compgen -W 'parentbased-traceidratio parentbased-always-on parentbased-always-off traceidratio always-on always-off' -- "$3") ;;
    'router --otel-traces-sampler-arg') COMPREPLY=() ;;
    'router --otel-bsp-schedule-delay') COMPREPLY=() ;;
    'router --otel-bsp-max-queue-size') COMPREPLY=() ;;
    'router --otel-bsp-max-export-batch-size') COMPREPLY=() ;;
    'router --dump-config-to') mapfile -t COMPREPLY < <(compgen -f -- "$3") ;;
    'router --store-kv') mapfile -t COMPREPLY < <(compgen -W 'etcd file mem kubernetes' -- "$3") ;;
    'router --discovery-backend') mapfile -t COMPREPLY < <(compgen -W 'etcd kubernetes file mem' -- "$3") ;;
    'router --request-plane') mapfile -t COMPREPLY < <(compgen -W 'tcp nats http' -- "$3") ;;
    'router --event-plane') mapfile -t COMPREPLY < <(compgen -W 'nats zmq auto' -- "$3") ;;
    'router --connector') COMPREPLY=() ;;
    'router --dyn-tool-call-parser') COMPREPLY=() ;;
    'router --dyn-reasoning-parser') COMPREPLY=() ;;
    'router --custom-jinja-template') mapfile -t COMPREPLY < <(compgen -f -- "$3") ;;
    'router --endpoint-types') COMPREPLY=() ;;
    'router --router-prefill-load-model') mapfile -t COMPREPLY < <(compgen -W 'none aic' -- "$3") ;;
    'router --shared-cache-type') mapfile -t COMPREPLY < <(compgen -W 'none hicache' -- "$3") ;;
    'router --shared-cache-multiplier') COMPREPLY=() ;;
    'router --router-tracking-hash') mapfile -t COMPREPLY < <(compgen -W 'public-xxh3-v1 keyed-xxh3-v1' -- "$3") ;;
    'router --etcd-endpoints') COMPREPLY=() ;;
    'bridge --https-ca') mapfile -t COMPREPLY < <(compgen -f -- "$3") ;;
    'bridge --router-host-cache-hit-weight') COMPREPLY=() ;;
    'bridge --router-disk-cache-hit-weight') COMPREPLY=() ;;
    'bridge --namespace') COMPREPLY=() ;;
    'bridge --component') COMPREPLY=() ;;
    'bridge --nats-server') COMPREPLY=() ;;
    'bridge --nats-tls-ca') mapfile -t COMPREPLY < <(compgen -f -- "$3") ;;
    'bridge --nats-tls-cert') mapfile -t COMPREPLY < <(compgen -f -- "$3") ;;
    'bridge --nats-tls-key') mapfile -t COMPREPLY < <(compgen -f -- "$3") ;;
    'bridge --nats-tls-hostname') COMPREPLY=() ;;
    'bridge --nats-replicas') COMPREPLY=() ;;
    'bridge --worker-id') COMPREPLY=() ;;
    'bridge --lease-ttl-secs') COMPREPLY=() ;;
    'bridge --stream-max-bytes') COMPREPLY=() ;;
    'bridge --event-format') mapfile -t COMPREPLY < <(compgen -W 'batch json' -- "$3") ;;
    'bridge --engine-url') COMPREPLY=() ;;
    'bridge --kv-events-endpoint') COMPREPLY=() ;;
    'bridge --kv-events-replay-endpoint') COMPREPLY=() ;;
    'bridge --kv-events-report-mode') mapfile -t COMPREPLY < <(compgen -W 'new full' -- "$3") ;;
    'bridge --data-parallel-size') COMPREPLY=() ;;
    'bridge --data-parallel-rank') COMPREPLY=() ;;
    'bridge --device') mapfile -t COMPREPLY < <(compgen -W 'gpu cpu' -- "$3") ;;
    'bridge --engines-dir') mapfile -t COMPREPLY < <(compgen -d -- "$3") ;;
    'bridge --system-port') COMPREPLY=() ;;
    'bridge --system-host') COMPREPLY=() ;;
    'bridge --block-size') COMPREPLY=() ;;
    'bridge --max-num-seqs') COMPREPLY=() ;;
    'bridge --max-num-batched-tokens') COMPREPLY=() ;;
    'bridge --log-level') mapfile -t COMPREPLY < <(compgen -W 'debug info warn error off' -- "$3") ;;
    'bridge --log-format') mapfile -t COMPREPLY < <(compgen -W 'text json' -- "$3") ;;
    'bridge --dump-config-to') mapfile -t COMPREPLY < <(compgen -f -- "$3") ;;
    'bridge --store-kv') mapfile -t COMPREPLY < <(compgen -W 'etcd file mem kubernetes' -- "$3") ;;
    'bridge --discovery-backend') mapfile -t COMPREPLY < <(compgen -W 'etcd kubernetes file mem' -- "$3") ;;
    'bridge --request-plane') mapfile -t COMPREPLY < <(compgen -W 'tcp nats http' -- "$3") ;;
    'bridge --event-plane') mapfile -t COMPREPLY < <(compgen -W 'nats zmq auto' -- "$3") ;;
    'bridge --connector') COMPREPLY=() ;;
    'bridge --dyn-tool-call-parser') COMPREPLY=() ;;
    'bridge --dyn-reasoning-parser') COMPREPLY=() ;;
    'bridge --custom-jinja-template') mapfile -t COMPREPLY < <(compgen -f -- "$3") ;;
    'bridge --endpoint-types') COMPREPLY=() ;;
    'bridge --etcd-endpoints') COMPREPLY=() ;;
    'mocker --http-host') COMPREPLY=() ;;
    'mocker --http-port') COMPREPLY=() ;;
    'mocker --drain-timeout-secs') COMPREPLY=() ;;
    'mocker --router-host-cache-hit-weight') COMPREPLY=() ;;
    'mocker --router-disk-cache-hit-weight') COMPREPLY=() ;;
    'mocker --namespace') COMPREPLY=() ;;
    'mocker --component') COMPREPLY=() ;;
    'mocker --nats-server') COMPREPLY=() ;;
    'mocker --nats-tls-ca') mapfile -t COMPREPLY < <(compgen -f -- "$3") ;;
    'mocker --nats-tls-cert') mapfile -t COMPREPLY < <(compgen -f -- "$3") ;;
    'mocker --nats-tls-key') mapfile -t COMPREPLY < <(compgen -f -- "$3") ;;
    'mocker --nats-tls-hostname') COMPREPLY=() ;;
    'mocker --nats-replicas') COMPREPLY=() ;;
    'mocker --worker-id') COMPREPLY=() ;;
    'mocker --lease-ttl-secs') COMPREPLY=() ;;
    'mocker --stream-max-bytes') COMPREPLY=() ;;
    'mocker --event-format') mapfile -t COMPREPLY < <(compgen -W 'batch json' -- "$3") ;;
    'mocker --data-parallel-size') COMPREPLY=() ;;
    'mocker --device') mapfile -t COMPREPLY < <(compgen -W 'gpu cpu' -- "$3") ;;
    'mocker --model-name') COMPREPLY=() ;;
    'mocker --num-workers') COMPREPLY=() ;;
    'mocker --block-size') COMPREPLY=() ;;
    'mocker --num-gpu-blocks-override') COMPREPLY=() ;;
    'mocker --max-num-seqs') COMPREPLY=() ;;
    'mocker --max-num-batched-tokens') COMPREPLY=() ;;
    'mocker --max-model-len') COMPREPLY=() ;;
    'mocker --speedup-ratio') COMPREPLY=() ;;
    'mocker --step-base-ms') COMPREPLY=() ;;
    'mocker --step-prefill-us') COMPREPLY=() ;;
    'mocker --step-attention-ps') COMPREPLY=() ;;
    'mocker --step-decode-us') COMPREPLY=() ;;
    'mocker --step-kv-ns') COMPREPLY=() ;;
    'mocker --startup-delay-secs') COMPREPLY=() ;;
    'mocker --lora-modules') COMPREPLY=() ;;
    'mocker --fault') COMPREPLY=() ;;
    'mocker --event-flavour') mapfile -t COMPREPLY < <(compgen -W 'vllm vllm-0.15 sglang' -- "$3") ;;
    'mocker --zmq-kv-events-ports') COMPREPLY=() ;;
    'mocker --zmq-replay-ports') COMPREPLY=() ;;
    'mocker --log-level') mapfile -t COMPREPLY < <(compgen -W 'debug info warn error off' -- "$3") ;;
    'mocker --log-format') mapfile -t COMPREPLY < <(compgen -W 'text json' -- "$3") ;;
    'mocker --dump-config-to') mapfile -t COMPREPLY < <(compgen -f -- "$3") ;;
    'mocker --store-kv') mapfile -t COMPREPLY < <(compgen -W 'etcd file mem kubernetes' -- "$3") ;;
    'mocker --discovery-backend') mapfile -t COMPREPLY < <(compgen -W 'etcd kubernetes file mem' -- "$3") ;;
    'mocker --request-plane') mapfile -t COMPREPLY < <(compgen -W 'tcp nats http' -- "$3") ;;
    'mocker --event-plane') mapfile -t COMPREPLY < <(compgen -W 'nats zmq auto' -- "$3") ;;
    'mocker --connector') COMPREPLY=() ;;
    'mocker --dyn-tool-call-parser') COMPREPLY=() ;;
    'mocker --dyn-reasoning-parser') COMPREPLY=() ;;
    'mocker --custom-jinja-template') mapfile -t COMPREPLY < <(compgen -f -- "$3") ;;
    'mocker --endpoint-types') COMPREPLY=() ;;
    'mocker --etcd-endpoints') COMPREPLY=() ;;
    'replay --https-ca') mapfile -t COMPREPLY < <(compgen -f -- "$3") ;;
    'replay --trace') mapfile -t COMPREPLY < <(compgen -f -- "$3") ;;
    'replay --limit') COMPREPLY=() ;;
    'replay --speed') COMPREPLY=() ;;
    'replay --model') COMPREPLY=() ;;
    'replay --label') COMPREPLY=() ;;
    'replay --compare') mapfile -t COMPREPLY < <(compgen -f -- "$3") ;;
    'replay --url') COMPREPLY=() ;;
    'replay --log-level') mapfile -t COMPREPLY < <(compgen -W 'debug info warn error off' -- "$3") ;;
    'replay --log-format') mapfile -t COMPREPLY < <(compgen -W 'text json' -- "$3") ;;
    'replay --dump-config-to') mapfile -t COMPREPLY < <(compgen -f -- "$3") ;;
    'ctl --admin-token-file') mapfile -t COMPREPLY < <(compgen -f -- "$3") ;;
    'ctl --https-ca') mapfile -t COMPREPLY < <(compgen -f -- "$3") ;;
    'ctl --namespace') COMPREPLY=() ;;
    'ctl --component') COMPREPLY=() ;;
    'ctl --nats-server') COMPREPLY=() ;;
    'ctl --nats-tls-ca') mapfile -t COMPREPLY < <(compgen -f -- "$3") ;;
    'ctl --nats-tls-cert') mapfile -t COMPREPLY < <(compgen -f -- "$3") ;;
    'ctl --nats-tls-key') mapfile -t COMPREPLY < <(compgen -f -- "$3") ;;
    'ctl --nats-tls-hostname') COMPREPLY=() ;;
    'ctl --url') COMPREPLY=() ;;
    'ctl --reset-token') COMPREPLY=() ;;
    'ctl --seq') COMPREPLY=() ;;
    'ctl --log-level') mapfile -t COMPREPLY < <(compgen -W 'debug info warn error off' -- "$3") ;;
    'ctl --log-format') mapfile -t COMPREPLY < <(compgen -W 'text json' -- "$3") ;;
    'ctl --dump-config-to') mapfile -t COMPREPLY < <(compgen -f -- "$3") ;;
    *) return 1 ;;
    esac
}

_jetrouter() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} command=${COMP_WORDS[1]} words
    COMPREPLY=()
    # bash takes --option=value apart at the sign.
    if [ "$cur" = = ]; then
        cur=''
    elif [ "$prev" = = ]; then
        prev=${COMP_WORDS[COMP_CWORD - 2]}
    fi
    if [ "$COMP_CWORD" = 1 ]; then
        words='help version frontend router bridge mocker replay ctl'
    elif _jetrouter_values "$command" "$prev" "$cur"; then
        return
    elif [ "$command" = ctl ] && [[ $cur != -* ]]; then
        words='live ready state workers replicas digest snapshot reset drain tail skip'
    else
        words=$(_jetrouter_options "$command")
    fi
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
}
complete -o filenames -F _jetrouter jetrouter

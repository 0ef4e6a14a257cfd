#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# run.sh BUILD_DIR TRACE.jsonl [options of bench_index]: make the op streams once, run the bench.
# A trace of less than 4,000 requests is repeated four times.
set -euo pipefail
[ $# -ge 2 ] || { echo "usage: $0 BUILD_DIR TRACE.jsonl [options]" >&2; exit 64; }
bin=$1/tests/bench trace=$2
ops=$bin/ops/$(basename "$trace" .jsonl)
shift 2
mkdir -p "$ops"
# An excerpt alone does not fill the caches: repeated under other ids, it does, and evicts.
copies=1
if [ "$(wc -l <"$trace")" -lt 4000 ]; then copies=4; fi
make_ops() { # NAME generator options
    local out=$ops/$1.ops
    [ -s "$out" ] || { "$bin/gen_index_ops" "$trace" "$out.part" -x "$copies" "${@:2}" >&2; mv "$out.part" "$out"; }
}
split_at() { # NAME K
    local out=$ops/$1.split$2.ops
    [ -s "$out" ] || { "$bin/split_ops" "$ops/$1.ops" "$out.part" "$2" >&2; mv "$out.part" "$out"; }
}
make_ops conv_b64_w16 -b 64 -w 16
make_ops conv_b64_w64 -b 64 -w 64
split_at conv_b64_w16 8
split_at conv_b64_w16 1
exec "$bin/bench_index" "$@" "$ops"/conv_b64_w16.ops "$ops"/conv_b64_w16.split8.ops \
    "$ops"/conv_b64_w16.split1.ops "$ops"/conv_b64_w64.ops

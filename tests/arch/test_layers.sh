#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# base <- core, wire <- io <- app: an #include names only what its layer may know.
# usage: test_layers.sh SOURCE_DIR BUILD_DIR
set -euo pipefail
cd "$1"
failed=0

# refuse LAYER REGEX WHAT: no #include line of the layer may be other than the regex.
refuse() {
    local bad
    bad=$(grep -rnE '^ *# *include *'"$2" "src/$1" --include='*.[ch]' --include='*.cc' --include='*.hh' | grep -vE "include *($3)" || true)
    if [ -n "$bad" ]; then
        echo "$1 may not include:"
        echo "$bad"
        failed=1
    fi
}

# Quoted includes: "layer/…"; generated protobuf is known to wire alone.
refuse base '"' '"base/'
refuse core '"' '"(base|core)/|"jetrouter/[a-z_]+\.h"'
refuse wire '"' '"(base|wire)/|"jetrouter/v1/'
refuse io '"' '"(base|core|wire|io)/'
refuse app '"' '"(base|core|wire|io|app)/|"jetrouter/[a-z_]+\.h"'

# Angle brackets in the pure layers: the C library's pure part, and xxhash.
pure='stdarg|stdalign|stdatomic|stdbool|stddef|stdint|inttypes|limits|float|math|string|stdio|stdlib|assert|errno'
# base: and the pages of base/mem.
refuse base '<' "<($pure|signal|sys/mman)\.h>"
refuse core '<' "<($pure|xxhash|[a-z]*mmintrin|x86intrin|arm_neon)\.h>|<jetrouter/[a-z_]+\.h>"
# wire: and the codec libraries, never sockets, clocks, threads or files.
refuse wire '<' "<($pure|strings|ctype|xxhash|jansson|simdjson|llhttp|sodium|msgpack|[a-z]*mmintrin)\.h>|<(msgpack|openssl|protobuf-c|jetrouter/v1|opentelemetry|sodium)/|<[a-z_]+>"

exit $failed

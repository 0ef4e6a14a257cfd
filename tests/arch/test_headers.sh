#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Each header compiles alone and twice, and has the guard its path asks for.
# usage: test_headers.sh SOURCE_DIR BUILD_DIR
set -euo pipefail
cd "$1"
build=$2
export CC
CC=$(sed -n 's/^CMAKE_C_COMPILER:[A-Z]*=//p' "$build/CMakeCache.txt" 2>/dev/null || true)
: "${CC:=cc}"
export FLAGS
FLAGS="-std=c11 -D_GNU_SOURCE -DJR_FAILPOINTS=1 -Wall -Wextra -Wpedantic -Wconversion -Wshadow -Werror -Isrc -Iinclude"
FLAGS+=" $(grep -oE -- '-(I|isystem )[^ "\]+' "$build/compile_commands.json" | sed 's/^-I/-isystem /' | grep -vE " $PWD/(src|include)$" | sort -u | tr '\n' ' ')"

one() {
    # shellcheck disable=SC2086
    printf '#include "%s"\n#include "%s"\nextern int jr_not_empty;\n' "$1" "$1" |
        $CC $FLAGS -iquote . -fsyntax-only -x c - || { echo "$1 does not compile alone"; return 1; }
    case $1 in
    src/*)
        local layer stem
        layer=$(cut -d/ -f2 <<<"$1")
        stem=$(basename "$1" .h)
        grep -qE "^#ifndef JR_${layer^^}_([A-Z0-9_]+_)?${stem^^}_H$" "$1" || { echo "$1: its guard is not JR_${layer^^}_${stem^^}_H"; return 1; }
        ;;
    esac
}
export -f one
dirs=(src)
if [ -e include ]; then dirs+=(include); fi
find "${dirs[@]}" -name '*.h' | sort | xargs -P 2 -n 1 bash -c 'one "$1"' _ || exit 1

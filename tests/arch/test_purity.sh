#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# core and wire are data in, data out: what their archives leave undefined must be defined in base
# (and the codec archives) or stand in an allow list beside this script.
# usage: test_purity.sh SOURCE_DIR BUILD_DIR
set -euo pipefail
source_dir=$1 build=$2
# Without an optimiser the archives keep what nobody calls, such as xxhash's own malloc.
if grep -q '^CMAKE_BUILD_TYPE:STRING=Debug' "$build/CMakeCache.txt"; then
    echo "skipped: this build is not optimised"
    exit 0
fi
lists=$source_dir/tests/arch
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

# What sanitizers, coverage and the linker add.
tools='^(__(asan|ubsan|tsan|lsan|msan|sanitizer|sancov|gcov|llvm|odr_asan|start|stop)_|_GLOBAL_OFFSET_TABLE_$|__tls_get_addr$|mcount$|__fentry__$)'

symbols() { nm -P -g "$1" 2>/dev/null | awk -v want="$2" 'NF >= 2 && (want == "undefined") == ($2 ~ /^[Uwv]$/) { print $1 }' | sort -u; }

# check NAME ARCHIVE "LIST…" "PROVIDER…": prints what is not allowed; fails if there is something.
check() {
    local name=$1 archive=$2 list provider bad
    : >"$tmp/allow"
    : >"$tmp/deny"
    for list in $3; do
        sed -e '/^#/d' -e '/^$/d' -e '/^!/d' "$lists/$list.allow" >>"$tmp/allow"
        sed -n 's/^!//p' "$lists/$list.allow" >>"$tmp/deny"
    done
    symbols "$archive" defined >"$tmp/defined"
    for provider in $4; do
        if [ -e "$provider" ]; then symbols "$provider" defined >>"$tmp/defined"; fi
    done
    sort -u -o "$tmp/defined" "$tmp/defined"
    symbols "$archive" undefined | sed 's/@.*//' | grep -Ev "$tools" | sort -u >"$tmp/undefined" || true
    comm -23 "$tmp/undefined" "$tmp/defined" >"$tmp/rest"
    bad=$({ grep -Exv -f "$tmp/allow" "$tmp/rest" || true
        if [ -s "$tmp/deny" ]; then grep -Ex -f "$tmp/deny" "$tmp/rest" || true; fi; } | sort -u)
    [ -z "$bad" ] && return 0
    local symbol
    for symbol in $bad; do
        echo "$name is not pure: $symbol, used by $(nm -A -g "$archive" 2>/dev/null | grep -E " [Uwv] $symbol(@|$)" | cut -d: -f2 | sort -u | tr '\n' ' ')"
    done
    return 1
}

# The checker itself must find a call to time(), and must not find memcpy or a sanitizer.
self_check() {
    local cc
    cc=$(sed -n 's/^CMAKE_C_COMPILER:[A-Z]*=//p' "$build/CMakeCache.txt" 2>/dev/null || true)
    cat >"$tmp/impure.c" <<'C'
#include <string.h>
#include <time.h>
long impure(char *to, const char *from, unsigned long n);
long impure(char *to, const char *from, unsigned long n)
{
    memcpy(to, from, n);
    return (long)time(NULL);
}
C
    sed -e 's/(long)time(NULL)/0/' "$tmp/impure.c" >"$tmp/pure.c"
    local kind
    for kind in pure impure; do
        "${cc:-cc}" -O1 -fsanitize=address,undefined -c "$tmp/$kind.c" -o "$tmp/$kind.o"
        ar rcs "$tmp/$kind.a" "$tmp/$kind.o"
    done
    check "pure example" "$tmp/pure.a" core "" || { echo "the checker refuses a pure object"; return 1; }
    if check "impure example" "$tmp/impure.a" core "" >"$tmp/out"; then
        echo "the checker does not see time()"
        return 1
    fi
    grep -q 'not pure: time,' "$tmp/out" && [ "$(wc -l <"$tmp/out")" = 1 ] ||
        { echo "the checker says:"; cat "$tmp/out"; return 1; }
}

failed=0
self_check || failed=1
for layer in base core wire; do
    archive=$build/libjr_$layer.a
    if [ ! -e "$archive" ]; then
        echo "$archive is missing: build first"
        failed=1
        continue
    fi
    case $layer in
    base) check base "$archive" "core base" "" || failed=1 ;;
    core) check core "$archive" "core" "$build/libjr_base.a" || failed=1 ;;
    wire) check wire "$archive" "core wire" "$build/libjr_base.a $build/libjr_proto.a $build/libjr_llhttp.a" || failed=1 ;;
    esac
done
exit $failed

#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A release has no failpoint and no seeded bug: compiled without JR_FAILPOINTS, what names them leaves
# no symbol and no text of theirs; with it, it does, so the check can fail. A release build that is
# there is looked at, too.
# usage: test_release_hooks.sh SOURCE_DIR BUILD_DIR
set -euo pipefail
source_dir=$1 build=$2
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
hooks='jr_bug_(seeded|name)|jr_failpoint_(hit|set|clear)'
text='a later batch before a refused one'
cc=$(sed -n 's/^CMAKE_C_COMPILER:[A-Z]*=//p' "$build/CMakeCache.txt" 2>/dev/null || true)

# compile FLAG…: the symbols of all files in base and core that name a hook, on stdout.
compile() {
    local file object
    while read -r file; do
        object=$tmp/$(echo "$file" | tr / _).o
        "${cc:-cc}" -std=c11 -D_GNU_SOURCE -O1 -I"$source_dir/src" -I"$source_dir/include" "$@" -c "$source_dir/$file" -o "$object"
        nm "$object"
    done < <(cd "$source_dir" && grep -lE 'JR_BUG\(|JR_FAILPOINT\(|base/(bug|failpoint)\.h' src/base/*.c src/core/*.c)
}

if compile | grep -E "$hooks"; then
    echo "a build without JR_FAILPOINTS has hooks of tests"
    exit 1
fi
compile -DJR_FAILPOINTS=1 >"$tmp/with"
for symbol in jr_bug_seeded jr_failpoint_hit; do
    grep -q "$symbol" "$tmp/with" || { echo "the check does not see $symbol"; exit 1; }
done
release=$source_dir/build/release/jetrouter
if [ -e "$release" ]; then
    if nm "$release" 2>/dev/null | grep -E "$hooks" || grep -qa "$text" "$release"; then
        echo "$release has hooks of tests"
        exit 1
    fi
fi

#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# What the tree must not contain: paths of one machine, references nobody can follow, unfinished
# business, files and functions too long to read, sources without a licence line.
# usage: test_words.sh SOURCE_DIR BUILD_DIR
set -euo pipefail
cd "$1"
failed=0
skip=(--exclude-dir=build --exclude-dir=.git --exclude=.git --exclude-dir=fixtures --exclude-dir=corpus
    --exclude-dir=__pycache__ --exclude=test_words.sh --exclude=LICENSE)

refuse() {
    local why=$1 bad
    shift
    bad=$(grep -rnIE "${skip[@]}" "$@" 2>/dev/null || true)
    if [ -n "$bad" ]; then
        echo "$why:"
        echo "$bad"
        failed=1
    fi
}

refuse "path of one machine" '/work/' .
refuse "reference nobody can follow" -i '\bissues? #?[0-9]+\b' .
have() { for d in "$@"; do if [ -e "$d" ]; then echo "$d"; fi; done; }
# shellcheck disable=SC2046
refuse "unfinished" '\b(TODO|FIXME|XXX)\b' $(have src include proto chaos helm)

# shellcheck disable=SC2046
sources=$(find $(have src include tests chaos) \( -name '*.[ch]' -o -name '*.cc' -o -name '*.hh' \) | grep -vE '/(fixtures|corpus)/' | sort)
for f in $sources; do
    head -1 "$f" | grep -q 'SPDX-License-Identifier: Apache-2.0' || { echo "$f: the first line is not the SPDX line"; failed=1; }
    case $f in
    src/*)
        n=$(wc -l <"$f")
        [ "$n" -le 800 ] || grep -qxF "$f" tests/arch/size.allow || { echo "$f: $n lines, more than 800"; failed=1; }
        ;;
    esac
done

# Functions of the product: from a brace in the first column to the next; the name is the last word
# before the last opening bracket above in the first column.
long=$(find src -name '*.c' -print0 | sort -z | xargs -0 awk '
    FNR == 1 { start = 0 }
    /^[a-z].*\(/ { name = $0; sub(/\(.*/, "", name); sub(/.*[ *]/, "", name) }
    /^{/ { start = FNR }
    /^}/ { if (start && FNR - start - 1 > 70) print FILENAME ":" name, FNR - start - 1; start = 0 }' |
    while read -r place n; do
        grep -qxF "$place" tests/arch/size.allow || echo "$place: a function of $n lines, more than 70"
    done)
if [ -n "$long" ]; then
    echo "$long"
    failed=1
fi
exit $failed

#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The documentation made from the tables of src/app is what the binary prints, every failpoint is told
# of in docs/testing.md, and every option of Dynamo's in docs/migrating-from-dynamo.md.
# usage: test_docs_drift.sh SOURCE_DIR BUILD_DIR
set -u
source=$1 build=$2 status=0
for d in config:configuration.md metrics:metrics.md errors:errors.md man:jetrouter.1 \
    bash:completions/jetrouter.bash zsh:completions/_jetrouter; do
    file="$source/docs/${d#*:}"
    if ! "$build/jetrouter" docs "${d%%:*}" | diff -u "$file" - ; then
        echo "$file is not what 'jetrouter docs ${d%%:*}' prints: run ./dev docs" >&2
        status=1
    fi
done
python3 "$source/helm/options.py" --check "$build/jetrouter" || status=1
while read -r name; do
    if ! grep -qF "\`$name\`" "$source/docs/testing.md"; then
        echo "docs/testing.md does not name the failpoint $name" >&2
        status=1
    fi
done < <(grep -rhoE 'JR_FAILPOINT\("[^"]+"' "$source/src" | sed 's/.*"\(.*\)"/\1/' | sort -u)
while read -r flag; do
    if ! grep -qF -- "\`$flag\`" "$source/docs/migrating-from-dynamo.md"; then
        echo "docs/migrating-from-dynamo.md does not name $flag" >&2
        status=1
    fi
done < <(grep -E '^\| `--' "$source/docs/configuration.md" | grep -E '`(DYN|ETCD)_' |
    sed -E 's/^\| `--(\[no-\])?([a-z0-9-]+).*/--\2/' | sort -u)
exit $status

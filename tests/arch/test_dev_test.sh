#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# ./dev test WORD builds nothing when no test and no group is called so, and finds a test that is new
# since the last configuration. In a tree of its own, whose build leaves a file.
# usage: test_dev_test.sh SOURCE_DIR BUILD_DIR
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
cp "$1/dev" "$tmp/dev"
cp -r "$1/build/deps" "$tmp/" 2>/dev/null || true
mkdir "$tmp/build"
[ ! -e "$tmp/deps" ] || mv "$tmp/deps" "$tmp/build/deps"
cat >"$tmp/CMakePresets.json" <<'END'
{"version": 3, "configurePresets": [{"name": "dev", "generator": "Ninja", "binaryDir": "${sourceDir}/build/dev"}]}
END
cat >"$tmp/CMakeLists.txt" <<'END'
cmake_minimum_required(VERSION 3.20)
project(tree NONE)
enable_testing()
add_custom_target(all_of_it ALL COMMAND ${CMAKE_COMMAND} -E touch built)
file(GLOB tests *.test)
foreach(test ${tests})
    get_filename_component(name ${test} NAME_WE)
    add_test(NAME unit.${name} COMMAND ${CMAKE_COMMAND} -E true)
    set_tests_properties(unit.${name} PROPERTIES LABELS some)
endforeach()
END
touch "$tmp/first.test"
cd "$tmp"

fail() {
    echo "$1" >&2
    exit 1
}

! ./dev test foo >out 2>&1 || fail "a test that is not there passes"
grep -q "no test and no group matches 'foo'" out || fail "it does not say what is wrong: $(cat out)"
[ ! -e build/dev/built ] || fail "it builds before it looks"
touch second.test
for word in first second some; do
    rm -f build/dev/built
    ./dev test "$word" >out 2>&1 || fail "$word: $(cat out)"
    [ -e build/dev/built ] || fail "$word: it runs tests that are not built"
done
grep -q "out of 2" out || fail "the group has not all its tests: $(cat out)"

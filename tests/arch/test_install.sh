#!/usr/bin/env bash
# What `cmake --install` leaves is complete, and a C program finds and uses it by pkg-config alone,
# shared and static.
set -euo pipefail
source=$1 build=$2
if grep -qE '^JR_(ASAN|TSAN|COVERAGE):BOOL=ON' "$build/CMakeCache.txt"; then
    echo "skipped: an instrumented build is not installed"
    exit 0
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
prefix=$work/prefix
cmake --install "$build" --prefix "$prefix" >/dev/null

pc=$(find "$prefix" -name jetrouter.pc)
[ -n "$pc" ] || { echo "jetrouter.pc is not installed"; exit 1; }
export PKG_CONFIG_PATH=${pc%/*}
libdir=$(pkg-config --variable=libdir jetrouter)
for file in "$prefix/bin/jetrouter" "$libdir/libjetrouter.a" "$libdir/libjetrouter.so" "$libdir/libjetrouter.so.0" \
    "$prefix/include/jetrouter/jetrouter.h" "$prefix/include/jetrouter/version.h" "$prefix/share/man/man1/jetrouter.1" \
    "$prefix/share/bash-completion/completions/jetrouter" "$prefix/share/zsh/site-functions/_jetrouter" \
    "$prefix/lib/systemd/system/jetrouter-frontend.service" "$prefix/lib/systemd/system/jetrouter-bridge.service"; do
    [ -s "$file" ] || { echo "not installed: ${file#"$prefix"/}"; exit 1; }
done

version=$("$prefix/bin/jetrouter" --version)
case $version in
*"$(pkg-config --modversion jetrouter)"*) ;;
*) echo "the program is '$version', the pkg-config file $(pkg-config --modversion jetrouter)"; exit 1 ;;
esac

# Nothing but the API leaves the shared library.
if others=$(nm -D --defined-only "$libdir/libjetrouter.so" | awk '$2 ~ /[TDBR]/ {print $3}' | grep -v '^jetrouter_'); then
    echo "the shared library also exports: $others"
    exit 1
fi

cc=${CC:-cc}
read -ra cflags < <(pkg-config --cflags jetrouter)
read -ra libs < <(pkg-config --libs jetrouter)
read -ra static_libs < <(pkg-config --static --libs jetrouter)
cp "$source/tests/arch/install_program.c" "$work/program.c"
"$cc" -std=c11 -Wall -Wextra -Werror -Wpedantic "${cflags[@]}" "$work/program.c" "${libs[@]}" -o "$work/shared"
LD_LIBRARY_PATH=$libdir "$work/shared"
# The example of the documentation is built as its reader would build it.
"$cc" -std=c11 -Wall -Wextra -Werror -Wpedantic "${cflags[@]}" "$source/docs/examples/embed.c" "${libs[@]}" -o "$work/embed"
LD_LIBRARY_PATH=$libdir "$work/embed" | grep -q "worker 2 holds 8 of 16 blocks" || { echo "docs/examples/embed.c does not run"; exit 1; }
grep -q libjetrouter.so.0 <<<"$(LD_LIBRARY_PATH=$libdir ldd "$work/shared")" || { echo "not linked to the shared library"; exit 1; }
"$cc" "${cflags[@]}" "$work/program.c" "${static_libs[@]/#-ljetrouter/-l:libjetrouter.a}" -o "$work/static"
"$work/static"
if grep -q libjetrouter <<<"$(ldd "$work/static")"; then
    echo "the static program needs the shared library"
    exit 1
fi
# The header is C++'s as well.
echo '#include <jetrouter/jetrouter.h>' | "${CXX:-c++}" -std=c++17 -Wall -Wextra -Werror "${cflags[@]}" -x c++ -fsyntax-only -

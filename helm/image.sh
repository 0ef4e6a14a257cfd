#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The files of the container image, as a folder: the program, the libraries it is linked to and their
# licences, the certificates of the system's authorities, and the names of two users. No shell, no package
# manager. helm/Dockerfile copies that folder into an empty image; no container engine is needed for it.
#
# usage: image.sh JETROUTER FOLDER           make the folder (it must not exist)
#        image.sh --run FOLDER [WORD...]     start its program from there, as uid 65532, with nothing but
#                                            the folder as its file system (root, or user namespaces)
set -euo pipefail
uid=65532

die() { printf 'image.sh: %s\n' "$*" >&2; exit 1; }

# A library and the name under which it is looked for, below the path where Debian has it.
add_library() {
    local real=$1 name=$2
    install -D -m 0644 "$real" "$tree$real"
    [ "$name" = "$(basename "$real")" ] || ln -sf "$(basename "$real")" "$tree$(dirname "$real")/$name"
}

# The licences and versions of the packages these files are of, for who scans images. Of files below /usr dpkg
# may know the name without it.
add_packages() {
    local packages package
    packages=$({ dpkg -S "$@" "${@#/usr}" 2>/dev/null || true; } | sed 's/[:,].*//' | sort -u)
    for package in $packages; do
        install -D -m 0644 "$(realpath "/usr/share/doc/$package/copyright")" "$tree/usr/share/doc/$package/copyright"
    done
    # shellcheck disable=SC2086
    dpkg-query -W -f '${Package} ${Version}\n' $packages | sort -u >"$tree/usr/share/doc/jetrouter/packages"
}

make_tree() {
    local program=$1 name path loader files=(/usr/sbin/update-ca-certificates)
    tree=$2
    [ -x "$program" ] || die "$program is no program: ./dev build"
    [ ! -e "$tree" ] || die "$tree exists"
    mkdir -p "$tree"/{usr/bin,usr/lib,usr/lib64,etc/ssl/certs,dev,proc}
    ln -s usr/lib "$tree/lib"
    ln -s usr/lib64 "$tree/lib64"
    install -m 0755 "$program" "$tree/usr/bin/jetrouter"
    strip "$tree/usr/bin/jetrouter"
    install -D -m 0644 "$(dirname "$0")/../LICENSE" "$tree/usr/share/doc/jetrouter/copyright"
    while read -r name path; do
        path=$(realpath "$path")
        add_library "$path" "$name"
        files+=("$path")
    done < <(ldd "$program" | awk '$2 == "=>" {print $1, $3}')
    loader=$(ldd "$program" | awk '$1 ~ /^\/.*\/ld-/ {print $1}')
    install -D -m 0755 "$(realpath "$loader")" "$tree/usr$loader"
    install -m 0644 /etc/ssl/certs/ca-certificates.crt "$tree/etc/ssl/certs/"
    printf 'root:x:0:0::/:/nonexistent\njetrouter:x:%s:%s::/:/nonexistent\n' $uid $uid >"$tree/etc/passwd"
    printf 'root:x:0:\njetrouter:x:%s:\n' $uid >"$tree/etc/group"
    printf 'hosts: files dns\n' >"$tree/etc/nsswitch.conf"
    add_packages "${files[@]}"
    chmod -R a-w,a+rX "$tree"
}

# The files are root's and nobody may write to them; what starts is not root.
run_tree() {
    local tree=$1
    shift
    if [ "$(id -u)" = 0 ]; then
        exec chroot --userspec=$uid:$uid --groups= "$tree" /usr/bin/jetrouter "$@"
    fi
    exec unshare --user --map-root-user chroot "$tree" /usr/bin/jetrouter "$@"
}

case ${1:-} in
--run) shift; run_tree "$@" ;;
"" | -*) sed -n '3,11s/^# \{0,1\}//p' "$0" >&2; exit 64 ;;
*) make_tree "$1" "$2" ;;
esac

#!/bin/sh
# What a machine needs to build, test and try Wormhole, beside Rust itself: a C compiler (for ring), a C++ compiler (for
# libFuzzer), fusermount3, git, and a usable /dev/fuse. With `counts`, or in CI, also what `cargo ci counts` counts with:
# valgrind and strace. Says each thing it changes, and nothing when all is there; safe to run again.
set -eu

say() { printf 'setup: %s\n' "$*"; }
die() { printf 'setup: %s\n' "$*" >&2; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

[ "$(uname -s)" = Linux ] || die "this is $(uname -s); Wormhole runs on Linux 5.15 or newer only"

# Runs a command as root: directly, through sudo, or says what to type.
as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif have sudo; then
        sudo "$@"
    else
        die "not root and no sudo: as root, run: $*"
    fi
}

# A package manager's chatter is worth reading only when it failed.
quietly() {
    log=$(mktemp)
    if "$@" >"$log" 2>&1; then
        rm -f "$log"
    else
        cat "$log" >&2
        rm -f "$log"
        die "failed: $*"
    fi
}

packages=
have cc || packages="$packages gcc libc6-dev"
have c++ || packages="$packages g++"
have fusermount3 || packages="$packages fuse3"
have git || packages="$packages git"
if [ "${1:-}" = counts ] || [ -n "${CI:-}" ]; then
    have valgrind || packages="$packages valgrind"
    have strace || packages="$packages strace"
fi

if [ -n "$packages" ]; then
    have apt-get || die "missing, install with your package manager (Debian's names):$packages"
    [ "$(id -u)" = 0 ] || have sudo || die "missing, as root run: apt-get update && apt-get install -y$packages"
    say "installing$packages"
    quietly as_root apt-get -qq update
    # The list is split into words on purpose.
    # shellcheck disable=SC2086
    quietly as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends install $packages
fi

# The module loads itself on the first open of /dev/fuse where udev made the node; in a bare machine neither is there.
if ! grep -qw fuse /proc/filesystems; then
    say "loading the fuse module"
    modprobe=$(command -v modprobe || command -v /sbin/modprobe || true)
    [ -n "$modprobe" ] || die "no modprobe to load the fuse module: install kmod, or run: modprobe fuse on the machine that runs this container"
    as_root "$modprobe" fuse || die "the kernel has no fuse module: use a kernel with CONFIG_FUSE_FS, or load it on the machine that runs this container"
fi
if [ ! -e /dev/fuse ]; then
    say "making /dev/fuse"
    as_root mknod -m 0666 /dev/fuse c 10 229 || die "cannot make /dev/fuse: in a container, start it with --device /dev/fuse --cap-add SYS_ADMIN"
fi
[ -r /dev/fuse ] && [ -w /dev/fuse ] || die "/dev/fuse is not open to user $(id -un): as root, run: chmod 666 /dev/fuse"

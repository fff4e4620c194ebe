#!/bin/sh
# debian.sh PACKAGE...: install Debian packages if this user may (root or sudo without a password),
# else name them in one line and fail.
set -eu
if [ "$(id -u)" = 0 ]; then
    as_root=
elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
    as_root=sudo
else
    as_root=no
fi
if [ "$as_root" = no ] || ! command -v apt-get >/dev/null; then
    echo "Missing; install with your package manager, on Debian or Ubuntu: sudo apt-get install $*" >&2
    exit 1
fi
echo "Installing Debian packages: $*"
$as_root apt-get update -qq
DEBIAN_FRONTEND=noninteractive $as_root apt-get install -y -qq "$@" >/dev/null

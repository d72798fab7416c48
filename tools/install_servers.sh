#!/bin/sh
# What the tests need from the system: Redis with TLS, Java (17 or newer) for DynamoDB Local, and libfaketime for servers
# whose clock a test moves.
#
# Does nothing where all are there. Elsewhere it installs Debian's packages, as root or by a sudo that asks for no
# password. Where it cannot, it says what to do and ends well: the tests that need them are skipped, or fail in CI.
#
# redis-tools has the server's program too (under the name of redis-check-rdb); redis-server would add only a service,
# which would be started and enabled.
set -u

packages=
command -v redis-server >/dev/null || command -v redis-check-rdb >/dev/null || packages="redis-tools"
command -v java >/dev/null || packages="$packages default-jre-headless"
ls /usr/lib/*/faketime/libfaketime.so.1 >/dev/null 2>&1 || packages="$packages libfaketime"
[ -n "$packages" ] || exit 0

give_up() {
    echo "tools/install_servers.sh: $1. Tests that need what is missing will be skipped: $packages" >&2
    echo "On Debian: apt-get install --no-install-recommends $packages" >&2
    exit 0
}

command -v apt-get >/dev/null || give_up "this is no Debian"
if [ "$(id -u)" -eq 0 ]; then
    as_root=
elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
    as_root="sudo -n"
else
    give_up "not root, and no sudo without a password"
fi

apt() {
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=120 "$@" </dev/null
}

# The lists of packages may be absent or old; fetching them takes longer than trying.
# shellcheck disable=SC2086 # several words
output=$(apt install --no-install-recommends $packages 2>&1) ||
    output=$(apt update 2>&1 && apt install --no-install-recommends $packages 2>&1) || {
    echo "$output" >&2
    give_up "apt-get failed"
}

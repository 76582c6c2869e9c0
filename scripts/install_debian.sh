#!/usr/bin/env bash
# Installs those of Debian's packages that are not there: scripts/install_debian.sh PACKAGE...
set -euo pipefail
exec 9>"${TMPDIR:-/tmp}/install_debian.lock"
flock 9 # apt-get refuses to run beside another one
missing=$(for package in "$@"; do dpkg -s "$package" >/dev/null 2>&1 || echo "$package"; done)
[ -n "$missing" ] || exit 0
sudo=$([ "$(id -u)" = 0 ] || echo sudo)
$sudo apt-get update -qq
# shellcheck disable=SC2086
DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-remove --no-install-recommends $missing >/dev/null

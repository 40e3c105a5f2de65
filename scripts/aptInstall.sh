#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# aptInstall.sh PACKAGE…: installs Debian packages as root so that no service starts, now or at the next boot.
#
# While it runs, a policy-rc.d refuses every start, stop and restart; one that was there is put back, also after a kill
# (by the next run). Units that the new packages bring are switched off for boot. Services that were there before are
# not touched. Says what it installs and how much it loads.
set -eu

policy=/usr/sbin/policy-rc.d
saved=$policy.before-holdfast
mark="# placed by Holdfast while it installs packages"
export LC_ALL=C DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1

say() { printf 'holdfast: %s\n' "$*" >&2; }

# One at a time on this machine: the policy file is shared by all checkouts.
exec 9</usr/sbin
flock 9

restore_policy() {
  if grep -qsxF "$mark" "$policy"; then rm -f "$policy"; fi
  if [ -e "$saved" ] || [ -L "$saved" ]; then mv -T "$saved" "$policy"; fi
}

forbid_services() {
  restore_policy
  trap restore_policy EXIT
  trap 'exit 130' INT TERM HUP
  if [ -e "$policy" ] || [ -L "$policy" ]; then mv -T "$policy" "$saved"; fi
  printf '#!/bin/sh\n%s\nexit 101\n' "$mark" >"$policy.new"
  chmod 755 "$policy.new"
  mv -T "$policy.new" "$policy"
}

apt() { apt-get -qq -o DPkg::Lock::Timeout=600 -o Dpkg::Use-Pty=0 --no-install-recommends "$@"; }

# Bytes that apt would load, from its own list of addresses and sizes.
download_size() {
  apt install --print-uris "$@" | awk '{ bytes += $3 } END { printf "%d MB\n", (bytes + 999999) / 1000000 }'
}

installed() { dpkg-query -W -f '${db:Status-Status} ${binary:Package}\n' | awk '$1 == "installed" { print $2 }' | sort; }

# Units and init scripts of packages that were not here before. Debian's own helper keeps it so when they are upgraded.
switch_off_services() {
  local package unit off=()
  for package in "$@"; do
    export DPKG_MAINTSCRIPT_PACKAGE=${package%%:*}
    while read -r unit; do
      if deb-systemd-helper --quiet was-enabled "$unit"; then
        deb-systemd-helper disable "$unit" >/dev/null 2>&1 || true
        off+=("$unit")
      fi
    done < <(dpkg -L "$package" | sed -nE 's#.*/systemd/system/([^/@]+\.(service|socket|timer))$#\1#p')
    while read -r unit; do
      update-rc.d "$unit" disable >/dev/null 2>&1 || true
    done < <(dpkg -L "$package" | sed -nE 's#^/etc/init\.d/([^/]+)$#\1#p')
  done
  if [ ${#off[@]} -gt 0 ]; then say "left off, now and at boot: ${off[*]} (to have one: systemctl enable --now NAME)"; fi
}

log=$(mktemp)
forbid_services
if ! apt install --print-uris "$@" >/dev/null 2>&1; then
  say "reading the package lists (apt-get update)"
  apt update >"$log" 2>&1 || true
fi
if ! size=$(download_size "$@" 2>"$log"); then
  tail -n 5 "$log" >&2
  rm -f "$log"
  exit 1
fi
say "installing by apt: $* ($size to load)"
before=$(installed)
# Lists that are out of date name files that are gone: read them again, once.
if ! apt install -y --no-upgrade "$@" >"$log" 2>&1; then
  apt update >/dev/null 2>&1 || true
  apt install -y --no-upgrade "$@" >"$log" 2>&1 || {
    tail -n 15 "$log" >&2
    say "apt could not install $*"
    rm -f "$log"
    exit 1
  }
fi
rm -f "$log"
mapfile -t new < <(comm -13 <(echo "$before") <(installed))
switch_off_services "${new[@]}"

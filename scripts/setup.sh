#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Sourced by scripts/holdfast and scripts/test: installs what is missing on a fresh Debian 12 or 13, and says so.
#
# Gets `top`, the checkout. Gives `bun`, the pinned runtime. All of it lies in the checkout (.cache, node_modules) and
# belongs to the checkout's owner, also under sudo; only apt works as root. Where nothing is missing it starts no
# program but cmp, touches no network and takes no lock. Messages go to standard error: standard output is the verb's.

bun_version=1.4.5
bun=$top/.cache/bun-$bun_version
as_owner=()

say() { printf 'holdfast: %s\n' "$*" >&2; }
die() {
  say "$*"
  exit 69
}

# setup production|all: the runtime, and the packages of bun.lock without or with those that only tests need.
setup() {
  if ready "$1"; then return; fi
  choose_owner
  "${as_owner[@]}" mkdir -p "$top/.cache" 2>/dev/null || true
  if ! "${as_owner[@]}" test -w "$top/.cache"; then
    die "this checkout is not set up and not yours to write: run $top/scripts/holdfast as its owner or as root once"
  fi
  local lock
  exec {lock}<"$top/.cache"
  flock "$lock"
  # Another first run may have done it meanwhile.
  if ! ready "$1"; then
    if [ ! -x "$bun" ]; then install_bun; fi
    install_packages "$1"
  fi
  exec {lock}<&-
}

ready() {
  [ -x "$bun" ] && { same_lock all || { [ "$1" = production ] && same_lock production; }; }
}

# What was installed last is written beside it, as the lock file and the manifest it was installed from.
same_lock() {
  [ -d "$top/node_modules" ] && [ -f "$top/.cache/installed-$1" ] &&
    cmp -s "$top/.cache/installed-$1" <(cat "$top/package.json" "$top/bun.lock")
}

# Under sudo the files are made by the owner of the checkout, with the owner's own settings of npm.
choose_owner() {
  local uid gid home
  uid=$(stat -c %u "$top") gid=$(stat -c %g "$top")
  if [ "$(id -u)" != 0 ] || [ "$uid" = 0 ]; then return; fi
  home=$(getent passwd "$uid" | cut -d: -f6)
  as_owner=(setpriv "--reuid=$uid" "--regid=$gid" --clear-groups env "HOME=${home:-$top/.cache}")
}

# The runtime is one file inside a registry package, one package for each kind of processor. It is taken out of the
# package directly: no install script runs, so npm's policy on those does not matter. Sums are those of the registry.
install_bun() {
  local package sum work file
  case $(uname -m) in
    aarch64) package=bun-linux-aarch64 sum=e015e6b122a78ceae5196a99578c7fa166bb015a11f81ea509775d3333805c1226dede747ac960f706faea09ad5b501a984435975083be69abbb2b0486a39632 ;;
    x86_64) package=bun-linux-x64 sum=2165fd0442e8187014b4ca2791e49a35a6705f3464fa80f0e8c93e1c115777728760804d06c20646ea4c64f7203680db2692eeea00098c8a0854f66db75689d6 ;;
    *) die "this is $(uname -m); Holdfast runs on x86-64 and arm64" ;;
  esac
  if [ "$package" = bun-linux-x64 ] && ! grep -qw avx2 /proc/cpuinfo; then
    say "this processor has no AVX2: taking the baseline build"
    package=bun-linux-x64-baseline sum=b3cc8cc187059e7ac0d7bf208e2d2065b904d965437a3fd38b5c7bef4a0f7e2871c91c5230d846862010357579dda0deada67192c76f295fd101d40109dd2a3c
  fi
  if ! command -v npm >/dev/null; then
    say "npm is missing, and the runtime comes through it"
    apt_install npm
  fi
  work=$top/.cache/new-bun
  say "getting Bun $bun_version ($package, 50 MB) through npm"
  "${as_owner[@]}" rm -rf "$work"
  "${as_owner[@]}" mkdir "$work"
  (cd "$work" && "${as_owner[@]}" env "npm_config_cache=$work/npm" npm_config_update_notifier=false \
    npm pack --loglevel=error "@oven/$package@$bun_version" >/dev/null) ||
    die "npm could not get @oven/$package@$bun_version (see above): is the package registry reachable?"
  file=$(echo "$work"/*.tgz)
  echo "$sum  $file" | sha512sum --check --status || die "$file is not the Bun $bun_version that was published"
  "${as_owner[@]}" tar -xzf "$file" -C "$work" package/bin/bun
  "${as_owner[@]}" chmod 755 "$work/package/bin/bun"
  "$work/package/bin/bun" --version >/dev/null || die "Bun $bun_version does not run on this machine"
  "${as_owner[@]}" mv -T "$work/package/bin/bun" "$bun"
  "${as_owner[@]}" rm -rf "$work"
}

install_packages() {
  local only=()
  if [ "$1" = production ]; then only=(--production); fi
  say "installing the packages of bun.lock"
  "${as_owner[@]}" rm -f "$top/.cache/installed-all" "$top/.cache/installed-production"
  (cd "$top" && "${as_owner[@]}" env "BUN_INSTALL_CACHE_DIR=$top/.cache/packages" \
    "$bun" install --silent --frozen-lockfile --ignore-scripts "${only[@]}" >&2) ||
    die "the packages of bun.lock could not be installed (see above)"
  cat "$top/package.json" "$top/bun.lock" | "${as_owner[@]}" tee "$top/.cache/installed-$1" >/dev/null
}

# The validator of the MQTT contract: one file of Python without dependencies, run as it is. Its sum is that of the registry.
# Without it one test is skipped, and says so.
get_cddl_verifier() {
  local version=1.5.3 sum=8b7a78ddd4db6bd43e878c3f28c4ba239931b5e7db60e9168de3fd345d3f068b
  local file=cddl_verifier-$version-py3-none-any.whl work=$top/.cache/new-cddl-verifier
  if [ -e "$top/.cache/$file" ]; then return; fi
  choose_owner
  "${as_owner[@]}" rm -rf "$work"
  if "${as_owner[@]}" pip3 --disable-pip-version-check --quiet --no-cache-dir download --no-deps --only-binary :all: \
    --dest "$work" "cddl-verifier==$version" >&2 && echo "$sum  $work/$file" | sha256sum --check --status; then
    "${as_owner[@]}" mv -T "$work/$file" "$top/.cache/$file"
  else
    say "cddl-verifier $version could not be had through pip3: the test of the contract's rules will be skipped"
  fi
  "${as_owner[@]}" rm -rf "$work"
}

# apt_install PACKAGE…: as root, through sudo where there is need and a way.
apt_install() {
  if ! try_apt_install "$@"; then
    if [ "$(id -u)" = 0 ]; then die "missing: $*"; fi
    die "missing: $*. As root: apt-get install $*"
  fi
}

try_apt_install() {
  local as_root=()
  if ! command -v apt-get >/dev/null; then
    say "no apt-get here; please install by hand: $*"
    return 1
  fi
  if [ "$(id -u)" != 0 ]; then
    if ! command -v sudo >/dev/null; then
      say "apt needs root, and there is no sudo"
      return 1
    fi
    as_root=(sudo)
    # Without a terminal nobody can type a password.
    if [ ! -t 2 ]; then as_root+=(-n); fi
  fi
  "${as_root[@]}" bash "$top/scripts/aptInstall.sh" "$@"
}

# missing_packages NAME…: Debian packages of those rows of peers.txt whose program or file is not here.
missing_packages() {
  local program package use
  while IFS='|' read -r program package use; do
    program=${program// /} package=${package// /}
    if [ -z "$program" ] || [ "${program:0:1}" = "#" ]; then continue; fi
    if [ $# -gt 0 ] && [[ " $* " != *" $program "* ]]; then continue; fi
    if [ -e "$program" ] || PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin command -v "$program" >/dev/null; then continue; fi
    case $use in
      " optional:"*) say "not here: $program (apt-get install $package) — $use" ;;
      *) echo "$package" ;;
    esac
  done <"$top/scripts/peers.txt"
}

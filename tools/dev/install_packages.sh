#!/bin/bash
# Installs what is missing of the named groups of packages.txt: install_packages.sh run [test lint clang fuzz oracle aarch64]
# Says nothing and asks nobody when everything is there. With --names first it installs nothing: it prints what the groups are
# on this system, one package a line.
set -u
cd "$(dirname "$0")/../.." || exit 1
names=
[ "${1:-}" = --names ] && names=1 && shift

# as in packages.txt: debian-12, ubuntu-22.04
system=$(. "${OS_RELEASE:-/etc/os-release}" 2>/dev/null && echo "${ID:-}-${VERSION_ID:-}")
wanted=()
for group in "$@"; do
  mapfile -t lines < <(sed 's/#.*//' packages.txt | awk -v g="$group" '$1 == g { $1 = ""; print }')
  [ ${#lines[@]} -gt 0 ] || { echo "packages.txt has no group '$group'" >&2; exit 2; }
  for line in "${lines[@]}"; do
    read -ra words <<<"$line"
    package=${words[0]} without=
    for word in "${words[@]:1}"; do
      [ "$word" = "$system" ] && without=1
      [ "${word%%=*}" = "$system" ] && [ "$word" != "$system" ] && package=${word#*=}
    done
    if [ -n "$without" ]; then
      command -v "$package" >/dev/null || echo "$system has no $package: what needs it is skipped." >&2
    else
      wanted+=("$package")
    fi
  done
done

if [ -n "$names" ]; then
  printf '%s\n' "${wanted[@]}"
  exit 0
fi

if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
  echo "This is no Debian system, so nothing was installed. The build needs what these Debian packages hold: ${wanted[*]}" >&2
  exit 0
fi

missing=()
for package in "${wanted[@]}"; do
  status=$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null)
  [ "$status" = installed ] || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0

as_root=()
if [ "$(id -u)" -ne 0 ]; then
  if ! command -v sudo >/dev/null; then
    echo "Some packages are missing, and there is neither root nor sudo to install them. Let an administrator run:" >&2
    echo "  apt-get update && apt-get install --no-install-recommends ${missing[*]}" >&2
    exit 1
  fi
  as_root=(sudo)
  # without a terminal nobody could type a password
  [ -t 0 ] || as_root=(sudo -n)
fi

echo "Installing ${missing[*]}"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
get() { "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=120 "$@" >>"$log" 2>&1 </dev/null; }
install() { get install -y -q --no-install-recommends "${missing[@]}"; }

# sudo asks for its password here, in the open, rather than into the log
if [ ${#as_root[@]} -gt 0 ] && ! "${as_root[@]}" -v; then
  echo "sudo did not let us install the packages named above." >&2
  exit 1
fi
ls /var/lib/apt/lists/*_Packages* >/dev/null 2>&1 && install && exit 0
if get update && install; then exit 0; fi
tail -n 15 "$log" >&2
echo "The packages above could not be installed; the last lines of apt-get stand before this one." >&2
exit 1

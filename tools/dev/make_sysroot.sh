#!/bin/bash
# Unpacks Debian's arm64 packages of what Hadal links into .deps/aarch64-root, for `make aarch64`: make_sysroot.sh
# Which: the lines `run` of packages.txt that end in -dev, the C library, and what they depend on. The system's own packages, and what
# its apt knows, are left as they are: apt works in a folder of its own, as for an empty arm64 system, and dpkg only unpacks.
# Says nothing when the folder is there for the same list.
set -u
cd "$(dirname "$0")/../.." || exit 1
root=$PWD/.deps/aarch64-root
mapfile -t packages < <(tools/dev/install_packages.sh --names run | grep -e '-dev$')
packages+=(libc6-dev libstdc++6)
[ "$(cat "$root/packages" 2>/dev/null)" = "${packages[*]}" ] && exit 0

for program in apt-get dpkg; do
  command -v $program >/dev/null || { echo "The libraries for arm64 come as Debian packages, and this system has no $program." >&2; exit 1; }
done
mkdir -p .deps
apt=$(mktemp -d "$PWD/.deps/aarch64-apt-XXXXXX")
trap 'rm -rf "$apt"' EXIT
mkdir -p "$apt"/{lists,archives}/partial "$apt/root"
: >"$apt/status"
cat >"$apt/apt.conf" <<END
Dir::State "$apt";
Dir::State::lists "$apt/lists";
Dir::State::status "$apt/status";
Dir::Cache "$apt";
Dir::Cache::archives "$apt/archives";
Dir::Log "$apt";
APT::Architecture "arm64";
APT::Architectures { "arm64"; };
APT::Install-Recommends "false";
APT::Keep-Downloaded-Packages "true";
APT::Sandbox::User "root";
END
export APT_CONFIG=$apt/apt.conf

echo "Fetching the arm64 libraries (40 MB, once)"
failed() {
  grep -m 15 -e '^[EW]: ' -e 'error' "$apt/log" >&2
  echo "The arm64 packages ${packages[*]} could not be fetched or unpacked; what $1 said stands before this line." >&2
  echo "apt needs a network and a source that has arm64: Debian's own has; Ubuntu keeps that architecture in its ports archive." >&2
  exit 1
}
# a source of someone else's may have nothing for arm64: what counts is whether the packages are had
apt-get update -q >"$apt/log" 2>&1 </dev/null
apt-get install -y -q --download-only "${packages[@]}" >>"$apt/log" 2>&1 </dev/null || failed apt-get
for file in "$apt"/archives/*.deb; do
  dpkg-deb -x "$file" "$apt/root" >>"$apt/log" 2>&1 || failed dpkg-deb
done

# Only what is compiled with, linked and loaded: a file here stands in for the same path of this machine while a program is emulated.
find "$apt/root" -mindepth 1 -maxdepth 1 ! -name lib ! -name usr -exec rm -rf {} +
find "$apt/root/usr" -mindepth 1 -maxdepth 1 ! -name lib ! -name include ! -name share -exec rm -rf {} +
find "$apt/root/usr/share" -mindepth 1 -maxdepth 1 ! -name cmake ! -name pkgconfig -exec rm -rf {} +
# a link to an absolute path would lead out of the folder
find "$apt/root" -type l -lname '/*' -printf '%p %l\n' | while read -r link target; do
  ln -sfn "$(realpath -m --relative-to="$(dirname "$link")" "$apt/root$target")" "$link"
done
echo "${packages[*]}" >"$apt/root/packages"
rm -rf "$root"
mv "$apt/root" "$root"

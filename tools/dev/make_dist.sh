#!/bin/bash
# Builds one program that runs from any folder, and packs it with its licences: make_dist.sh BUILD_FOLDER
# Refuses if it would need more of a system than the C library, or does not start elsewhere.
set -eu
cd "$(dirname "$0")/../.."
build=$1
cmake --preset dist -B "$build" >/dev/null
cmake --build "$build" --target hadal hadal-conformance

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
version=$(sed -n 's/^project(hadal VERSION \([0-9.]*\).*/\1/p' CMakeLists.txt)
name=hadal-$version-linux-$(uname -m)
mkdir -p "$scratch/$name/licences"
cp "$build/bin/hadal" "$build/bin/hadal-conformance" LICENSE THIRD_PARTY.md README.md "$scratch/$name"
strip "$scratch/$name/hadal" "$scratch/$name/hadal-conformance"

surplus=$(ldd "$scratch/$name/hadal" "$scratch/$name/hadal-conformance" | awk '/=>|ld-linux|vdso/' | awk '{ print $1 }' | grep -vE '^(linux-vdso|libc|libm|/lib.*/ld-linux[^/]*)\.so' || true)
if [ -n "$surplus" ]; then
  echo "The program needs shared libraries beside the C library: $surplus" >&2
  exit 1
fi
for package in libcli11-dev libfmt-dev nlohmann-json3-dev libpcre2-dev libutf8proc-dev libssl-dev libboost1.81-dev libsqlite3-dev libxxhash-dev libedit-dev libncurses-dev libbsd-dev libmd-dev \
    "gcc-$(gcc -dumpversion)-base"; do
  cp "/usr/share/doc/$package/copyright" "$scratch/$name/licences/$package"
done
sources=.deps/xgrammar-0.2.8
cat "$sources/NOTICE" "$sources/LICENSE" >"$scratch/$name/licences/xgrammar"
sed -n '1,/\*\//p' "$sources/3rdparty/picojson/picojson.h" >"$scratch/$name/licences/picojson"
cp "$sources/3rdparty/dlpack/LICENSE" "$scratch/$name/licences/dlpack"
(cd / && env -i "$scratch/$name/hadal" --version >/dev/null)

tar -C "$scratch" --owner=0 --group=0 --sort=name -czf "$build/$name.tar.gz" "$name"
libc=$(objdump -T "$scratch/$name/hadal" | grep -o 'GLIBC_[0-9.]*' | sort -Vu | tail -n 1)
echo "$build/$name.tar.gz ($(du -h "$build/$name.tar.gz" | cut -f1)), for Linux with $libc or newer"

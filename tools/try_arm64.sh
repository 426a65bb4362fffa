#!/usr/bin/env bash
# The wheel for arm64, run: Debian's Python for that machine under emulation lists a table as this machine's does, byte for
# byte, by the wheel's own row formatter and libbpf. The kernel's part cannot be tried so: the emulator has no bpf(2).
#
#   tools/try_arm64.sh [WHEEL]         without one it is built first
set -euo pipefail
cd "$(dirname "$0")/.."
command -v qemu-aarch64-static >/dev/null || { echo "needs an emulator: apt install qemu-user-static" >&2; exit 4; }
place=$PWD/build/arm64
mirror=${DEBIAN_MIRROR:-http://deb.debian.org/debian}
mkdir -p "$place"/{lists/partial,cache/archives/partial}

if [ ! -d "$place/root" ]; then
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror bookworm main" >"$place/sources.list"
  apt=(apt-get -qq -o APT::Architecture=arm64 -o APT::Architectures::=arm64 -o Dir::State::status=/dev/null
    -o Dir::State::lists="$place/lists" -o Dir::Cache="$place/cache" -o Dir::Etc::sourcelist="$place/sources.list"
    -o Dir::Etc::sourceparts=/dev/null -o APT::Sandbox::User="$(id -un)")
  "${apt[@]}" update
  (cd "$place" && "${apt[@]}" download {python3.11-minimal,libpython3.11-minimal,libpython3.11-stdlib}:arm64 \
    {libc6,libgcc-s1,libstdc++6,libcrypt1,zlib1g,libexpat1,libssl3,libffi8,libbz2-1.0,liblzma5,libuuid1,libsqlite3-0}:arm64)
  for package in "$place"/*.deb; do dpkg -x "$package" "$place/root.part"; done
  mv "$place/root.part" "$place/root"
fi

wheel=${1-}
if [ -z "$wheel" ]; then
  rm -rf "$place/wheels"
  mkdir -p "$place/wheels"
  DIST=$place/wheels tools/dist.sh arm64
  wheel=$(ls "$place"/wheels/ctctl-*_aarch64.whl)
fi
rm -rf "$place/site"
platforms=()
for glibc in {17..36}; do platforms+=(--platform "manylinux_2_${glibc}_aarch64"); done  # Debian 12 has 2.36
platforms+=(--platform manylinux2014_aarch64)
.venv/bin/pip install -q --disable-pip-version-check --target "$place/site" --only-binary :all: "${platforms[@]}" \
  --python-version 311 --implementation cp "$wheel"

there() { QEMU_LD_PREFIX=$place/root PYTHONHOME=$place/root/usr PYTHONPATH=$place/site \
  qemu-aarch64-static "$place/root/usr/bin/python3.11" -P -m ctctl "$@"; }
there version
there version | grep -q aarch64
[ "$(there --version)" = "$(.venv/bin/ctctl --version)" ]
table=examples/cilium-bugtool.tar.xz
for form in jsonl csv cilium wide; do
  cmp <(there ct list --from "$table" -o "$form") <(.venv/bin/ctctl ct list --from "$table" -o "$form")
done
cmp <(there doctor --from "$table" -o json || true) <(.venv/bin/ctctl doctor --from "$table" -o json || true)
echo "the arm64 wheel lists what this machine's ctctl does"

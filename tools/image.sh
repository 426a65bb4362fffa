#!/usr/bin/env bash
# The image of deploy/Containerfile, built without a daemon (buildah), and tried: what it has, what it lacks, a table read
# by somebody who is not root. Where no registry answers, its base is made of Debian's packages (mmdebstrap), under the
# same name. In build/image, which holds the images too; `image.sh OPTION…` hands options on to buildah's build.
#
#   make image && buildah --root build/image/overlay --storage-driver overlay push ctctl:latest docker://…
set -euo pipefail
cd "$(dirname "$0")/.."
for program in buildah mmdebstrap; do
  command -v $program >/dev/null || { echo "image: needs $program: apt install buildah mmdebstrap" >&2; exit 4; }
done
place=$PWD/build/image
mkdir -p "$place"
# An overlay where the disk's file system bears one; else every layer is a copy.
options=(--root "$place/overlay" --runroot "$place/run" --storage-driver overlay)
buildah "${options[@]}" images >/dev/null 2>&1 || options=(--root "$place/vfs" --runroot "$place/run-vfs" --storage-driver vfs)
images() { buildah "${options[@]}" "$@"; }
say() { printf '%s\n' "image: $*" >&2; }

base=$(sed -n 's/^FROM \([^ ]*\).*/\1/p' deploy/Containerfile | sort -u)
if ! images inspect --type image "$base" >/dev/null 2>&1 && ! timeout 60 buildah "${options[@]}" pull -q "$base" >/dev/null 2>&1
then
  say "no registry has $base for us: made of Debian's packages"
  mmdebstrap --quiet --variant=minbase --format=tar bookworm "$place/base.tar" "${DEBIAN_MIRROR:-http://deb.debian.org/debian}"
  made=$(images from scratch)
  images add -q "$made" "$place/base.tar" / >/dev/null
  images commit -q --rm "$made" "$base" >/dev/null
  rm "$place/base.tar"
fi

commit=$(git rev-parse HEAD 2>/dev/null || true)
images build --isolation chroot --pull-never --iidfile "$place/id" -f deploy/Containerfile -t ctctl:latest \
  --build-arg "CTCTL_COMMIT=$commit" "$@" . >"$place/log" 2>&1 || { tail -30 "$place/log" >&2; exit 1; }
tried=$(images from --pull-never ctctl:latest)
trap 'images rm "$tried" >/dev/null' EXIT
run() { images run --isolation chroot "$@"; }
run "$tried" ctctl version
run "$tried" sh -c 'for program in gcc clang-19 make pip; do if command -v $program; then exit 1; fi; done' ||
  { say "that is in it, and should not be"; exit 1; }
table=/opt/ctctl/share/ctctl/examples/cilium-bugtool.tar.xz
entries=$(run --user 65534 "$tried" ctctl ct list --from $table -o name | wc -l)
[ "$entries" -gt 0 ] || { say "no entry of $table was listed"; exit 1; }
say "ctctl:latest ($(cut -c8-19 "$place/id")), $entries entries listed by user 65534"

#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Boot Debian's kernels one after the other in QEMU: 6.1 (Debian 12), 6.12 (Debian 13) and the newest that
# Debian 13's backports or testing have. In each: load every program, run the conformance vectors, the kernel
# tests that can run there and the lab. docs/support-matrix.md is written from it, and the verifier's figures.
#
# Usage: tools/test_kernels.sh [-p] [-k KERNEL] [STEP[=TEXT] …]     e.g. -k 6.1 figures tests=loader   (steps:
# tests/kernels/guest.py). What ended well before, with the same kernel and objects, is not done again: a run that
# was stopped goes on. What each kernel says is in build/kernels/KERNEL.record as it is said; delete it to begin
# anew. -p: the kernels side by side.
#
# Installs qemu-system-x86 if it is missing; kernels are kept in the user's cache, packages are listed through an apt
# configuration of its own. A guest has everything in memory (tests/kernels/image.py) and no device but two serial
# ports: what is said, and the record's lines. KVM=1 uses /dev/kvm; CPUS (2), LIMIT_S and SILENT_S are for slow machines.
set -euo pipefail

cd "$(dirname "$0")/.."
cache=${XDG_CACHE_HOME:-$HOME/.cache}/ctctl/kernels
apt=$cache/apt
out=build/kernels
only=
side_by_side=
while getopts pk: option; do
	case $option in
	k) only=$OPTARG ;;
	p) side_by_side=1 ;;
	*) exit 2 ;;
	esac
done
shift $((OPTIND - 1))
# By what they are compiled with: another run of this checkout may be using those of before.
objects=$PWD/$out/objects-$(cat bpf/include/ctctl/*.h bpf/lib/*.h bpf/*.c | sha256sum | cut -c1-12)
mkdir -p "$apt"/lists/partial "$apt"/cache/archives/partial "$objects"

install_missing() {
	local missing=()
	local package
	for package in qemu-system-x86 kmod cpio debian-archive-keyring; do
		dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q '^install ok' || missing+=("$package")
	done
	if ((${#missing[@]})); then
		echo "installing: ${missing[*]}"
		apt-get update -qq
		DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
	fi
}

# Lists of packages, without touching this machine's sources.
list_packages() {
	cat >"$apt/debian.sources" <<-EOF
		Types: deb
		URIs: http://deb.debian.org/debian
		Suites: bookworm trixie trixie-backports testing
		Components: main
		Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

		Types: deb
		URIs: http://deb.debian.org/debian-security
		Suites: bookworm-security trixie-security
		Components: main
		Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
	EOF
	cat >"$apt/apt.conf" <<-EOF
		Dir::State::lists "$apt/lists";
		Dir::Cache "$apt/cache";
		Dir::Etc::sourcelist "$apt/debian.sources";
		Dir::Etc::sourceparts "/dev/null";
		Acquire::Languages "none";
		APT::Sandbox::User "root";
	EOF
	# Half a day old is new enough.
	[ -n "$(find "$apt/lists" -maxdepth 1 -name '*_Packages*' -mmin -720 -print -quit)" ] ||
		apt-get -q -c "$apt/apt.conf" update >/dev/null
	packages=$(apt-cache -c "$apt/apt.conf" pkgnames linux-image- | grep -E '^linux-image-[0-9][^a-z]*(\+deb[0-9.]+)?-amd64$' | sort -V)
}

# The package for "6.1", "6.12" or "newest".
package_for() {
	case $1 in
	6.1) grep -E '^linux-image-6\.1\.[0-9]+-[0-9]+-amd64$' <<<"$packages" | tail -1 ;;
	6.12) grep -E '^linux-image-6\.12\.[0-9]+\+deb13-amd64$' <<<"$packages" | tail -1 ;;
	newest) tail -1 <<<"$packages" ;;
	esac
}

# Unpacks a kernel, unless it is there. Newer ones come in three packages: an image that depends on binary and modules.
fetch_kernel() {
	local package root=$cache/deb-$1 part
	package=$(package_for "$1")
	[ -n "$package" ] || { echo "$1: no such kernel in Debian's package lists" >&2; exit 1; }
	[ "$(cat "$root/package" 2>/dev/null)" != "$package" ] || return 0
	local parts=("$package")
	for part in binary modules; do
		part=${package/linux-image-/linux-$part-}
		[ -n "$(apt-cache -c "$apt/apt.conf" show "$part" 2>/dev/null)" ] && parts+=("$part")
	done
	rm -rf "$root" "$root.new"
	mkdir -p "$root.new"
	(
		cd "$root.new"
		apt-get -q -c "$apt/apt.conf" download "${parts[@]}" >/dev/null
		for part in ./*.deb; do dpkg -x "$part" .; done
		rm -f ./*.deb
	)
	mv "$root.new" "$root"
	echo "$package" >"$root/package"
}

# Sets image and modules of an unpacked kernel.
find_kernel() {
	modules=$(compgen -G "$1/lib/modules/*" || compgen -G "$1/usr/lib/modules/*")
	release=${modules##*/}
	image=$1/boot/vmlinuz-$release
	[ -e "$image" ] || image=$modules/vmlinuz
}

# What a guest said becomes part of its record: of this run, or of one that was stopped.
join_lines() {
	.venv/bin/python -m tests.kernels.record "$out/$1.record" "$out/$1.lines"
	rm -f "$out/$1.lines"
}

# Boot one kernel and do what is asked; 0 if nothing failed. A guest that says nothing for SILENT_S is ended; what it
# had said stays in the record.
run_kernel() {
	local name=$1
	shift
	local root=$cache/deb-$name accel=tcg,thread=multi,tb-size=512 cpu=Nehalem,+rdrand quiet=${SILENT_S:-3600} guest started
	find_kernel "$root"
	[ "${KVM:-}" = 1 ] && accel=kvm cpu=host
	.venv/bin/python -m tests.kernels.image kernel "$out/$name.modules" "$root"
	join_lines "$name"
	.venv/bin/python -m tests.kernels.image run "$out/$name.run" "$out/$name.record" "$@"
	cat "$base" "$out/$name.modules" "$out/$name.run" >"$out/$name.initrd"
	rm -f "$out/$name.modules" "$out/$name.run" "$out/$name.log"
	echo "== $name: $release"
	qemu-system-x86_64 -nodefaults -no-user-config -display none -machine q35 -accel $accel -cpu $cpu -smp "${CPUS:-2}" -m 3G \
		-kernel "$image" -initrd "$out/$name.initrd" -no-reboot -serial "file:$out/$name.log" -serial "file:$out/$name.lines" \
		-append "console=ttyS0 panic=-1 oops=panic quiet mitigations=off nokaslr audit=0 security=none rcupdate.rcu_expedited=1 no_timer_check" &
	guest=$!
	# The name is gone when this shell ends.
	trap "kill $guest 2>/dev/null || true" EXIT
	started=$SECONDS
	while kill -0 "$guest" 2>/dev/null; do
		sleep 2
		if ((SECONDS > started + quiet)) && [ -z "$(find "$out/$name.log" "$out/$name.lines" -newermt "-$quiet seconds")" ]; then
			echo "$name: silent for $quiet s: ended" | tee -a "$out/$name.log"
			kill "$guest"
		fi
	done
	wait "$guest" || true
	rm -f "$out/$name.initrd"
	join_lines "$name"
	sed -nE "s/^(features|figures|vectors|accelerated|tests|lab|xdp): /$name: &/p" "$out/$name.log" | tr -d '\r' | grep . || tail -n 20 "$out/$name.log"
	return "$(sed -nE 's/^status: ([0-9]+).*/\1/p' "$out/$name.log" | grep . || echo 1)"
}

base=$out/base.$$
trap 'rm -f "$base"; [ -z "$(jobs -p)" ] || kill $(jobs -p) 2>/dev/null || true' EXIT

# The cache is shared with other checkouts' runs.
exec 9>"$cache/lock"
flock 9
install_missing
list_packages
for name in 6.1 6.12 newest; do
	[ -z "$only" ] || [ "$only" = "$name" ] || continue
	fetch_kernel "$name"
done
flock -u 9
export CTCTL_TEST_OBJECTS=$objects
# A guest has the files of one moment: what is merged in meanwhile would be there by halves.
tree_is() { git rev-parse HEAD 2>/dev/null && git status --porcelain --untracked-files=no && git diff | sha256sum; }
tree=$(tree_is)
# The compilers, Python's too, would take minutes in the emulator.
.venv/bin/python -m compileall -q ctctl tests
.venv/bin/python -m pytest -q --collect-only -p no:cacheprovider tests/kernel tests/lab tests/cli tests/conformance >/dev/null
.venv/bin/python -c '
from tests.support.bpf import SOURCES, compile_file
from tests.support.standin import compile_stand_ins
compile_stand_ins()
for source in sorted(SOURCES.glob("*.c")):
    compile_file(source.name)'
.venv/bin/python -m pytest -q -p no:cacheprovider tests/kernel/test_map_types.py tests/kernel/test_loader.py \
	-k "every_struct or foreign_tables or of_the_same_size" >/dev/null || true # these write what they compile
.venv/bin/python -m tests.kernels.image base "$base"
[ "$(tree_is)" = "$tree" ] || { echo "the checkout changed while it was copied: run again" >&2; exit 1; }

kernels=()
for name in 6.1 6.12 newest; do
	[ -z "$only" ] || [ "$only" = "$name" ] || continue
	kernels+=("$name")
done
failed=0
jobs=()
for name in "${kernels[@]}"; do
	(run_kernel "$name" "$@") &
	jobs+=($!)
	[ -n "$side_by_side" ] || wait "${jobs[-1]}" || failed=1
done
[ -z "$side_by_side" ] || for job in "${jobs[@]}"; do
	wait "$job" || failed=1
done
.venv/bin/python -m tests.kernels.report "$out"
exit $failed

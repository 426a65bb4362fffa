#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Boot Debian 13's 6.12 kernel in QEMU and run there the tests of what other kernels may not allow:
# return codes of foreign programs by fexit, and geneve devices: the loader's, and a lab that encapsulates
# with them. With arguments only what these name. Usage: tools/test_kernels.sh [pytest arguments]
#
# Installs qemu-system-x86 if it is missing; kernel and virtme-ng are kept in the user's cache. The
# guest sees this machine's files, and its own kernel, network and processes. KVM=1 uses /dev/kvm.
set -euo pipefail

cd "$(dirname "$0")/.."
cache=${XDG_CACHE_HOME:-$HOME/.cache}/ctctl/kernels
apt=$cache/apt
mkdir -p "$apt"/lists/partial "$apt"/cache/archives/partial build/kernels

install_missing() {
	local missing=()
	local package
	for package in qemu-system-x86 kmod cpio busybox-static bsdutils python3-venv debian-archive-keyring; do
		dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q '^install ok' || missing+=("$package")
	done
	if ((${#missing[@]})); then
		echo "installing: ${missing[*]}"
		apt-get update -qq
		DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
	fi
}

# A private apt configuration: Debian 13's packages, without touching this machine's sources.
fetch_kernel() {
	cat >"$apt/trixie.sources" <<-EOF
		Types: deb
		URIs: http://deb.debian.org/debian
		Suites: trixie
		Components: main
		Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
	EOF
	cat >"$apt/apt.conf" <<-EOF
		Dir::State::lists "$apt/lists";
		Dir::Cache "$apt/cache";
		Dir::Etc::sourcelist "$apt/trixie.sources";
		Dir::Etc::sourceparts "/dev/null";
		Acquire::Languages "none";
		APT::Sandbox::User "root";
	EOF
	apt-get -q -c "$apt/apt.conf" update >/dev/null
	local package
	package=$(apt-cache -c "$apt/apt.conf" pkgnames linux-image-6.12 | grep -E '^linux-image-6\.12\.[0-9]+\+deb13-amd64$' | sort -V | tail -1)
	[ -n "$package" ] || { echo "no 6.12 kernel in Debian 13's package list" >&2; exit 1; }
	(cd "$cache" && apt-get -q -c "$apt/apt.conf" download "$package" >/dev/null && rm -rf root && dpkg -x ./"$package"_*.deb root && rm -f ./"$package"_*.deb)
}

install_missing
compgen -G "$cache/root/boot/vmlinuz-6.12*" >/dev/null || fetch_kernel
[ -x "$cache/vng/bin/vng" ] || { python3 -m venv "$cache/vng" && "$cache/vng/bin/pip" install -q --disable-pip-version-check virtme-ng; }

image=$(ls "$cache"/root/boot/vmlinuz-6.12* | tail -1)
release=${image#*/vmlinuz-}
modules=/lib/modules/$release
if [ ! -e "$modules" ]; then
	mkdir -p /lib/modules
	ln -s "$cache/root/usr/lib/modules/$release" "$modules"
	trap 'rm -f "$modules"; rmdir --ignore-fail-on-non-empty /lib/modules' EXIT
	depmod "$release"
fi

# The compiler would take minutes in the emulator.
.venv/bin/python -c '
import shutil
from tests.support.bpf import compile_file
shutil.copy(compile_file("foreign.c"), "build/kernels/foreign.o")'

if (($#)); then
	printf -v runs 'run %s' "${*@Q}"
else
	runs="export CTCTL_LAB_TUNNEL=device
	run tests/kernel/test_loader_tunnel.py tests/lab/test_tunnel.py tests/lab/test_proof.py -k 'geneve_device or of_the_user or dsr or udp'
	run tests/kernel/test_probe.py -k 'fexit or passes-tcx or drops-clsact'"
fi

rm -f build/kernels/status build/kernels/log
cat >build/kernels/run.sh <<-EOF
	cd $PWD
	exec >build/kernels/log 2>&1
	modprobe -a veth sch_ingress cls_bpf geneve 2>/dev/null
	echo "kernel \$(uname -r)"
	export CTCTL_REQUIRE_KERNEL=1 CTCTL_REQUIRE_FEXIT=1 CTCTL_FOREIGN_OBJECT=build/kernels/foreign.o
	run() { timeout 900 .venv/bin/python -m pytest -v -p no:cacheprovider "\$@" || status=1; }
	status=0
	$runs
	echo \$status > build/kernels/status
EOF

export PATH="$cache/vng/bin:$PATH"
kvm=--disable-kvm
[ "${KVM:-}" = 1 ] && kvm=
# vng wants a terminal, and without virtio-serial hands on neither output nor exit status.
script -qec "vng -r '$image' $kvm --rw --user root --cpus 2 --memory 2G -- sh build/kernels/run.sh" /dev/null </dev/null || true
cat build/kernels/log
exit "$(cat build/kernels/status 2>/dev/null || echo 1)"

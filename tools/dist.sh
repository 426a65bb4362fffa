#!/usr/bin/env bash
# Build what is released, into dist/: the source distribution, wheels for x86-64 and arm64 with libbpf inside, one
# executable file, an archive and manifest for krew, a Debian package, and their checksums. No root. `dist.sh PART…` builds
# only those parts: sdist wheel arm64 pex krew deb.
set -euo pipefail
cd "$(dirname "$0")/.."
parts=${*:-sdist wheel arm64 pex krew deb}
out=${DIST:-dist}
work=build/dist
python=${PYTHON:-python3}
extras=metrics,report,ui
debian=http://deb.debian.org/debian

want() { [[ " $parts " == *" $1 "* ]]; }
say() { printf '%s\n' "dist: $*" >&2; }

# A commit's artefacts are the same whenever and wherever they are made, so that a release's checksums can be made again.
if [ -z "${SOURCE_DATE_EPOCH:-}" ] && [ -z "$(git status --porcelain 2>&1)" ]; then
  SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
  export SOURCE_DATE_EPOCH
fi

mkdir -p "$out" "$work"
out=$(realpath "$out")
version=$(sed -n 's/^__version__ = "\(.*\)"/\1/p' ctctl/__init__.py)

tool() { # tool NAME: a program from PyPI, in an environment of the build's own
  [ -x "$work/venv/bin/python" ] || "$python" -m venv "$work/venv"
  [ -x "$work/venv/bin/$1" ] || "$work/venv/bin/pip" install -qq --disable-pip-version-check "${2:-$1}"
}

wheel_of() { ls "$out"/ctctl-"$version"-py3-none-*_"$1".whl 2>/dev/null | tail -1; }

build_wheel() { # build_wheel ARCH
  rm -f "$out"/ctctl-"$version"-py3-none-*_"$1".whl
  CTCTL_ARCH=$1 "$work/venv/bin/python" -m build --outdir "$out" --wheel . >"$work/wheel-$1.log" 2>&1 ||
    { tail -20 "$work/wheel-$1.log" >&2; exit 1; }
  say "$(wheel_of "$1")"
}

# Debian's arm64 libraries, unpacked beside: apt is given lists of its own, the machine's stay as they are.
fetch_arm64() {
  local root=$PWD/$work/arm64 apt
  [ -d "$root/root/usr/lib/aarch64-linux-gnu" ] && return
  mkdir -p "$root"/{lists/partial,cache/archives/partial,root}
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $debian bookworm main" >"$root/sources.list"
  apt=(apt-get -qq -o APT::Architecture=arm64 -o APT::Architectures::=arm64 -o Dir::State::status=/dev/null
    -o Dir::State::lists="$root/lists" -o Dir::Cache="$root/cache" -o Dir::Etc::sourcelist="$root/sources.list" -o Dir::Etc::sourceparts=/dev/null
    -o APT::Sandbox::User="$(id -un)")
  "${apt[@]}" update
  (cd "$root" && "${apt[@]}" download libbpf1:arm64 libelf1:arm64 zlib1g:arm64)
  for package in "$root"/*.deb; do dpkg -x "$package" "$root/root"; done
}

if want sdist || want wheel || want arm64; then tool pyproject-build build; fi
if want sdist; then
  "$work/venv/bin/python" -m build --outdir "$out" --sdist . >"$work/sdist.log" 2>&1 || { tail -20 "$work/sdist.log" >&2; exit 1; }
  say "$out/ctctl-$version.tar.gz"
fi
if want wheel; then build_wheel "$(uname -m)"; fi
if want arm64; then
  command -v aarch64-linux-gnu-gcc >/dev/null || { say "arm64 needs a cross compiler: apt install gcc-aarch64-linux-gnu libc6-dev-arm64-cross"; exit 1; }
  fetch_arm64
  CC=aarch64-linux-gnu-gcc CTCTL_LIBRARIES=$PWD/$work/arm64/root build_wheel aarch64
fi

# One executable file of this machine's wheel: make_pex FILE EXTRAS PACKAGE…
# pex keeps PYTHONPATH and user packages out of what it starts, but not out of the interpreter that starts it, where a
# sitecustomize or usercustomize of theirs would run before: hence -I. It does without a home that can be written. Copies,
# not links: two packages (lightkube and its models) lie in one folder.
make_pex() {
  tool pex
  # What pex says of a home that cannot be written it would say of every command.
  echo 'import warnings; warnings.filterwarnings("ignore", message="PEX_ROOT is configured")' >"$work/preamble.py"
  "$work/venv/bin/pex" "$(wheel_of "$(uname -m)")[$2]" "${@:3}" -o "$1" -e ctctl.cli.start:main \
    --python-shebang '/usr/bin/env -S python3 -I' --venv prepend --venv-site-packages-copies --preamble-file "$work/preamble.py" --no-emit-warnings >"$work/pex.log" 2>&1 || { tail -20 "$work/pex.log" >&2; exit 1; }
}
if want pex; then
  # linkify-it-py is named because pex 2.105 overlooks it (textual wants markdown-it-py[linkify]).
  make_pex "$out/ctctl.pex" "$extras" linkify-it-py
  say "$out/ctctl.pex"
fi
if want krew; then
  tree=$work/krew
  rm -rf "$tree"
  mkdir -p "$tree"
  make_pex "$tree/ctctl" k8s,report
  install -m 755 packaging/kubectl-ctctl packaging/kubectl_complete-ctctl "$tree/"
  install -m 644 LICENSE "$tree/"
  arch=$(dpkg --print-architecture)
  archive=$out/kubectl-ctctl-$version-linux-$arch.tar.gz
  tar --sort=name --owner=0 --group=0 --mtime=@0 -czf "$archive" -C "$tree" .
  sum=$(sha256sum "$archive" | cut -d' ' -f1)
  sed -e "/^#/d; s/@VERSION@/$version/g; s/@ARCH@/$arch/g; s/@SHA256@/$sum/; s|@URL@|${URL:-https://example.invalid/ctctl}|g" packaging/krew.yaml >"$out/ctctl.krew.yaml"
  say "$archive, $out/ctctl.krew.yaml"
fi
if want deb; then
  arch=$(dpkg --print-architecture)
  tree=$work/deb
  rm -rf "$tree"
  mkdir -p "$tree"/DEBIAN "$tree"/usr/{bin,lib/ctctl,share/doc/ctctl} "$tree"/lib/systemd/system
  "$python" -m pip --python "$work/venv/bin/python" install -qq --disable-pip-version-check --no-compile --target "$tree/usr/lib/ctctl" \
    "$(wheel_of "$(uname -m)")[$extras]" 2>"$work/deb.log" || { tail -20 "$work/deb.log" >&2; exit 1; }
  mv "$tree"/usr/lib/ctctl/share/{man,bash-completion,zsh,fish,ctctl} "$tree/usr/share/"
  rm -rf "$tree"/usr/lib/ctctl/{bin,share}
  mkdir -p "$tree/usr/share/zsh/vendor-completions"
  mv "$tree"/usr/share/zsh/site-functions/_ctctl "$tree/usr/share/zsh/vendor-completions/"
  rmdir "$tree/usr/share/zsh/site-functions"
  gzip -9n "$tree/usr/share/man/man1/ctctl.1"
  install -m 644 deploy/*.service "$tree/lib/systemd/system/"
  install -m 755 packaging/ctctl.debian "$tree/usr/bin/ctctl"
  install -m 644 LICENSE "$tree/usr/share/doc/ctctl/copyright"
  cat LICENSES/* >>"$tree/usr/share/doc/ctctl/copyright"
  # Compiled once, here, and trusted: root's first start writes nothing into /usr.
  "$work/venv/bin/python" -m compileall -q --invalidation-mode unchecked-hash -s "$tree" -p / "$tree/usr/lib/ctctl" >/dev/null || true
  minor=$("$work/venv/bin/python" -c 'import sys; print(sys.version_info[1])')
  # What follows a tilde comes before what has none: 0.2.0rc1 before 0.2.0.
  debian_version=$(sed -E 's/(a|b|rc)[0-9]+$/~&/' <<<"$version")
  sed -e "s/@VERSION@/$debian_version/; s/@ARCH@/$arch/; s/@PYTHON@/3.$minor/; s/@NEXT@/3.$((minor + 1))/" packaging/control >"$tree/DEBIAN/control"
  # Level 9, the usual one, takes three times as long for a hundredth.
  dpkg-deb -Zgzip -z6 --root-owner-group --build "$tree" "$out/ctctl_${version}_$arch.deb" >/dev/null
  say "$out/ctctl_${version}_$arch.deb"
fi

(cd "$out" && find . -maxdepth 1 -type f ! -name SHA256SUMS -printf '%f\n' | sort | xargs sha256sum >SHA256SUMS)

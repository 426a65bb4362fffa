#!/usr/bin/env bash
# Make a release: tools/release.sh VERSION. Writes the version and the changelog (from changes/), commits, tags, builds
# everything with its checksums into dist/. Nothing leaves this machine: the commands that publish it are printed.
#
#   CTCTL_RELEASE_DIST=no   without building, to see what a release would say
set -euo pipefail
cd "$(dirname "$0")/.."
die() { printf 'release: %s\n' "$1" >&2; exit 2; }

[ $# = 1 ] || die "which version? e.g. make release VERSION=0.2.0"
version=$1
[[ $version =~ ^[0-9]+\.[0-9]+\.[0-9]+((a|b|rc)[0-9]+)?$ ]] || die "'$version' is no version: X.Y.Z, or X.Y.ZrcN"
[ -z "$(git status --porcelain)" ] || die "there are changes that are not committed (git status)"
git rev-parse -q --verify "refs/tags/v$version" >/dev/null && die "v$version is there already: git tag -l"
current=$(sed -n 's/^__version__ = "\(.*\)"/\1/p' ctctl/__init__.py)
# 0.2.0rc1 comes before 0.2.0: what follows a tilde does, for sort as for Debian.
newest=$(printf '%s\n' "$current" "$version" | sed -E 's/(a|b|rc)[0-9]+$/~&/' | sort -V | tail -1 | tr -d '~')
[ "$newest" = "$version" ] || die "$version is older than $current (ctctl/__init__.py)"
fragments() { ls changes/*.*.md >/dev/null 2>&1; }
first() { grep -q '^## Unreleased$' CHANGELOG.md; }
fragments || first || die "nothing to say about $version: changes/ is empty"

python=${PYTHON:-python3}
tools=build/release
[ -x $tools/bin/towncrier ] || { "$python" -m venv $tools; $tools/bin/pip install -qq --disable-pip-version-check 'towncrier>=24.8'; }

sed -i "s/^__version__ = .*/__version__ = \"$version\"/" ctctl/__init__.py
date=$(date -u +%Y-%m-%d)
if first; then
  # The first version's text, which was written as one; what changed since is at its end.
  sed -i "s/^## Unreleased$/## $version ($date)/" CHANGELOG.md
  if fragments; then
    { echo; $tools/bin/towncrier build --draft --version "$version" --date "$date" 2>/dev/null | sed '/^## /,+1d'; } >>CHANGELOG.md
    git rm -q changes/*.*.md
  fi
elif fragments; then
  $tools/bin/towncrier build --yes --version "$version" --date "$date" >/dev/null
fi
git add -A
git commit -qm "Release $version"
git tag -a "v$version" -m "ctctl $version"

if [ "${CTCTL_RELEASE_DIST:-yes}" != no ]; then
  rm -rf dist
  make --no-print-directory dist
fi
cat <<MSG
ctctl $version is committed and tagged here. To publish it:
  git push origin HEAD v$version
  gh release create v$version --verify-tag --notes-file CHANGELOG.md dist/*
To take it back: git tag -d v$version && git reset --hard HEAD~1
MSG

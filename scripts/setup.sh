#!/bin/bash
# Installs what this clone needs and does not have: QGIS and tools (apt), .venv on QGIS's own Python, a QGIS profile.
# Does nothing, and needs no network, when everything is there. Called by `make setup`. With the word `reference`, it also builds
# pydensecrf2, which tests and benchmarks compare with: there is no wheel of it, so this takes a compiler and a minute.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."
packages=(qgis python3-qgis qgis-providers python3-venv python3-pip xvfb xauth scrot)
system=/usr/bin/python3
# The torch that the figures in the docs were made with. PyPI's build for Linux is the CUDA one (gigabytes); for the smaller
# CPU build set PIP_EXTRA_INDEX_URL to PyTorch's CPU index (see PyTorch's installation page).
torch=torch==2.13.0
# numpy stays the one that osgeo was compiled for; packages in the user's home must not come before it.
export PYTHONNOUSERSITE=1 PIP_ROOT_USER_ACTION=ignore PIP_DISABLE_PIP_VERSION_CHECK=1
unset PYTHONPATH PYTHONHOME PIP_TARGET PIP_PREFIX PIP_USER

say() { printf '\033[1m%s\033[0m\n' "$*"; }
die() { printf '%s\n' "$@" >&2; exit 1; }
installed() { [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

exec 9> .setup-lock; flock 9 # two makes at once: the second one waits and then finds all done

reference=${1:-}
if [ "$reference" = reference ] && ! .venv/bin/python -c 'import pydensecrf' 2> /dev/null; then
  packages+=(g++ python3-dev)
fi
if command -v apt-get > /dev/null; then
  missing=(); for name in "${packages[@]}"; do installed "$name" || missing+=("$name"); done
  if [ ${#missing[@]} -gt 0 ]; then
    as_root=(); [ "$(id -u)" = 0 ] || as_root=(sudo)
    [ "$(id -u)" = 0 ] || command -v sudo > /dev/null || die "These packages are missing, and there is no sudo. As root, run:" \
      "  apt-get install --no-install-recommends ${missing[*]}"
    say "Installing ${missing[*]}"
    apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -o Acquire::Retries=3 -o DPkg::Lock::Timeout=300)
    "${apt[@]}" update
    "${apt[@]}" install -y --no-install-recommends "${missing[@]}"
  fi
elif ! "$system" -c 'import qgis.core, osgeo, venv, pip' 2> /dev/null; then
  die "This is not Debian or Ubuntu, so please install these by hand, then run make again:" \
    "  QGIS 3.22 or newer with its Python bindings for $system (import qgis.core), and that Python's venv and pip." \
    "  For the tests of the desktop also: xvfb, xauth, scrot." \
    "On Windows and macOS: 'make package' on any machine, then QGIS > Plugins > Install from ZIP; 'Install packages' in the" \
    "Water DL toolbox does the rest."
fi

# What pip is asked for, and what it must leave as the system has it (an upgrade of numpy there makes a new .venv).
wanted=$("$system" -s - << 'PYTHON'
try:
    import tomllib
except ImportError:  # before Python 3.11
    from pip._vendor import tomli as tomllib
groups = tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]
print("\n".join(line for group in groups.values() for line in group))
PYTHON
)
pins=$("$system" -s -c 'from water_dl_plugin.packages import pins; print("\n".join(pins()))')
base=$(printf '%s\n' "$("$system" -V)" "$pins" | sha256sum) # another Python, or another numpy of the system: everything anew
stamp=$(printf '%s\n' "$base" "$wanted" "$torch" | sha256sum)
if [ "$(cat .venv/.setup-stamp 2> /dev/null)" != "$stamp" ]; then
  say "Installing Python packages into .venv (a few minutes)"
  [ "$(cat .venv/.setup-base 2> /dev/null)" = "$base" ] || "$system" -m venv --clear --system-site-packages .venv
  echo "$base" > .venv/.setup-base
  printf '%s\n' "$wanted" > .venv/requirements.txt
  printf '%s\n' "$pins" "$torch" 'affine<3' > .venv/constraints.txt # affine 3 needs a newer attrs than Debian 12's
  .venv/bin/python -m pip install -q --no-compile --only-binary :all: -c .venv/constraints.txt -r .venv/requirements.txt
  .venv/bin/python -c 'import osgeo.gdal_array, qgis.core, torch, onnxruntime' || die "The packages in .venv don't work together (see above)."
  echo "$stamp" > .venv/.setup-stamp
fi

if [ "$reference" = reference ] && ! .venv/bin/python -c 'import pydensecrf' 2> /dev/null; then
  say "Building pydensecrf2 (a minute)"
  .venv/bin/python -m pip install -q -c .venv/constraints.txt pydensecrf2==1.1 ||
    say "It can't be built here: tests that compare with it are skipped."
fi

. scripts/qgis_env.sh
make_profile

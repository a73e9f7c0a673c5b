# Sourced by setup.sh, qgis_process and qgis: the environment that QGIS programs need to find the plugin and its packages.
# shellcheck shell=bash
root=$(dirname "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")")

# QGIS's embedded Python takes the first interpreter of PATH as its home: it must be .venv, never another Python's.
export PATH="$root/.venv/bin:/usr/bin:/bin:$PATH" PYTHONNOUSERSITE=1
unset PYTHONHOME
export QGIS_CUSTOM_CONFIG_PATH="${QGIS_CUSTOM_CONFIG_PATH:-$root/.qgis-profile}"
export QGIS_PLUGINPATH="${QGIS_PLUGINPATH:-$root}"
# Qt 5 reads file names as Latin-1 unless the locale says otherwise.
[ "$(locale charmap 2>/dev/null)" = UTF-8 ] || export LC_ALL=C.UTF-8

make_profile() { # the plugin switched on, no questions at start
  local ini="$QGIS_CUSTOM_CONFIG_PATH/profiles/default/QGIS/QGIS3.ini"
  [ ! -e "$ini" ] || return 0
  mkdir -p "$(dirname "$ini")"
  printf '%s\n' '[PythonPlugins]' 'water_dl_plugin=true' 'processing=true' '' \
    '[qgis]' 'checkVersion=false' 'showTips=false' '' '[app]' 'news-feed\disabled=true' > "$ini"
}

run_qgis() { # PROGRAM ARGUMENT...
  local program=$1 found; shift
  [ -x "$root/.venv/bin/python" ] || { echo "There is no .venv yet. Run 'make setup' in $root first." >&2; exit 1; }
  make_profile
  # Debian 12's script around qgis_process.bin always fails ("Command --noversioncheck not known!").
  found=$(command -v "$program.bin" || command -v "$program") || { echo "$program is not installed. Run 'make setup' in $root." >&2; exit 1; }
  exec "$found" "$@"
}

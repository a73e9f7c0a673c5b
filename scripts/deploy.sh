#!/bin/bash
# Puts the plugin into your own QGIS: a copy of what git tracks, or with LINK=1 a link to this clone (for developers).
# PROFILE=name chooses another profile than `default`.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0" 2> /dev/null || echo "$0")")/.."
case "$(uname -s)" in
  Darwin) base="$HOME/Library/Application Support/QGIS/QGIS3" ;;
  *) base="${XDG_DATA_HOME:-$HOME/.local/share}/QGIS/QGIS3" ;;
esac
plugins="${QGIS_CUSTOM_CONFIG_PATH:-$base}/profiles/${PROFILE:-default}/python/plugins"
zip=$(scripts/package.sh)
mkdir -p "$plugins"
rm -rf "$plugins/water_dl_plugin"
if [ -n "${LINK:-}" ]; then
  ln -s "$PWD/water_dl_plugin" "$plugins/water_dl_plugin"
else
  /usr/bin/env python3 -m zipfile -e "$zip" "$plugins"
fi
echo "Water DL is in $plugins."
echo "In QGIS: Plugins > Manage and Install Plugins > Installed, tick Water DL; then run 'Install packages' in its toolbox."

#!/bin/bash
# dist/water_dl_plugin-VERSION.zip, for QGIS > Plugins > Install from ZIP: what git tracks of the plugin's folder, and the licence.
# The same files give the same zip, byte for byte.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."
[ -e .git ] || { echo "This folder is no git clone, so it is not known which files belong to the plugin." >&2; exit 1; }
mkdir -p dist
git ls-files -z -- water_dl_plugin | /usr/bin/env python3 -c '
import os, re, sys, zipfile
names = sorted(filter(None, sys.stdin.buffer.read().decode().split("\0")))
if not names:
    sys.exit("git tracks no file of water_dl_plugin.")
version = re.search(r"^version=(.+)$", open("water_dl_plugin/metadata.txt", encoding="utf-8").read(), re.M).group(1)
target = f"dist/water_dl_plugin-{version}.zip"
with zipfile.ZipFile(target + ".part", "w", zipfile.ZIP_DEFLATED) as archive:
    for source, name in [("LICENSE", "water_dl_plugin/LICENSE")] + [(name, name) for name in names]:
        entry = zipfile.ZipInfo(name)  # dated 1980, whatever the clock says
        entry.external_attr, entry.compress_type = 0o100644 << 16, zipfile.ZIP_DEFLATED
        archive.writestr(entry, open(source, "rb").read())
os.replace(target + ".part", target)
print(target)
'

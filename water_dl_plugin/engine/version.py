"""The version of Water DL, read from metadata.txt: it is stated there once, for QGIS and for the files that we write."""

from __future__ import annotations

import configparser
import os


def version() -> str:
    parser = configparser.ConfigParser()
    parser.read(os.path.join(os.path.dirname(os.path.dirname(__file__)), "metadata.txt"), encoding="utf-8")
    return parser.get("general", "version")

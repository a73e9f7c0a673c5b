"""Writes docs/reference.md: every algorithm with every parameter, as QGIS itself lists them (`make docs`)."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")  # before Qt is loaded

from qgis.core import QgsApplication, QgsProcessingParameterDefinition, QgsProcessingParameterEnum, QgsProcessingParameterNumber

ROOT = Path(__file__).resolve().parent.parent
ADVANCED = QgsProcessingParameterDefinition.Flag.FlagAdvanced
OPTIONAL = QgsProcessingParameterDefinition.Flag.FlagOptional


def page(provider) -> str:
    """The reference of all algorithms, in Markdown."""
    parts = [
        "# Reference\n\nMade by `make docs` from the settings in the code. Every algorithm runs from the toolbox, in batch, in models, with\n"
        '`processing.run("waterdl:NAME", {...})` and with `scripts/qgis_process run waterdl:NAME -- PARAMETER=VALUE ...`.\n'
        "Parameters in *italics* are folded away as advanced.\n"
    ]
    for algorithm in sorted(
        provider.algorithms(), key=lambda a: (a.group(), a.name() not in ("exportchips", "trainmodel", "classifyraster"), a.name())
    ):
        text = re.sub(r"<h3>.*", "", algorithm.shortHelpString())
        parts.append(f"## {algorithm.displayName()}\n\n`waterdl:{algorithm.name()}`, group {algorithm.group()}\n\n{text}\n")
        rows = [row(d) for d in algorithm.parameterDefinitions()]
        if rows:
            parts.append("| parameter | default | meaning |\n| --- | --- | --- |\n" + "\n".join(rows) + "\n")
        inputs = {d.name() for d in algorithm.parameterDefinitions()}
        results = [f"`{o.name()}` ({o.description()})" for o in algorithm.outputDefinitions() if o.name() not in inputs]
        if results:
            parts.append(f"Also gives: {', '.join(results)}.\n")
    return "\n".join(parts)


def row(d: QgsProcessingParameterDefinition) -> str:
    name = f"*`{d.name()}`*" if d.flags() & ADVANCED else f"`{d.name()}`"
    default = d.defaultValue()
    shown = "" if default in (None, "") else f"`{str(default).lower() if isinstance(default, bool) else default}`"
    if not shown:
        shown = "optional" if d.flags() & OPTIONAL else "**needed**"
    text = f"{d.description()}: {d.help()}"
    if isinstance(d, QgsProcessingParameterEnum):
        text += f" One of {', '.join(f'`{o}`' for o in d.options())}."
    if isinstance(d, QgsProcessingParameterNumber):
        low, high = (v if (abs(v) < 1e300 and abs(v) < 2**31 - 1) or v == 0 else None for v in (d.minimum(), d.maximum()))
        if low is not None and high is not None:
            text += f" From {low:g} to {high:g}."
        elif low is not None:
            text += f" At least {low:g}."
    return f"| {name} | {shown} | {text.replace('|', '/')} |"


if __name__ == "__main__":
    application = QgsApplication([], False)
    application.initQgis()
    sys.path.insert(0, str(ROOT))
    from water_dl_plugin.provider import WaterProvider

    provider = WaterProvider()
    provider.refreshAlgorithms()
    (ROOT / "docs" / "reference.md").write_text(page(provider), encoding="utf-8")
    print("docs/reference.md")
    application.exitQgis()

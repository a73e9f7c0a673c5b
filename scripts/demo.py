"""The main job on a real scene, through the real qgis_process: labels -> chips -> model -> map -> figures.

    make demo                                         the Great Salt Lake, with the labels that ship with the plugin
    make demo SCENE=scene.tif LABELS=labels.gpkg      your own files; CLASS_FIELD=class names the class

Results lie in demo/ (OUT=folder for another one). After the first run no network is needed.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".cache"
LABELS = ROOT / "water_dl_plugin" / "resources" / "demo" / "great_salt_lake.geojson"
PACKAGE, INSIDE = "localtileserver==1.0.0rc3", "localtileserver/tiler/data/landsat.tif"
SHA256 = "a975165abd0f643e7865b2ba9f19d02eb8eb57a274cdcd4bdacca30107c81b66"


def main() -> None:
    started = time.time()
    scene, labels = os.environ.get("SCENE"), os.environ.get("LABELS")
    if bool(scene) != bool(labels):
        sys.exit("Give both SCENE=... and LABELS=..., or none of them.")
    own = bool(scene)
    scene = Path(scene).resolve() if own else fetch_scene()
    path, *options = (labels or str(LABELS)).split("|")
    labels = "|".join([str(Path(path).resolve()), *options])
    field = os.environ.get("CLASS_FIELD", "class")
    out = Path(os.environ.get("OUT") or ROOT / "demo").resolve()
    out.mkdir(parents=True, exist_ok=True)
    chips, model = out / "chips", out / "water.onnx"

    if own:  # nobody has set labels apart: a third of the map's blocks is held out
        split, learn, truth = {"TEST_SHARE": 0.33}, labels, labels
        check = {"AREA": f"{chips / 'chips.gpkg'}|layername=blocks|subset=\"split\"='test'"}
    else:  # the labels say themselves which places are held out
        split, learn, truth, check = (
            {"TILE_SIZE": 128, "STRIDE": 96},
            f"{labels}|subset=\"role\"='train'",
            f"{labels}|subset=\"role\"='check'",
            {},
        )
    say("1/4  Chips out of scene and labels")
    run("exportchips", INPUT=scene, LABELS=learn, CLASS_FIELD=field, OUTPUT=chips, **split)
    say("2/4  Training a small U-Net on this computer's processor")
    run("trainmodel", CHIPS=chips, EPOCHS=os.environ.get("EPOCHS", 12), OUTPUT=model, REPORT=out / "training.html")
    say("3/4  Mapping the whole scene")
    run("classifyraster", INPUT=scene, MODEL=model, OUTPUT=out / "water.tif", PROBABILITY=out / "probability.tif")
    say("4/4  Assessing the map on labels that training has not seen")
    run(
        "assessclassification", INPUT=out / "probability.tif", LABELS=truth, CLASS_FIELD=field,
        REPORT=out / "assessment.html", CSV=out / "assessment.csv", JSON=out / "assessment.json", **check,
    )  # fmt: skip
    project(out, scene, labels)
    figures = json.loads((out / "assessment.json").read_text(encoding="utf-8"))
    at = figures["classes"].index(figures["class_of_interest"])
    low, high = figures.get("intervals", {}).get("iou", [[None, None]] * (at + 1))[at]
    between = f" (95 % interval {low:.3f} to {high:.3f})" if low is not None else ""
    say(f"IoU of {figures['class_of_interest']} on held-out places: {figures['iou'][at]:.4f}{between}")
    for name, what in (
        ("water.qgz", "QGIS project with all layers: double-click it, or scripts/qgis " + show(out / "water.qgz")), ("water.tif", "class raster"),
        ("probability.tif", "probability raster"), ("assessment.html", "how good the map is"), ("training.html", "how the training went"),
        ("quicklook.png", "picture of scene and map"), ("water.onnx", "the model: use it on other scenes"), ("chips", "the chips folder"),
    ):  # fmt: skip
        print(f"  {show(out / name):<24} {what}")
    print(f"Done in {time.time() - started:.0f} s.")


def fetch_scene() -> Path:
    """The Landsat-7 scene out of a package's source archive, fetched once with pip and checked."""
    scene = CACHE / "landsat.tif"
    if scene.exists() and digest(scene) == SHA256:
        return scene
    say(f"0/4  Fetching the scene (97 MB, once; inside the source archive of {PACKAGE})")
    CACHE.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as work:
        # its needs are not wanted, but pip builds the metadata of what it downloads: hence the minute
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", ":all:", "-d", work, PACKAGE]
        if subprocess.run(command, check=False).returncode != 0:
            sys.exit(
                f"The scene can't be fetched. Is there a network? Without one: put the file {INSIDE} of {PACKAGE} at {scene}, or use your own files: make demo SCENE=... LABELS=..."
            )
        archive = next(Path(work).glob("*.tar.gz"))
        with tarfile.open(archive) as tar:
            member = next(m for m in tar if m.isfile() and m.name.endswith(INSIDE))
            content = tar.extractfile(member).read()
    if hashlib.sha256(content).hexdigest() != SHA256:
        sys.exit("The fetched scene is not the one that the labels were drawn on (its sha256 differs).")
    partial = scene.with_suffix(".partial")
    partial.write_bytes(content)
    partial.replace(scene)
    return scene


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def run(algorithm: str, **parameters) -> None:
    """One algorithm through qgis_process; its log is shown, its failure ends the demo with its message."""
    command = [str(ROOT / "scripts" / "qgis_process"), "run", f"waterdl:{algorithm}", "--", *(f"{k}={v}" for k, v in parameters.items())]
    print(
        "  scripts/qgis_process "
        + " ".join(f"'{c}'" if any(s in c for s in " |\"'") else c for c in command[1:]).replace(f"{ROOT}{os.sep}", "")
    )
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    lines = []
    for line in process.stdout:
        lines.append(line)
        text = line.strip().lstrip("0123456789.").strip(" -.")
        if text.startswith(("Epoch", "Runs on", "Warning", "Reading", "Going on")) or " chips (" in text or ("IoU" in text and "%" in text):
            print("    " + text, flush=True)
    if process.wait() != 0:
        sys.exit("".join(lines[-15:]) + f"\nwaterdl:{algorithm} failed.")


def project(out: Path, scene: Path, labels: str) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "demo_project.py"), str(out), str(scene), labels],
        check=False,
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        sys.exit(f"The project could not be made:\n{done.stdout[-1000:]}{done.stderr[-2000:]}")


def show(path: Path) -> str:
    return os.path.relpath(path)


def say(text: str) -> None:
    print(f"\n{text}", flush=True)


if __name__ == "__main__":
    main()

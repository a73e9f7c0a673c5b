"""What SLIC and CRF add to rough maps: part of `make accuracy`, or alone: `python benchmarks/refinement.py --only synthetic`.

Figures are of the class water. IoU and F1 over pixels; boundary F: share of the outlines that lie within 1 or 2 px of each other; specks:
islands of water and holes in it below the size named, most of whose pixels are wrong. Settings are the defaults of `refinewater` with
the pixel size given, whatever the scene. Synthetic scenes: mean of scenes, with the range of IoU; the others: all known pixels pooled.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from dataclasses import replace

import numpy as np

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, ROOT)

import rough_maps  # noqa: E402
import synthetic  # noqa: E402
from rough_maps import Piece  # noqa: E402

from water_dl_plugin.engine import metrics, outline_metrics  # noqa: E402
from water_dl_plugin.engine.config import params  # noqa: E402
from water_dl_plugin.engine.refine import refine_arrays  # noqa: E402
from water_dl_plugin.engine.settings import RefineConfig  # noqa: E402

MODES = {"rough map": "", "SLIC": "slic", "CRF": "crf", "SLIC, then CRF": "slic_crf", "CRF, then SLIC": "crf_slic"}
BLIND = "CRF without near infrared"
PAPER = ("SLIC, then CRF", 0.04)  # must add so much IoU to the standard synthetic scenes; the paper found 0.0692
SCENES, SIZE = range(1, 9), 768
# name: folder of the data, how it is read, pixel size in m, specks below so many pixels
REAL = {
    "naip": ("naip_wetland", rough_maps.naip, 5.0, 25),
    "quickbird": ("quickbird_toulouse", rough_maps.quickbird, 2.6, 25),
    "chips12": ("chips12", rough_maps.chips_12, 30.0, 10),
}
TITLES = {
    "naip": "NAIP 2014, 5 m, 4 bands: a random forest with coarse labels of other years; six windows with drawn waters",
    "quickbird": "QuickBird, 2.6 m, 4 bands: a random forest with polygons of another chip; a drawn river between bridges",
    "chips12": "chips12, 30 m, 7 bands: the default U-Net, each chip by a network that has not seen its place; labels are noisy",
}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="What SLIC and CRF add to rough maps.")
    parser.add_argument("--only", choices=("synthetic", *REAL), help="one kind of scene alone")
    parser.add_argument("settings", nargs="*", metavar="NAME=VALUE", help="other settings of the refinement, e.g. srgb=20 sxy=40")
    given = parser.parse_args(arguments)
    base = settings(given.settings)
    result, start, enough = {}, time.perf_counter(), True
    if given.only in (None, "synthetic"):
        result["synthetic"], enough = made_scenes(base)
    for name, (folder, read, pixel_m, speck) in REAL.items():
        if given.only in (None, name):
            result[name] = real(name, folder, read, pixel_m, speck, base)
    print(f"\n{(time.perf_counter() - start) / 60:.1f} min")
    os.makedirs(rough_maps.OUT, exist_ok=True)
    with open(os.path.join(rough_maps.OUT, "refinement.json"), "w", encoding="utf-8") as file:
        json.dump(result, file, indent=1)
    return 0 if enough else 1


def settings(texts: list[str]) -> RefineConfig:
    """The defaults, with what `name=value` texts change."""
    kinds = {p.name: p.kind for p in params(RefineConfig)}
    given = dict(text.split("=", 1) for text in texts)
    return RefineConfig(**{name: text == "true" if kinds[name] is bool else kinds[name](text) for name, text in given.items()})


def made_scenes(base: RefineConfig) -> tuple[dict, bool]:
    """Tables of the synthetic scenes, and whether SLIC and CRF added what they must."""
    folder = synthetic.find(ROOT)
    if not folder:
        print("\nSynthetic scenes are skipped: the masks are not here (../shared/data/real_water_masks, or WATER_DL_DATA=FOLDER).")
        return {}, True
    result: dict = {}
    for title, setting in synthetic.SETTINGS.items():
        rows = {mode: [] for mode in ((*MODES, BLIND) if title == "standard" else ("rough map", "CRF", "SLIC, then CRF", BLIND))}
        for seed in SCENES if title == "standard" else SCENES[:4]:
            image, truth, probability = synthetic.scene(seed, SIZE, setting, folder)
            everywhere = np.ones(truth.shape, bool)
            for mode in rows:
                bands = image[:3] if mode == BLIND else image
                piece = Piece(bands, probability, everywhere, truth, everywhere)
                rows[mode].append(figures([piece], MODES.get(mode, "crf"), synthetic.PIXEL_M, synthetic.SMALLEST, base))
        of = f"{len(rows['CRF'])} of {SIZE} x {SIZE} px; specks below {synthetic.SMALLEST} px"
        print(f"\nSynthetic scenes, 0.5 m, 4 bands, setting '{title}', {of}\n")
        result[title] = {mode: {key: float(np.mean([one[key] for one in each])) for key in each[0]} for mode, each in rows.items()}
        spread = {mode: [one["iou"] for one in each] for mode, each in rows.items()}
        show(result[title], {mode: f"{min(v):.3f} to {max(v):.3f}" for mode, v in spread.items()})
        for mode, values in spread.items():
            result[title][mode]["iou_range"] = [min(values), max(values)]
    mode, least = PAPER
    gained = result["standard"][mode]["iou"] - result["standard"]["rough map"]["iou"]
    print(f"\n{mode}: {gained:+.3f} IoU on the standard scenes; at least {least:+.3f} is asked for: {'yes' if gained >= least else 'NO'}")
    return result, gained >= least


def real(name: str, folder: str, read, pixel_m: float, speck: int, base: RefineConfig) -> dict:
    """The table of one set of real images."""
    path = rough_maps.data_folder(folder)
    pieces = read(path) if path else []
    if not pieces:
        why = "`make accuracy` has not kept its maps yet" if path else f"../shared/data/{folder} is not here"
        print(f"\n{name} is skipped: {why}.")
        return {}
    pixels = sum(int(np.count_nonzero(piece.known)) for piece in pieces)
    print(f"\n{TITLES[name]}; {pixels} px known; specks below {speck} px\n")
    rows = {mode: figures(pieces, steps, pixel_m, speck, base) for mode, steps in MODES.items()}
    show(rows)
    return rows


def figures(pieces: list[Piece], steps: str, pixel_m: float, speck: int, base: RefineConfig) -> dict:
    """Figures after the steps of a mode, "" for none, pooled over all pieces."""
    matrix, specks, start = np.zeros((2, 2), np.int64), 0, time.process_time()
    counts = {tolerance: np.zeros(4, np.int64) for tolerance in (1, 2)}
    for piece in pieces:
        water = piece.probability >= 0.5
        if steps:
            _, classes = refine_arrays(piece.probability[None], piece.image, piece.valid, replace(base, mode=steps), pixel_m)
            water = classes == 1
        matrix += metrics.confusion(np.where(piece.known, piece.truth, -1), water.astype(np.int8), 2)
        for tolerance in counts:
            counts[tolerance] += outline_metrics.boundary_counts(piece.truth, water, tolerance, piece.known)
        specks += sum(outline_metrics.specks(water, speck, piece.known, piece.truth))
    scores = metrics.scores(matrix)
    return {
        **{key: scores[key][1] for key in ("iou", "f1", "recall", "precision")},
        **{f"boundary_f_{tolerance}": outline_metrics.boundary_scores(each)["f"] for tolerance, each in counts.items()},
        "specks": specks,
        "cpu_seconds": time.process_time() - start,
    }  # fmt: skip


def show(rows: dict, ranges: dict | None = None) -> None:
    keys = ("iou", "f1", "recall", "precision", "boundary_f_1", "boundary_f_2")
    print("|  | IoU | F1 | recall | precision | boundary F 1 px | 2 px | specks |" + (" IoU of scenes |" if ranges else ""))
    print("|---" * (8 + bool(ranges)) + "|")
    for mode, row in rows.items():
        number = f"{row['specks']:.1f}" if ranges else str(row["specks"])
        print("| " + " | ".join([mode, *(f"{row[k]:.3f}" for k in keys), number, *([ranges[mode]] if ranges else [])]) + " |", flush=True)


if __name__ == "__main__":
    sys.exit(main())

"""Is a search for settings worth it? On real chips: the best settings of a small search beside the defaults, on places that took no part.

`.venv/bin/python benchmarks/tuning.py [threads]`. Chips and folds are those of `accuracy.py` (182 chips of 31 places, noisy labels), made
small: of the chips that are not in fold 3, 40 train and 24 validate (other places). The searches, 14 trials over the usual settings of linknet
(4 epochs each) and of svm (2000 pixels per class), see nothing else. Then defaults and best settings are trained (linknet: 10 epochs) with three
seeds each, and judged on the 46 chips of fold 3: IoU of water, pooled over all pixels. Results also go to benchmarks/out/tuning.json.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import sys
import time

import numpy as np

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, ROOT)

import chips12  # noqa: E402

from water_dl_plugin.engine import chips, train  # noqa: E402
from water_dl_plugin.engine.backends import OnnxModel  # noqa: E402
from water_dl_plugin.engine.settings import TrainConfig, TuneConfig  # noqa: E402
from water_dl_plugin.engine.tune.search import tune  # noqa: E402

OUT = os.path.join(ROOT, "benchmarks", "out")
FOLD, SEEDS, FINAL, TRIALS = 2, (0, 1, 2), 10, 14
NETWORKS = {"linknet": {}, "svm": {"pixels_per_class": 2000}}  # with what is fixed


def main() -> int:
    source = chips12.find(ROOT)
    if not source:
        print("Skipped: the chips are not here (../shared/data/chips12 beside the checkout, or WATER_DL_DATA=FOLDER).")
        return 0
    threads = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    work = os.path.join(OUT, "tuning")
    shutil.rmtree(work, ignore_errors=True)
    folder, data = os.path.join(work, "chips"), chips12.read(source)
    test = chips12.folds(data, 3) == FOLD
    chips12.write(folder, data)
    some_chips(folder, chips12.hold_out(folder, data, test, 0))
    results = {name: one(name, fixed, folder, work, data, test, threads) for name, fixed in NETWORKS.items()}
    for name, result in results.items():
        print(f"\n{name}: search {result['search_seconds'] / 60:.1f} min, all {result['seconds'] / 60:.1f} min; best {result['best']}")
        print(
            f"  trial 1 (defaults) {result['trials'][0]['figure']:.3f}, best trial {result['best_figure']:.3f}; importances {result['importances']}"
        )
        for what, row in result["rows"].items():
            spans = (
                f"{k} {np.mean([r[k] for r in row]):.3f} ({min(r[k] for r in row):.3f} to {max(r[k] for r in row):.3f})" for k in row[0]
            )
            print(f"  {what}: {'; '.join(spans)}")
    with open(os.path.join(OUT, "tuning.json"), "w", encoding="utf-8") as file:
        json.dump(results, file, indent=1)
    return 0


def one(name: str, fixed: dict, folder: str, work: str, data, test: np.ndarray, threads: int) -> dict:
    """Search, then train with the defaults and with what was found."""
    started = time.perf_counter()
    config = TuneConfig(architecture=name, trials=TRIALS, epochs=4, fixed=json.dumps(fixed), threads=threads)
    paths = [os.path.join(work, f"{name}.{ending}") for ending in ("json", "sqlite", "html")]
    found = tune(folder, paths[0], config, lambda f, m="": m and print(m, flush=True), *paths[1:])
    searched, rows = time.perf_counter() - started, {}
    with open(paths[0], encoding="utf-8") as file:
        best = json.load(file)
    for what, settings in (("defaults", {"architecture": name, **fixed}), ("best of the search", best)):
        rows[what] = []
        for seed in SEEDS:
            final = dataclasses.replace(TrainConfig.from_json(settings), epochs=FINAL, threads=threads, seed=seed)
            model = os.path.join(work, "model.onnx")
            run = train.train(folder, model, final)
            rows[what].append({"validation miou": run.best_figure, "held-out IoU": iou(model, folder, data, test, threads)})
            print(f"{name}, {what}, seed {seed}: {rows[what][-1]}", flush=True)
    return {
        "rows": rows, "best": best, "best_figure": found.best.figure, "importances": found.importances, "search_seconds": searched,
        "seconds": time.perf_counter() - started, "trials": [dataclasses.asdict(t) for t in found.trials],
    }  # fmt: skip


def some_chips(folder: str, manifest) -> None:
    """Keep 40 chips that train and 24 that validate, evenly over the list."""
    kept = []
    for part, number in (("train", 40), ("validation", 24)):
        there = [c for c in manifest.chips if c.split == part]
        kept += [there[i] for i in np.unique(np.linspace(0, len(there) - 1, number).astype(int))]
    print({part: sum(c.split == part for c in kept) for part in ("train", "validation")})
    chips.write_manifest(folder, dataclasses.replace(manifest, chips=tuple(kept)))


def iou(model: str, folder: str, data, test: np.ndarray, threads: int) -> float:
    """IoU of water over the chips in `test`."""
    network, both, either = OnnxModel(model, "cpu", threads), 0, 0
    for i in np.flatnonzero(test):
        numbers = network.info.normalisation.apply(data.pixels[i], np.repeat(data.valid[i][None], len(data.pixels[i]), 0))
        water = (network(numbers[None])[0, 0] >= 0.5) & data.valid[i]
        truth = data.water[i] & data.valid[i]
        both, either = both + np.count_nonzero(water & truth), either + np.count_nonzero(water | truth)
    return both / max(either, 1)


if __name__ == "__main__":
    sys.exit(main())

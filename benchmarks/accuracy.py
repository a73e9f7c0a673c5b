"""The default training recipe on real chips, beside random forest, support vector machine and two water indices, on places that none has
seen: `make accuracy`.

182 chips (128 x 128 px, bands 1 to 7) of 31 places; labels are noisy. Each place is held out once: three folds, of which the first is
one river with half of all chips. In each fold other whole places validate. Training, model file and mapping are the engine's own:
chips folder -> train -> ONNX -> windows -> probability, cut at the model's threshold of 0.5. All figures are pooled over the pixels
of all held-out chips; the indices are judged on the same pixels.

MNDWI > 0: (green - swir1) / (green + swir1). NDWI: (green - nir) / (green + nir), cut by Otsu's method (one threshold for all
held-out pixels, histogram of 256 bins). Reflectances below 0 count as 0 in the indices.

Other settings than the defaults: `make accuracy ARGS='epochs=10 loss=lovasz'`; one baseline alone: `ARGS=architecture=svm`.
Results also go to benchmarks/out/accuracy.json.
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
import downscaling  # noqa: E402
import levels  # noqa: E402
import refinement  # noqa: E402
import rough_maps  # noqa: E402

from water_dl_plugin.engine import metrics, nets, train  # noqa: E402
from water_dl_plugin.engine.backends import OnnxModel  # noqa: E402
from water_dl_plugin.engine.config import params  # noqa: E402
from water_dl_plugin.engine.infer import predict  # noqa: E402
from water_dl_plugin.engine.raster import Stack  # noqa: E402
from water_dl_plugin.engine.settings import InferConfig, TrainConfig  # noqa: E402

OUT = os.path.join(ROOT, "benchmarks", "out")
FOLDS = 3
GREEN, NIR, SWIR1 = (chips12.BANDS.index(name) for name in ("green", "nir", "swir1"))


def main() -> int:
    source = chips12.find(ROOT)
    if not source:
        print("The chips are skipped: they are not here (../shared/data/chips12 beside the checkout, or WATER_DL_DATA=FOLDER).")
        return refinement.main([]) or downscaling.main([]) or levels.main([])
    wall, cpu = time.perf_counter(), time.process_time()
    config = settings(sys.argv[1:])
    data = chips12.read(source)
    fold = chips12.folds(data, FOLDS)
    work = os.path.join(OUT, "accuracy")
    shutil.rmtree(work, ignore_errors=True)
    folder = os.path.join(work, "chips")
    chips12.write(folder, data)
    probability, runs = {}, {}
    for name in (config.architecture, *(nets.TRAINERS if config.architecture not in nets.TRAINERS else ())):
        title = name if name in nets.TRAINERS else f"{name} / {config.encoder}"
        own = dataclasses.replace(config, architecture=name, **({"stages": "", "initial_weights": ""} if name in nets.TRAINERS else {}))
        probability[title], runs[title] = np.zeros(data.water.shape, np.float32), []
        for k in range(FOLDS):
            model, told = os.path.join(work, f"{name}{k}.onnx"), f"{title}, fold {k + 1} of {FOLDS}"
            runs[title].append(one_fold(folder, data, fold == k, own, model, probability[title], told))

    ndwi, mndwi = index(data, NIR), index(data, SWIR1)
    otsu = chips12.otsu_threshold(ndwi[data.valid])
    methods = {
        **{title: chance >= 0.5 for title, chance in probability.items()},
        "MNDWI > 0": mndwi > 0,
        f"NDWI > {otsu:.3f} (Otsu)": ndwi > otsu,
    }
    table = {name: figures(data, water, np.ones(len(fold), bool), config.seed) for name, water in methods.items()}
    by_fold = [{name: figures(data, water, fold == k, config.seed)["iou"] for name, water in methods.items()} for k in range(FOLDS)]
    taken = {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu}
    ours, *others = methods
    margins = {name: margin(data, methods[ours], methods[name], config.seed) for name in others}
    show(data, fold, table, by_fold)
    for name, row in margins.items():
        print(f"IoU less that of {name}: {row['difference']:+.3f} (95 % interval over places {row['low']:+.3f} to {row['high']:+.3f})")
    changed = {p.name: getattr(config, p.name) for p in params(TrainConfig) if getattr(config, p.name) != p.default}
    print(f"\nSettings: {changed or 'the defaults'}; seed {config.seed}")
    print("; ".join(f"{k} {v}" for k, v in train.versions().items()))
    print(f"{taken['seconds'] / 60:.1f} min, CPU {taken['cpu_seconds'] / 60:.1f} min, {os.cpu_count()} cores")
    result = {
        "table": table,
        "margins": margins,
        "iou_by_fold": by_fold,
        "otsu": otsu,
        "runs": runs,
        "settings": config.to_json(),
        "versions": train.versions(),
        **taken,
    }
    with open(os.path.join(OUT, "accuracy.json"), "w", encoding="utf-8") as file:
        json.dump(result, file, indent=1)
    if config.architecture not in nets.TRAINERS:
        rough_maps.keep_chips(data, next(iter(probability.values())))
    print("\n## Refinement")
    refined = refinement.main([])
    print("\n## Downscaling")
    finer = downscaling.main([])
    print("\n## Levels")
    return refined or finer or levels.main([])


def settings(arguments: list[str]) -> TrainConfig:
    """The defaults, with what `name=value` arguments change."""
    kinds = {p.name: p.kind for p in params(TrainConfig)}
    given = dict(a.split("=", 1) for a in arguments)
    given.setdefault("architecture", "unet")
    return TrainConfig(**{name: text == "true" if kinds[name] is bool else kinds[name](text) for name, text in given.items()})


def one_fold(folder: str, data, test: np.ndarray, config: TrainConfig, model: str, probability: np.ndarray, title: str) -> dict:
    """Train without the chips in `test`, map them, and put what comes out into `probability`."""
    manifest = chips12.hold_out(folder, data, test, config.seed)
    counts = {part: sum(c.split == part for c in manifest.chips) for part in ("train", "validation", "test")}
    print(f"\n{title}: {', '.join(f'{n} chips {part}' for part, n in counts.items())}", flush=True)
    run = train.train(
        folder,
        model,
        config,
        lambda _, message="": print(f"  {message}", flush=True) if message.startswith(("Epoch", "Pixels", "accuracy")) else None,
    )
    network = OnnxModel(model, config.device, config.threads)
    for i in np.flatnonzero(test):
        with Stack(os.path.join(folder, "images", data.names[i])) as source:
            for window, given, _ in predict(source, network, InferConfig()):
                probability[i][window.slices] = given[0]
    return {"chips": counts, "best_epoch": run.best_epoch, "validation_miou": run.best_figure, "history": run.history}


def index(data, other: int) -> np.ndarray:
    """(green - other) / (green + other), 0 where both are 0 or less."""
    green, second = (np.maximum(data.pixels[:, k].astype(np.float32), 0) for k in (GREEN, other))
    return (green - second) / np.maximum(green + second, 1)


def figures(data, water: np.ndarray, chips: np.ndarray, seed: int) -> dict:
    """Figures of the class water over the valid pixels of some chips, with the 95 % interval of IoU over places and the mean IoU of places."""
    per_place = []
    for place in np.unique(data.places[chips]):
        here = chips & (data.places == place)
        ok = data.valid[here]
        per_place.append(metrics.confusion(data.water[here][ok].astype(int), water[here][ok].astype(int), 2))
    scores = metrics.scores(sum(per_place))
    spread = metrics.bootstrap(np.array(per_place), np.random.default_rng([seed, 1]))["iou"][1]
    each = np.array([metrics.scores(m)["iou"][1] for m in per_place])
    return {
        **{key: scores[key][1] for key in ("iou", "f1", "recall", "precision")}, "accuracy": scores["accuracy"], "interval": list(spread),
        "iou_mean_of_places": float(np.nanmean(each)), "places": int(np.isfinite(each).sum()),
    }  # fmt: skip


def margin(data, water: np.ndarray, other: np.ndarray, seed: int, repeats: int = 2000) -> dict:
    """IoU of one map less that of another, and its 95 % interval when whole places are drawn anew, the same ones for both."""
    places = [data.places == p for p in np.unique(data.places)]
    pairs = np.array(
        [
            [metrics.confusion(data.water[k][data.valid[k]].astype(int), m[k][data.valid[k]].astype(int), 2) for k in places]
            for m in (water, other)
        ]
    )
    times = np.random.default_rng([seed, 2]).multinomial(len(places), np.full(len(places), 1 / len(places)), size=repeats)
    both = []
    for matrices in pairs:
        drawn = np.concatenate([matrices.sum(axis=0)[None], np.tensordot(times, matrices, 1)])
        both.append(drawn[:, 1, 1] / (drawn.sum(axis=(1, 2)) - drawn[:, 0, 0]))
    difference = both[0] - both[1]
    low, high = np.quantile(difference[1:], [0.025, 0.975])
    return {"difference": float(difference[0]), "low": float(low), "high": float(high), "share_above_0": float((difference[1:] > 0).mean())}


def show(data, fold: np.ndarray, table: dict, by_fold: list) -> None:
    pixels = int(data.valid.sum())
    print(
        f"\n{len(fold)} chips of {len(np.unique(data.places))} places, {pixels / 1e6:.2f} Mpx, each predicted by a model that has not seen its place; class water\n"
    )
    print(
        "|  | IoU | 95 % interval | F1 | recall | precision | accuracy | mean IoU of places | "
        + " | ".join(f"IoU fold {k + 1}" for k in range(FOLDS))
        + " |"
    )
    print("|---" * (8 + FOLDS) + "|")
    for name, row in table.items():
        low, high = row["interval"]
        cells = [
            f"{row['iou']:.3f}",
            f"{low:.2f} to {high:.2f}",
            *(f"{row[k]:.3f}" for k in ("f1", "recall", "precision", "accuracy", "iou_mean_of_places")),
        ]
        print("| " + " | ".join([name, *cells, *(f"{one[name]:.3f}" for one in by_fold)]) + " |")


if __name__ == "__main__":
    sys.exit(main())

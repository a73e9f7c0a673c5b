"""The search for settings: it finds what is better, forgets nothing, leaves nothing behind, and gives what a training then gives."""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import optuna
import pytest

from tests import helpers
from tests.basins import level_chips
from tests.engine.tune_worker import touchy_network
from water_dl_plugin.engine import tasks, train
from water_dl_plugin.engine.chips import ChipSet
from water_dl_plugin.engine.errors import Cancelled, ChipsError, ConfigError, OutputError, TrainingError
from water_dl_plugin.engine.nets import ARCHITECTURES, TRAINERS
from water_dl_plugin.engine.settings import TrainConfig, TuneConfig
from water_dl_plugin.engine.tune import machine, pool, space
from water_dl_plugin.engine.tune.search import tune
from water_dl_plugin.engine.tune.study import Study

ROOT = Path(__file__).parents[2]
FIXED = '{"mixed_precision": false, "batch_size": 4, "monitor": "loss"}'
RATES = {
    "architecture": "tiny",
    "trials": 14,
    "epochs": 5,
    "search": "learning_rate",
    "fixed": FIXED,
    "parallel": 1,
    "threads": 1,
    "device": "cpu",
}


@pytest.fixture(scope="module", autouse=True)
def networks(tiny):
    helpers.allow_network("touchy", touchy_network())
    before, pool.WORKER = pool.WORKER, "tests.engine.tune_worker"
    yield
    pool.WORKER = before
    helpers.forget_network("touchy")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    images, labels = helpers.bright_is_water(8)
    return helpers.chips_folder(tmp_path_factory.mktemp("tune") / "chips", images, labels, ["train"] * 6 + ["validation"] * 2)


def left_over() -> list:
    """Folders and programs of searches."""
    place, programs = Path(tempfile.gettempdir()), []
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            programs += [process] if f"{place}/water_dl_tune_".encode() in process.read_bytes() else []
    return [*place.glob("water_dl_tune_*"), *programs]


@pytest.fixture(autouse=True)
def own_temporary_folder(tmp_path, monkeypatch):
    """So that searches of other programs on this machine are not taken for ours."""
    place = tmp_path / "tmp"
    place.mkdir()
    monkeypatch.setenv("TMPDIR", str(place))
    monkeypatch.setattr(tempfile, "tempdir", None)


@pytest.fixture(scope="module")
def found(folder, tmp_path_factory):
    """One search over the learning rate, from beginning to end."""
    out, said = tmp_path_factory.mktemp("found"), []
    search = tune(
        folder,
        str(out / "best.json"),
        TuneConfig(**RATES),
        lambda f, m="": said.append((f, m)),
        str(out / "study.sqlite"),
        str(out / "report.html"),
    )
    return search, out, said


def course(trials) -> list:
    return [(t.number, t.state, t.values, t.figure, t.epoch, t.course) for t in trials]


# ------------------------------------------------------------------------------------------------------------------- what it finds


def test_a_planted_good_learning_rate_is_found(found):
    """Five epochs of a tiny network: a rate of 5e-4, the default, is far too small."""
    search, _, said = found
    first = search.trials[0]
    assert first.values == {"learning_rate": 5e-4} and first.number == 1
    assert search.best.values["learning_rate"] > 2e-3 and search.best.figure < 0.7 * first.figure
    assert search.best.figure == min(t.figure for t in search.trials if t.state == "complete")
    later = sorted(t.values["learning_rate"] for t in search.trials[10:])
    assert later[1] > 2e-3, "what is proposed after ten trials by chance does not follow what was found"
    assert [t.number for t in search.trials] == list(range(1, 15)) and len({t.values["learning_rate"] for t in search.trials}) == 14
    fractions = [f for f, _ in said]
    assert fractions[-1] == 1 and all(0 <= f <= 1 for f in fractions) and sum(m.startswith("Trial ") for _, m in said) == 14


def test_poor_trials_are_given_up_early_and_good_ones_are_not(found):
    search, _, _ = found
    pruned = [t for t in search.trials if t.state == "pruned"]
    assert pruned and all(len(t.course) < 5 for t in pruned) and all(len(t.course) == 5 for t in search.trials if t.state == "complete")
    for t in pruned:
        epoch, figure = t.course[-1]
        before = sorted(dict(o.course)[epoch] for o in search.trials[: t.number - 1] if o.state == "complete" and epoch <= len(o.course))
        assert figure >= before[len(before) // 2 - (len(before) % 2 == 0)], "better than the median of those before"


def test_train_model_comes_to_the_same_figure(found, folder, tmp_path):
    search, out, _ = found
    best = json.loads((out / "best.json").read_text())
    assert best == {"architecture": "tiny", **json.loads(FIXED), **search.best.values} == search.settings
    config = TrainConfig.from_json({**best, "epochs": 5, "threads": 1, "device": "cpu"})
    run = train.train(folder, str(tmp_path / "m.onnx"), config)
    assert run.best_figure == search.best.figure and run.best_epoch == search.best.epoch


def test_only_what_was_asked_for_is_left(found):
    _, out, _ = found
    assert sorted(os.listdir(out)) == ["best.json", "report.html", "study.sqlite"] and not left_over()
    page = (out / "report.html").read_text(encoding="utf-8")
    assert (
        page.count("<svg") == 3
        and "Best loss (trial" in page
        and "learning_rate" in page
        and "http" not in page.split("</style>")[1].split("<svg")[0]
    )


def test_a_study_that_is_complete_is_only_told_again(found, folder, tmp_path, monkeypatch):
    search, out, _ = found
    monkeypatch.setattr(pool, "Worker", None)  # nothing may be started
    again = tune(folder, str(tmp_path / "best.json"), TuneConfig(**{**RATES, "trials": 3}), study=str(out / "study.sqlite"))
    assert course(again.trials) == course(search.trials) and (tmp_path / "best.json").read_text() == (out / "best.json").read_text()


# --------------------------------------------------------------------------------------------------------------- broken off, going on


_CHILD = """
import json, sys, time
from tests import helpers
from tests.engine.tune_worker import touchy_network
from water_dl_plugin.engine.settings import TuneConfig
from water_dl_plugin.engine.tune import pool, search
helpers.allow_network("tiny", helpers.tiny_network())
pool.WORKER = "tests.engine.tune_worker"
folder, output, study, config = sys.argv[1:]
since = []
def progress(fraction, message=""):
    since.extend([1] if since or message.startswith("Trial 4 of") else [])
    if len(since) == 2:  # the fifth has been given to the program, and it waits for an answer
        print("now", flush=True)
        time.sleep(60)
search.tune(folder, output, TuneConfig(**json.loads(config)), progress, study)
"""


@pytest.mark.slow
def test_a_killed_search_goes_on_as_if_it_had_not_been(found, folder, tmp_path):
    study, output = tmp_path / "s.sqlite", tmp_path / "best.json"
    child = subprocess.Popen(
        [sys.executable, "-c", _CHILD, folder, str(output), str(study), json.dumps(RATES)], cwd=ROOT, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    try:
        with child.stdout:
            assert child.stdout.readline() == "now\n" and len(left_over()) == 2  # a folder, and a program
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    for _ in range(100):
        if not left_over():
            break
        time.sleep(0.1)
    assert not left_over() and not output.exists()
    states = [t.state.name for t in optuna.load_study(study_name="Water DL", storage=f"sqlite:///{study}").trials]
    assert "RUNNING" in states, "nothing was broken off: the test shows nothing"
    said = []
    search = tune(folder, str(output), TuneConfig(**RATES), lambda f, m="": said.append(m), str(study))
    assert "Going on with a study of 4 trials." in said and course(search.trials) == course(found[0].trials)
    states = [t.state.name for t in optuna.load_study(study_name="Water DL", storage=f"sqlite:///{study}").trials]
    assert "RUNNING" not in states and len(states) == 15


def test_cancel_ends_all_programs_and_keeps_the_best(folder, tmp_path):
    config, study, output = {**RATES, "parallel": 2, "trials": 4, "pruning": False}, str(tmp_path / "s.sqlite"), tmp_path / "best.json"
    seen = []

    def cancel(fraction, message=""):
        seen.extend([message] if message.startswith("Trial") else [])
        if len(seen) == 2:
            assert len(left_over()) == 1 + 2  # the folder, and a program per trial at once
            raise Cancelled

    with pytest.raises(Cancelled, match=r"best settings so far \(trial \d\)"):
        tune(folder, str(output), TuneConfig(**config), cancel, study, str(tmp_path / "r.html"))
    assert not left_over() and TrainConfig.from_json(json.loads(output.read_text())) and (tmp_path / "r.html").exists()
    states = [t.state.name for t in optuna.load_study(study_name="Water DL", storage=f"sqlite:///{study}").trials]
    assert "RUNNING" not in states and states.count("COMPLETE") == 2 and "FAIL" in states


@pytest.mark.slow
def test_failed_trials_are_told_and_the_search_goes_on(folder, tmp_path):
    """Width 16 runs out of memory, width 48 is killed by the system."""
    said, config = [], {**RATES, "architecture": "touchy", "search": "width", "trials": 4, "epochs": 1, "seed": 6}
    search = tune(
        folder, str(tmp_path / "best.json"), TuneConfig(**config), lambda f, m="": said.append(m), report=str(tmp_path / "r.html")
    )
    why = {t.values["width"]: t.why for t in search.trials}
    assert set(why) == {16, 24, 32, 48}, "another seed is needed: not all widths were drawn"
    assert why[16].startswith("Memory ran out (RuntimeError: CUDA out of memory") and "was killed: memory may have run out" in why[48]
    assert all((t.state == "failed") == (t.values["width"] in (16, 48)) for t in search.trials) and search.best.values["width"] in (24, 32)
    assert sum(m.startswith("Warning: Trial") for m in said) == sum(t.state == "failed" for t in search.trials)
    assert "CUDA out of memory" in (tmp_path / "r.html").read_text(encoding="utf-8") and not left_over()


def test_a_search_in_which_all_fails_ends_soon_with_the_reason(folder, tmp_path):
    config = {**RATES, "fixed": '{"class_weights": "a, b"}', "trials": 20}
    said = []
    with pytest.raises(TrainingError, match="5 failed, the first one because: Class weights can't be 'a, b'"):
        tune(folder, str(tmp_path / "best.json"), TuneConfig(**config), lambda f, m="": said.append(m))
    assert sum("failed" in m for m in said) == 5 and os.listdir(tmp_path) == ["tmp"] and not left_over()


def test_time_limit(folder, tmp_path):
    with pytest.raises(TrainingError, match="Raise the time limit"):
        tune(folder, str(tmp_path / "best.json"), TuneConfig(**{**RATES, "time_limit": 0.001}), study=str(tmp_path / "s.sqlite"))
    assert not left_over() and sorted(os.listdir(tmp_path)) == ["s.sqlite", "tmp"]


def test_nothing_is_begun_that_can_not_end(folder, tmp_path):
    images, labels = helpers.bright_is_water(3)
    only = helpers.chips_folder(tmp_path / "only", images, labels, ["train"] * 3)
    for where, changes, error in (
        (only, {"fixed": '{"validation_share": 0}'}, ChipsError), (folder, {"architecture": "demunet"}, ConfigError), (folder, {"fixed": "{"}, ConfigError),
        (folder, {"search": "loss"}, ConfigError), (folder, {"search": "depth"}, ConfigError),
    ):  # fmt: skip
        with pytest.raises(error):
            tune(where, str(tmp_path / "best.json"), TuneConfig(**{**RATES, **changes}), study=str(tmp_path / "s.sqlite"))
    assert sorted(os.listdir(tmp_path)) == ["only", "tmp"]


# ------------------------------------------------------------------------------------------------------------------------- the study


SPACE = {"learning_rate": space.Range(1e-5, 1e-1, log=True), "batch_size": (4, 8, 16), "trees": space.Range(50, 400, log=True)}
IDENTITY = {"chips": "abc", "space": space.to_json(SPACE), "seed": 3, "epochs": 7}
FIRST = {"learning_rate": 5e-4, "batch_size": 8, "trees": 150}


def study_of(path, **changes) -> Study:
    return Study(str(path), {**IDENTITY, **changes}, SPACE, False, 7, True)


def test_proposals_depend_on_seed_place_and_what_is_known(tmp_path):
    runs = []
    for name, seed, number, broken in (("a", 3, 12, ()), ("b", 3, 12, (1, 2, 12)), ("c", 4, 2, ())):
        with study_of(tmp_path / f"{name} ?#%20é.sqlite", seed=seed) as study:
            values = []
            while (place := study.next_place(number)) is not None:
                if place in broken:
                    assert study.propose(place, FIRST) is not None
                    study.break_off(place)
                values.append(study.propose(place, FIRST))
                study.end(place, "complete", -abs(math.log10(values[-1]["learning_rate"]) + 2), epoch=1)
            runs.append(values)
            shares = study.importances()
            assert (
                max(shares, key=shares.get) == "learning_rate" and sum(shares.values()) == pytest.approx(1)
                if number == 12
                else shares == {}
            )
    assert runs[0] == runs[1] and runs[0][1] != runs[2][1] and runs[0][0] == FIRST == runs[2][0]
    assert len({v["learning_rate"] for v in runs[0]}) == 12 and all(
        isinstance(v["trees"], int) and 50 <= v["trees"] <= 400 for v in runs[0]
    )
    assert sorted(p.name[0] for p in tmp_path.glob("*.sqlite*")) == ["a", "b", "c"]


def test_what_a_killed_run_left_is_taken_up(tmp_path):
    path = tmp_path / "s.sqlite"
    with study_of(path) as study:
        first = study.propose(1, FIRST)
        study._study.enqueue_trial(FIRST)  # killed between the two steps of a first trial
    with study_of(path) as study:
        assert study.trials() == [] and study.next_place(2) == 1 and study.propose(1, FIRST) == first
        study.end(1, "complete", 0.5, epoch=2, seconds=1.5)
        assert study.propose(2, FIRST) != first
        study.end(2, "failed", why="no reason")
        assert study.next_place(2) is None and study.best().number == 1
        assert next((t.state, t.figure, t.why) for t in study.trials()) == ("complete", 0.5, "")
    states = [t.state.name for t in optuna.load_study(study_name="Water DL", storage=f"sqlite:///{path}").trials]
    assert sorted(states) == ["COMPLETE", "FAIL", "FAIL", "FAIL"]


@pytest.mark.parametrize("changes, words", [
    ({"chips": "xyz", "seed": 4}, r"Not the same: the chips, the seed \(3, now 4\)\."), ({"epochs": 8}, r"the epochs per trial \(7, now 8\)\."), ({"space": {}}, "same: the settings to search."),
])  # fmt: skip
def test_another_search_is_refused(tmp_path, changes, words):
    study_of(tmp_path / "s.sqlite").close()
    with pytest.raises(ConfigError, match=words):
        study_of(tmp_path / "s.sqlite", **changes)
    study_of(tmp_path / "s.sqlite").close()  # and is let go of


def test_another_file_is_refused_and_left_as_it_is(tmp_path):
    layer = Path(helpers.write_layer(tmp_path / "lakes.gpkg", [("POINT (1 2)", {"name": "a"})], helpers.crs(4326)))
    text, other = tmp_path / "text.sqlite", tmp_path / "other.sqlite"
    text.write_text("no database at all" * 100)
    optuna.create_study(study_name="mine", storage=f"sqlite:///{other}")
    for path in (layer, text, other):
        before = path.read_bytes()
        with pytest.raises(ConfigError, match="is no study of Water DL"):
            study_of(path)
        assert path.read_bytes() == before and not Path(f"{path}.lock").exists()


def test_one_search_at_a_time(tmp_path):
    path = tmp_path / "s.sqlite"
    with study_of(path):
        code = f"import sqlite3; sqlite3.connect({str(path) + '.lock'!r}, timeout=0).execute('BEGIN EXCLUSIVE')"
        assert "locked" in subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stderr
        with pytest.raises(ConfigError, match="in use by another search"):
            study_of(path)
    study_of(path).close()


def test_a_damaged_study_is_told(tmp_path):
    path = tmp_path / "s.sqlite"
    study_of(path).close()
    path.write_bytes(path.read_bytes()[:8192])
    with pytest.raises((ConfigError, OutputError), match="can't be used|no study") as caught:
        study_of(path).trials()
    assert "Choose another" in caught.value.remedy or "another study" in caught.value.remedy


# -------------------------------------------------------------------------------------------------------------- space and machine


@pytest.mark.parametrize("name", [n for n in (*ARCHITECTURES, *TRAINERS) if n not in ("demunet", "levelnet")])
def test_the_defaults_lie_in_the_space(name, folder):
    task = tasks.make(ChipSet(folder).manifest)
    config = TuneConfig(architecture=name)
    start = train.fitting(space.base(config), task)
    known = space.searchable(start, task, False)
    for chosen in ("", ",".join(known)):
        made = space.make(TuneConfig(architecture=name, search=chosen), start, task, 2, 6)
        first = space.defaults(made, start)
        assert all(0 <= space.position(axis, first[n]) <= 1 for n, axis in made.items())
        TrainConfig.from_json({**start.to_json(), **first})
        if not chosen:
            assert {n: getattr(start, n) for n in made} == first, "trial 1 is not the defaults"
    assert ("encoder" in known) == (name in ("unet", "linknet")) and ("trees" in known) == (name == "random_forest")
    assert "slope_weight" not in known and "depth" not in known


def test_levels_are_searched_for_a_small_error_with_one_member(tmp_path):
    """What picks an epoch (none: the last) is not what a search compares; and the attention before the network is an axis."""
    path, _ = level_chips(tmp_path / "c", 20)
    task, config = tasks.make(ChipSet(path).manifest), TuneConfig(architecture="auto")
    start = train.fitting(space.base(config), task)
    made = space.make(config, start, task, 3, 12)
    assert made["attention"] == ("none", "cam", "csam") and made["loss"] == ("huber", "rmse", "mae") and "slope_weight" not in made
    assert (task.monitor, task.searched) == ("last", "rmse") and task.searched in task.lower_is_better
    with pytest.raises(ConfigError, match="members makes no difference"):
        space.fixed(TuneConfig(fixed='{"members": 3}'))


def test_what_has_no_effect_is_not_searched(folder):
    task = tasks.make(ChipSet(folder).manifest)

    def names(elevations=False, **fixed):
        config = TuneConfig(architecture="unet", fixed=json.dumps(fixed))
        return set(space.make(config, train.fitting(space.base(config), task), task, 2, 6, elevations))

    every = names()
    assert every == {"encoder", "learning_rate", "loss", "batch_size", "weight_decay", "flips", "brightness", "noise", "normalisation"}
    assert every - names(stages='[{"loss": "focal"}]') == {"learning_rate", "loss"}
    assert every - names(initial_weights="a.onnx") == {"encoder", "normalisation"}
    assert every - names(monitor="loss") == {"loss"} and every - names(noise=0.1) == {"noise"}
    assert every - names(True) == {"normalisation", "brightness", "noise"}


@pytest.mark.parametrize("changes, words", [
    ({"search": "learning_rat"}, "learning_rat is no setting. What can be searched: encoder, learning_rate"), ({"search": "patience"}, "patience can't be searched"),
    ({"search": "svm_c"}, "svm_c has no effect"), ({"search": "noise", "fixed": '{"noise": 0.1}'}, "noise is fixed"), ({"fixed": '{"epochs": 3}'}, "Use 'Epochs per trial'"),
    ({"fixed": '{"resume": true}'}, "makes no difference"), ({"fixed": "[1]"}, "must be a JSON object"), ({"fixed": '{"nois": 0.1}'}, "Unknown setting nois"),
    ({"fixed": '{"noise": 7}'}, "must be from 0 to 1"),
])  # fmt: skip
def test_mistakes_are_told(folder, changes, words):
    task = tasks.make(ChipSet(folder).manifest)
    with pytest.raises(ConfigError, match=words):
        config = TuneConfig(architecture="unet", **changes)
        space.make(config, train.fitting(space.base(config), task), task, 2, 6)


def test_how_many_fit(monkeypatch):
    assert machine.room_for(1e9, 8e9) == 3 and machine.room_for(1e9, 2e9) == 0 and machine.room_for(3e9, 24e9) == 3
    monkeypatch.setattr(machine, "processors", lambda: 16)
    assert [machine.trials_at_once(*a) for a in ((0, 20), (0, 3), (8, 20), (8, 3), (1, 20), (0, 0))] == [4, 3, 8, 3, 1, 1]
    monkeypatch.setattr(machine, "processors", lambda: 2)
    assert machine.trials_at_once(0, 20) == 2
    assert 1e8 < machine.peak_memory() < 1e11 and 1e7 < machine.free_memory() < 1e14

"""Pages for people: whole, closed to the outside, and safe whatever the names in a stranger's file are."""

import base64
import csv
import html.parser
import io
import json
import os
import re
import resource
import subprocess
import sys
import threading
from contextlib import contextmanager

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from water_dl_plugin.engine import metrics, panels, plots, report_pages
from water_dl_plugin.engine.errors import BandError, ConfigError, GridMismatchError, OutputError
from water_dl_plugin.engine.report import Report, Swatch, number, png
from water_dl_plugin.engine.tables import write_bytes, write_csv, write_json

VOID = {"meta", "img", "br", "hr", "link", "input"}
HOSTILE = "<script>alert(1)</script>\"' onload=x & $\\frac{$ </style><!-- \x00\u202e\udcff 水"


class Page(html.parser.HTMLParser):
    """Reads a page strictly: every element that opens closes, in order; collects ids, references, attributes and text."""

    def __init__(self, path):
        super().__init__()
        self.open, self.tags, self.ids, self.references, self.attributes, self.words = [], [], [], [], [], []
        self.source = path.read_text("utf-8")
        self.feed(self.source)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"<{tag}> has an attribute twice: {names}"
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        self.ids += [value for name, value in attrs if name == "id"]

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data):
        self.words.append(data)

    def check_closed_to_the_outside(self):
        assert not {"script", "link", "iframe", "object", "embed", "a", "base"} & set(self.tags)
        assert len(self.ids) == len(set(self.ids)), "an id is there twice"
        for tag, name, value in self.attributes:
            assert not name.startswith("on"), f"<{tag} {name}>"
            assert "://" not in value, f"<{tag} {name}={value[:80]}>"
            if name in ("src", "href", "xlink:href"):
                assert value.startswith("data:image/png;base64,") or value[1:] in self.ids, f"<{tag} {name}={value[:80]}>"
            for reference in re.findall(r"url\((.*?)\)", value if name not in ("aria-label", "alt") else ""):
                assert reference[0] == "#" and reference[1:] in self.ids, f"<{tag} {name}={value[:80]}>"
        assert "http" not in re.sub(r"http-equiv", "", self.source) and "@import" not in self.source


def history(epochs, **other):
    return [
        {"epoch": e, "stage": "dice" if e < 6 else "lovasz", "loss_train": 1 / e, "loss_valid": 1.2 / e, "accuracy": 0.9,
         "miou": 0.8 - 0.01 * abs(e - 8), "dice": 0.9, "lr": 1e-4 / e, **other}
        for e in range(1, epochs + 1)
    ]  # fmt: skip


def chip(seed=0):
    rng = np.random.default_rng(seed)
    truth = rng.integers(-1, 2, (20, 30))
    return panels.panel(panels.stretch(rng.normal(size=(4, 20, 30)), truth >= 0, (2, 1, 0)), truth, truth % 2, ["#112233", (9, 8, 7)])


def some_curve():
    rng = np.random.default_rng(3)
    curve = metrics.ProbabilityCurve()
    truth = rng.integers(0, 2, 4000)
    curve.update(np.clip(rng.normal(0.3 + 0.4 * truth, 0.2), 0, 1), truth)
    return curve


def write_pages(folder, names=("land", "water"), setting="x"):
    matrix = np.array([[90, 10], [5, 70]])
    common = {"matrix": matrix, "class_names": names, "class_colours": ["#b9a27c", (47, 127, 184)], "settings": {"name": setting}}
    training, assessment = folder / "training.html", folder / "assessment.html"
    report_pages.training_report(
        training, title=names[0], subtitle=names[1], history=history(12), panels_worst=[(chip(1), names[0])], panels_best=[(chip(2), "b")],
        versions={"torch": names[1]}, facts=[(names[0], names[1])], **common,
    )  # fmt: skip
    report_pages.assessment_report(
        assessment, title=names[0], subtitle=names[1], positive=names[1], detection=metrics.detection(matrix, 1),
        areas=[(9e7, 8e7), (5.5e6, 0)],
        curve=some_curve(), intervals=metrics.bootstrap(np.stack([matrix, matrix[::-1]]), np.random.default_rng(0)), **common,
    )  # fmt: skip
    return [Page(training), Page(assessment)]


def test_pages_are_whole_and_closed_to_the_outside(tmp_path):
    for page in write_pages(tmp_path):
        page.check_closed_to_the_outside()
        words = " ".join(page.words)
        assert "land" in words and "0.9000" in words  # recall of land, 90 of 100
        assert page.tags.count("svg") >= 3
    assert "90.0%" in words  # the same in the confusion matrix: the text of figures is text
    assert "Truth (km²)" in words and "−11.1%" in words  # 90 km2 mapped as 80
    assert sorted(path.name for path in tmp_path.iterdir()) == ["assessment.html", "training.html"]


def test_hostile_names_stay_text(tmp_path):
    for page in write_pages(tmp_path, names=(HOSTILE, "$\\frac{$" + "W" * 300), setting=HOSTILE):
        assert "script" not in page.tags and "</style><" not in page.source.replace("</style>\n</head>", "")
        words = "".join(page.words)
        assert "<script>alert(1)</script>" in words, "the name is gone"
        assert "\x00" not in page.source and "\u202e" not in page.source
        page.check_closed_to_the_outside()


def test_hostile_figures_stay_text(tmp_path):
    """matplotlib's SVG goes through string surgery: names that look like markup must not be cut, nor cut anything."""
    name = 'id="x" url(#y) xlink:href="#z" <metadata> style="font: 9px q" $a$'
    figure = Figure()
    axes = figure.add_subplot()
    axes.plot([1, 2], [1, 2], marker="o")
    axes.set_title(name.replace("$", r"\$"))
    page = Report("t")
    page.figure(figure, name)
    page.figure(figure, name)
    page.write(tmp_path / "page.html")
    page = Page(tmp_path / "page.html")
    page.check_closed_to_the_outside()
    assert page.words.count(name) == 4  # two titles, two captions
    assert "DejaVu Sans Mono" in page.source and "Bitstream" not in page.source


def test_colours_can_not_carry_style(tmp_path):
    for colour in ("red;background:url(x)", "#12345", "#12345g", (1, 2), (1, 2, 256), (-1, 0, 0), None, "123", float("nan")):
        with pytest.raises(ConfigError):
            Report("t").legend([Swatch("a", colour)])
    assert panels.rgb("#0a0B0c") == panels.rgb((10, 11, 12)) == panels.rgb(np.array([10, 11, 12, 255])) == (10, 11, 12)


def test_images_come_back_bit_for_bit(tmp_path):
    picture = np.random.default_rng(1).integers(0, 256, (17, 23, 3)).astype(np.uint8)
    page = Report("t")
    page.image(picture, "chip", scale=2)
    page.write(tmp_path / "page.html")
    page = Page(tmp_path / "page.html")
    found = {name: value for tag, name, value in page.attributes if tag == "img"}
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(base64.b64decode(found["src"].split(",")[1])))), picture)
    assert found["width"] == "46" and found["alt"] == "chip"
    for wrong in (picture.astype(float), picture[..., 0], picture[..., :2]):
        with pytest.raises(ValueError, match="uint8"):
            png(wrong)


@pytest.mark.parametrize(
    "rows",
    [
        [{"epoch": 1, "loss_train": 0.5}],
        [{"epoch": 1, "stage": 1, "loss_train": 0.5, "loss_valid": float("nan"), "miou": None, "lr": 0.0}],
        history(3, miou=float("nan"), loss_valid=None),
    ],
)
def test_curves_draw_whatever_is_there(rows, tmp_path):
    page = Report("t")
    page.figure(plots.curves(rows))
    page.write(tmp_path / "page.html")
    Page(tmp_path / "page.html").check_closed_to_the_outside()


def test_curves_mark_the_kept_epoch_and_the_border_of_stages():
    figure = plots.curves(history(12))
    agreement = next(axes for axes in figure.axes if axes.get_label() == "agreement")
    assert agreement.get_title(loc="right") == "kept: epoch 8, mean IoU 0.800"
    dotted = [line.get_xdata()[0] for line in agreement.lines if line.get_linestyle() == "--" or len(set(line.get_xdata())) == 1]
    assert 5.5 in dotted and 8 in dotted
    other = plots.curves(history(12), best_epoch=2)
    assert any(axes.get_title(loc="right") == "kept: epoch 2, mean IoU 0.740" for axes in other.axes)


@pytest.mark.parametrize("classes", [1, 2, 9, 20])
def test_empty_and_large_matrices_and_empty_curves_draw(classes, tmp_path):
    names, colours = [f"class {k}" for k in range(classes)], [(k, k, k) for k in range(classes)]
    for name, matrix in (("empty", np.zeros((classes, classes), int)), ("full", np.full((classes, classes), 10**9))):
        path = tmp_path / f"{name}.html"
        report_pages.assessment_report(
            path,
            title="t",
            matrix=matrix,
            class_names=names,
            class_colours=colours,
            curve=metrics.ProbabilityCurve(),
            areas=[(0, 0)] * classes,
        )
        Page(path).check_closed_to_the_outside()


def test_pages_are_drawn_in_a_worker_thread_without_pyplot(tmp_path):
    code = (
        "import sys, threading; from tests.engine.test_report import write_pages; from pathlib import Path\n"
        f"t = threading.Thread(target=write_pages, args=(Path({str(tmp_path)!r}),)); t.start(); t.join()\n"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, env={**os.environ, "PYTHONPATH": os.getcwd()})
    assert len(list(tmp_path.iterdir())) == 2


def test_import_is_light():
    code = (
        "import sys; import water_dl_plugin.engine.report_pages\n"
        "heavy = {'matplotlib', 'PIL', 'skimage', 'scipy', 'osgeo', 'torch', 'qgis'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": os.getcwd()})


def test_numbers_as_people_read_them():
    assert [number(value) for value in (1234567, 0.5, np.float32(0.25), 12.3456, 1e-5, 0.0, float("nan"), np.int64(7))] == [
        "1\u202f234\u202f567", "0.5000", "0.2500", "12.35", "1e-05", "0.0000", "–", "7",
    ]  # fmt: skip


# --- pictures


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float32, np.float64])
def test_stretch_of_any_type(dtype):
    ramp = np.arange(100, dtype=dtype).reshape(1, 10, 10)
    picture = panels.stretch(ramp, None, (0, 0, 0), percent=(0, 100))
    assert picture.dtype == np.uint8 and picture[0, 0].tolist() == [0, 0, 0] and picture[9, 9].tolist() == [255, 255, 255]
    assert (np.diff(picture[..., 0].ravel().astype(int)) > 0).all()


def test_stretch_ignores_nodata_and_hatches_it():
    pixels = np.random.default_rng(2).normal(100, 10, (3, 40, 40))
    valid = np.ones((40, 40), bool)
    valid[:, :10] = False
    spoiled = pixels.copy()
    spoiled[:, ~valid] = -9999
    spoiled[1, 5, 20] = np.nan
    picture, clean = panels.stretch(spoiled, valid), panels.stretch(pixels, valid)
    np.testing.assert_array_equal(picture[:, :10], panels.hatch(40, 40)[:, :10])
    assert picture[5, 20].tolist() == panels.hatch(40, 40)[5, 20].tolist()
    assert np.abs(picture[6:, 10:].astype(int) - clean[6:, 10:]).max() <= 2
    np.testing.assert_array_equal(panels.stretch(pixels, np.zeros((40, 40), bool)), panels.hatch(40, 40))


def test_stretch_of_a_constant_and_of_missing_bands():
    assert (panels.stretch(np.full((3, 4, 5), 7)) == 128).all()
    for bands in ((0, 1, 3), (0, 1), (-1, 0, 1)):
        with pytest.raises(BandError):
            panels.stretch(np.zeros((3, 4, 5)), None, bands)


def test_panel_is_image_truth_prediction():
    image = np.full((4, 5, 3), 77, np.uint8)
    truth, prediction = np.zeros((4, 5), int), np.ones((4, 5), np.uint8)
    truth[0, 0], truth[0, 1] = -1, -7
    got = panels.panel(image, truth, prediction, [(1, 2, 3), "#040506"], separator=2)
    assert got.shape == (4, 19, 3) and got.dtype == np.uint8
    assert (got[:, :5] == 77).all() and (got[:, 5:7] == 255).all()
    assert tuple(got[0, 7]) == tuple(got[0, 8]) == panels.IGNORED and got[1, 7].tolist() == [1, 2, 3] and (got[:, 14:] == [4, 5, 6]).all()
    with pytest.raises(GridMismatchError):
        panels.panel(image, truth[:3], prediction, [(1, 2, 3)])


# --- files


def test_csv_and_json_know_no_nan(tmp_path):
    rows = [{"class": 'été, "x"', "iou": np.float64(0.5), "n": np.int64(3)}, {"class": "=1+1", "iou": float("nan"), "extra": None}]
    write_csv(tmp_path / "a.csv", rows)
    with open(tmp_path / "a.csv", encoding="utf-8-sig", newline="") as file:
        got = list(csv.DictReader(file))
    assert got[0] == {"class": 'été, "x"', "iou": "0.5", "n": "3", "extra": ""}
    assert got[1] == {"class": "'=1+1", "iou": "", "n": "", "extra": ""}
    write_json(
        tmp_path / "a.json", {"rows": rows, "matrix": np.array([[1.0, np.nan]]), "infinite": float("inf"), "path": tmp_path, "ok": True}
    )
    got = json.loads((tmp_path / "a.json").read_text("utf-8"), parse_constant=lambda token: pytest.fail(token))
    assert got["matrix"] == [[1.0, None]] and got["infinite"] is None and got["ok"] is True and got["rows"][1]["iou"] is None


@contextmanager
def small_files_only():
    """The kernel refuses to write more than 4 kB into a file, as a full disk would in the middle of a write. For no longer than needed:
    pytest itself may write its log to a file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_write_that_fails_midway_leaves_nothing_new_and_the_old_file(tmp_path):
    page = Report("t")
    page.text("x" * 10_000)
    with small_files_only(), pytest.raises(OutputError):
        page.write(tmp_path / "new.html")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "old.html").write_text("old")
    with small_files_only(), pytest.raises(OutputError):
        page.write(tmp_path / "old.html")
    assert [path.name for path in tmp_path.iterdir()] == ["old.html"] and (tmp_path / "old.html").read_text() == "old"


def test_a_full_disk_is_told(tmp_path):
    if (
        os.geteuid() != 0
        or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "none", str(tmp_path)], capture_output=True).returncode
    ):
        pytest.skip("needs the right to mount a small disk")
    try:
        with pytest.raises(OutputError, match="disk is full"):
            write_bytes(tmp_path / "a.html", b"x" * 100_000)
        assert list(tmp_path.iterdir()) == []
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_wrong_places_are_told_with_what_mends_them(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    for path, remedy in (
        (tmp_path / "missing" / "a.html", "make it"),
        (tmp_path / "file" / "a.html", "choose another folder"),
        (tmp_path / "folder", "choose another file name"),
        ("/proc/self/a.html", ""),
    ):
        with pytest.raises(OutputError) as caught:
            write_bytes(path, b"x")
        assert remedy in caught.value.remedy and str(path) in caught.value.message
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


def test_who_reads_the_old_file_goes_on_reading_the_old_file(tmp_path):
    (tmp_path / "a").write_bytes(b"old" * 100_000)
    with open(tmp_path / "a", "rb") as file:
        start = file.read(10)
        write_bytes(tmp_path / "a", b"new")
        assert start + file.read() == b"old" * 100_000
    assert (tmp_path / "a").read_bytes() == b"new"


def test_the_longest_file_name_can_be_written(tmp_path):
    write_bytes(tmp_path / ("ü" * 120 + ".html"), b"x")
    assert len(list(tmp_path.iterdir())) == 1


def test_two_threads_writing_one_file_leave_one_whole_file(tmp_path):
    contents = [bytes([letter]) * 2_000_000 for letter in b"ab"]
    errors = []

    def write(content):
        try:
            for _ in range(5):
                write_bytes(tmp_path / "a", content)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(content,)) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors and (tmp_path / "a").read_bytes() in contents and len(list(tmp_path.iterdir())) == 1

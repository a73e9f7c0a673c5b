"""A network that tells its margin: the same numbers whatever the windows, the swaths and the cut of the raster; slopes go on beyond the border."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from water_dl_plugin.engine import infer, windows
from water_dl_plugin.engine.bundle import ModelInfo
from water_dl_plugin.engine.errors import ConfigError
from water_dl_plugin.engine.normalise import Normalisation
from water_dl_plugin.engine.raster import Grid
from water_dl_plugin.engine.settings import InferConfig

QUICK = settings(max_examples=150, derandomize=True, deadline=None)
STRIDE, MARGIN = 4, 24
HEIGHT = {"elevation": True, "fill": 0.0}


class Pooling(nn.Module):
    """Fixed random weights, two layers that pool, zeros around: a pixel sees 23 px at most, by the layers' arithmetic and as measured below."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(7)
        self.steps = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in ((2, 4), (4, 6), (6, 6), (10, 2)))
        for parameter in self.parameters():
            nn.init.normal_(parameter, 0.05, 0.3)

    def forward(self, x):
        first = torch.tanh(self.steps[0](x))
        deep = torch.tanh(self.steps[1](F.avg_pool2d(first, 2)))
        deep = torch.tanh(self.steps[2](F.max_pool2d(deep, 2)))
        return self.steps[3](torch.cat([first, F.interpolate(deep, scale_factor=4.0, mode="nearest")], 1))


class Network:
    """It as `infer` wants a model."""

    channels, dtype, tile = 2, np.dtype(np.float32), None

    def __init__(self, margin=MARGIN, multiple=STRIDE, bands=({"fill": 0.0}, {"fill": 0.0})):
        self.net = Pooling()
        self.info = ModelInfo("regression", (("a", ""), ("b", "")), Normalisation("none", tuple(bands)), margin=margin, multiple=multiple)

    def __call__(self, batch):
        with torch.no_grad():
            return self.net(torch.from_numpy(np.ascontiguousarray(batch))).numpy()


class Memory:
    def __init__(self, image, valid=None):
        self.image, self.grid = image, Grid(image.shape[2], image.shape[1])
        self.valid = np.ones(image.shape, bool) if valid is None else valid

    def read(self, window):
        place = (slice(None), *window.slices)
        return self.image[place], self.valid[place]


def put_together(image, network, valid=None, **config):
    values = np.zeros((2, *image.shape[1:]), np.float32)
    held = np.zeros(image.shape[1:], bool)
    for window, found, holds in infer.predict(Memory(image, valid), network, InferConfig(**{"overlap": 2 * MARGIN, **config})):
        values[(slice(None), *window.slices)], held[window.slices] = found, holds
    return values, held


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Many small windows: two threads mostly wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(1).normal(size=(2, 321, 430)).astype(np.float32)


@pytest.fixture(scope="module")
def whole(image):
    """The network on the whole image at once, mirrored at its borders, with the corner on a multiple of the stride."""
    wide = np.pad(image, [(0, 0), (32, 32 + 3), (32, 32 + 2)], mode="reflect")
    return Network()(wide[None])[0][:, 32 : 32 + 321, 32 : 32 + 430]


def test_the_margin_of_these_tests_is_the_true_one():
    """What a pixel sees, pixel by pixel: beyond MARGIN nothing, and a margin 4 px smaller would be too small."""
    point = torch.randn(1, 2, 128, 128, requires_grad=True)
    reach = 0
    for row, col in ((64, 64), (65, 66), (67, 67), (66, 64)):
        point.grad = None
        Network().net(point)[0, :, row, col].sum().backward()
        rows, cols = np.nonzero(np.abs(point.grad[0]).sum(0).numpy())
        reach = max(reach, *(abs(x - y).max() for x, y in ((rows, row), (cols, col))))
    assert 4 < reach <= MARGIN


@pytest.mark.parametrize(
    ("window", "more"), [(128, {}), (256, {}), (512, {}), (128, {"overlap": 75}), (128, {"blending": "crop"}), (256, {"batch_size": 3})]
)
def test_windows_of_any_size_give_what_the_whole_gives(image, whole, window, more):
    values, held = put_together(image, Network(), window=window, **more)
    assert held.all() and np.abs(values - whole).max() < 1e-5


def test_flips_keep_the_windows_aligned(image):
    one, other = (put_together(image, Network(), window=window, flips=True)[0] for window in (128, 512))
    assert np.abs(one - other).max() < 1e-5


def test_swaths_change_nothing(image, whole, monkeypatch):
    monkeypatch.setattr(infer, "STRIP_BYTES", 1)
    monkeypatch.setattr(infer, "_swaths", lambda *_: [(0, 100), (100, 257), (257, 430)])
    assert np.abs(put_together(image, Network(), window=128)[0] - whole).max() < 1e-5


@pytest.mark.parametrize(("row", "col"), [(4, 64), (100, 12), (0, 320)])
def test_another_cut_of_the_raster_gives_the_same_inside(image, whole, row, col):
    part, _ = put_together(image[:, row:, col:], Network(), window=128)
    inside = (slice(None), slice(MARGIN, None), slice(MARGIN, None))
    assert np.abs(part[inside] - whole[:, row:, col:][inside]).max() < 1e-5


def test_without_the_alignment_or_the_margin_it_would_not_be_so(image, whole):
    """The tests above can fail: windows anywhere, or windows up to their edges."""
    unaligned, _ = put_together(image, Network(multiple=1), window=128, overlap=49)
    blended, _ = put_together(image, Network(margin=0), window=128, overlap=0)
    assert np.abs(unaligned - whole).max() > 1e-2 and np.abs(blended - whole).max() > 1e-2


@pytest.mark.parametrize("shape", [(1, 1), (5, 300), (40, 23), (60, 129)])
def test_small_rasters_have_one_answer_too(shape):
    """Smaller than the margin: mirrored as often as needed, the same in each window."""
    image = np.random.default_rng(2).normal(size=(2, *shape)).astype(np.float32)
    one, other = (put_together(image, Network(), window=window)[0] for window in (64, 256))
    assert np.abs(one - other).max() < 1e-5


def test_windows_that_a_stride_leaves_no_step_for_are_refused(image):
    with pytest.raises(ConfigError, match="multiples of 4"):
        put_together(image, Network(), window=64, overlap=62)


def test_where_the_base_is_valid_a_result_is_wanted(image):
    valid = np.ones(image.shape, bool)
    valid[1, 50:90, 60:99] = valid[0, 200:230, :31] = False
    network = Network()
    object.__setattr__(network.info, "nodata", "base")
    assert np.array_equal(put_together(image, network, valid, window=256)[1], valid[0])
    object.__setattr__(network.info, "nodata", "any")
    assert np.array_equal(put_together(image, network, valid, window=256)[1], valid.all(0))


class TestElevations:
    """They go on beyond the border as they came to it."""

    def test_a_plane_stays_one_and_other_bands_are_mirrored(self):
        rows, cols = np.mgrid[:30, :40].astype(np.float32)
        numbers = np.stack([3 * rows - 2 * cols, rows * cols, 500 + 0 * rows])
        out = infer.reflect(numbers, ((7, 50), (12, 9)), (0, 2))
        wide_rows, wide_cols = np.mgrid[-7:80, -12:49].astype(np.float32)
        assert np.array_equal(out[0], 3 * wide_rows - 2 * wide_cols) and (out[2] == 500).all()
        assert np.array_equal(out[1], np.pad(numbers[1], ((7, 50), (12, 9)), mode="reflect"))

    @pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (2, 2)])
    def test_the_smallest_rasters(self, shape):
        numbers = np.arange(np.prod(shape), dtype=np.float32).reshape(1, *shape)
        out = infer.reflect(numbers, ((3, 4), (5, 2)), (0,))
        step = shape[1]  # from row to row
        wanted = np.add.outer(
            step * (np.arange(-3, shape[0] + 4) if shape[0] > 1 else np.zeros(8)),
            np.arange(-5, shape[1] + 2) if shape[1] > 1 else np.zeros(8),
        )
        assert np.array_equal(out[0], wanted)

    def test_they_are_mirrored_upside_down_by_the_road(self):
        """A network that takes the mean over its surroundings: of a plane it is the plane, at the borders as well."""

        class Mean(Network):
            def __call__(self, batch):
                x = torch.from_numpy(np.ascontiguousarray(batch))
                return (F.avg_pool2d(x, 9, 1, 4) - x).numpy()

        rows, cols = np.mgrid[:90, :110].astype(np.float32)
        image = np.stack([1500 + 0.5 * rows - 1.25 * cols, rows]).astype(np.float32)
        values, _ = put_together(image, Mean(4, 1, (HEIGHT, {"fill": 0.0})), window=64, overlap=8)
        assert np.abs(values[0]).max() < 1e-3 and np.abs(values[1]).max() > 0.5


@QUICK
@given(length=st.integers(1, 900), blocks=st.integers(2, 60), align=st.sampled_from([1, 4, 8, 32]), share=st.floats(0, 0.9))
def test_aligned_offsets_cover_with_half_an_overlap_of_context(length, blocks, align, share):
    size = blocks * align
    overlap = min(int(share * size), size - align)
    starts = windows.offsets(length, size, overlap, align)
    edge = overlap // 2
    assert all(start % align == 0 for start in starts) and starts == sorted(set(starts))
    assert -edge - align < starts[0] <= -edge and starts[-1] + size >= length + edge
    assert all(start < length - edge or start == starts[0] for start in starts)  # each has pixels that count
    assert all(b - a <= size - overlap for a, b in zip(starts, starts[1:]))

"""Normalisation: every scheme against numpy on the pixels themselves, the sketch against numpy's percentiles, torch against both."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
import torch

from water_dl_plugin.engine.errors import ConfigError, ModelError
from water_dl_plugin.engine.normalise import Normalisation, Sketch, equalize_table, fit, transform
from water_dl_plugin.engine.onnx_export import InGraph
from water_dl_plugin.engine.settings import SCHEMES

SHARES = np.array([0, 0.001, 0.01, 0.05, 0.3, 0.5, 0.7, 0.95, 0.99, 1])


def data(kind, size=40_000, seed=0):
    """Long-tailed bands as they come."""
    rng = np.random.default_rng(seed)
    return {
        "uint8": lambda: np.clip(rng.lognormal(3.5, 0.6, size), 0, 255).astype(np.uint8),
        "int8": lambda: np.clip(rng.normal(-20, 30, size), -128, 127).astype(np.int8),
        "uint16": lambda: np.clip(rng.lognormal(7.5, 0.8, size), 0, 65535).astype(np.uint16),
        "int16": lambda: rng.normal(0, 3000, size).astype(np.int16),
        "int32": lambda: (rng.lognormal(12, 1, size) - 1e5).astype(np.int32),
        "float32": lambda: rng.lognormal(-2.5, 0.7, size).astype(np.float32),
        "float64": lambda: rng.normal(-12, 4, size),  # decibels
        "elevation": lambda: rng.uniform(4000, 4050, size).astype(np.float32),
    }[kind]()


KINDS = ("uint8", "int8", "uint16", "int16", "int32", "float32", "float64", "elevation")


def sketch_of(values, pieces=1):
    sketch = Sketch()
    for piece in np.array_split(values, pieces):
        sketch.update(piece)
    return sketch


class TestSketch:
    @pytest.mark.parametrize("kind", KINDS)
    def test_percentiles_within_the_stated_error(self, kind):
        """At most 1/1024 of the value beside the two pixels between which the percentile lies."""
        values = np.sort(data(kind).astype(np.float64))
        got = sketch_of(values).quantiles(SHARES)
        rank = SHARES * len(values)
        low, high = (
            values[np.clip(np.floor(rank).astype(int) - 1, 0, None)],
            values[np.clip(np.ceil(rank).astype(int), None, len(values) - 1)],
        )
        assert (got >= low - np.abs(low) / 1024).all() and (got <= high + np.abs(high) / 1024).all()
        assert (np.diff(got) >= 0).all() and got[0] >= values[0] and got[-1] == values[-1]

    @pytest.mark.parametrize("kind", ["uint8", "int8"])
    def test_exact_for_bytes(self, kind):
        values = data(kind)
        assert np.array_equal(sketch_of(values).quantiles(SHARES[1:]), np.quantile(values, SHARES[1:], method="inverted_cdf"))

    def test_elevations_far_from_zero(self):
        """50 m of relief at 4000 m: the documented 1/1024 would be 4 m; bins are 1 m and 2 m here, and linear inside."""
        values = data("elevation")
        assert np.abs(sketch_of(values).quantiles(SHARES) - np.quantile(values, SHARES)).max() < 0.5

    @pytest.mark.parametrize("kind", KINDS)
    def test_mean_and_deviation_as_numpy(self, kind):
        values = data(kind).astype(np.float64)
        for pieces in (1, 7, 400):
            sketch = sketch_of(values, pieces)
            assert sketch.mean == pytest.approx(values.mean(), rel=1e-9, abs=1e-9 * values.std()) and sketch.std == pytest.approx(
                values.std(), rel=1e-9
            )
            assert (sketch.number, sketch.low, sketch.high) == (len(values), values.min(), values.max())

    @pytest.mark.parametrize("kind", KINDS)
    def test_in_pieces_as_at_once(self, kind):
        values = data(kind)
        once, pieces = sketch_of(values), sketch_of(np.random.default_rng(1).permutation(values), 333)
        assert np.array_equal(once.counts, pieces.counts) and np.array_equal(once.quantiles(SHARES), pieces.quantiles(SHARES))
        pieces.update(np.empty((0,), values.dtype))
        assert pieces.number == len(values)

    def test_outliers_do_not_spoil_it(self):
        values = data("float32")
        spoilt = sketch_of(np.concatenate([values.astype(np.float64), [3e38, -3.4028234663852886e38, 1e300, -1e300]]))
        assert np.allclose(spoilt.quantiles(SHARES[2:-2]), np.quantile(values, SHARES[2:-2]), rtol=4e-3)
        assert np.isfinite(spoilt.std) and spoilt.high == np.finfo(np.float32).max

    @pytest.mark.parametrize("value", [0.0, -0.0, 1e-45, -1e-45, 1.0, -1.0, 255, 2048, 4095.5, -7.25, 3e38, -3e38])
    def test_a_constant_band(self, value):
        assert np.array_equal(sketch_of(np.full(9, value)).quantiles(SHARES), np.full(len(SHARES), value))

    def test_order_around_zero(self):
        got = sketch_of(np.array([-1e30, -2.0, -1e-20, 0.0, 1e-20, 2.0, 1e30])).quantiles((np.arange(7) + 0.99) / 7)
        assert np.allclose(got, [-1e30, -2, -1e-20, 0, 1e-20, 2, 1e30], rtol=1e-3)

    def test_a_band_without_a_valid_pixel(self):
        with pytest.raises(ConfigError, match="no valid pixel"):
            fit("percentile", [Sketch()])


def reference(scheme, v, x):
    """Straight from the tables of the methods, on the pixels `v` that were fitted."""
    v, x = v.astype(np.float64), x.astype(np.float64)
    if scheme == "none":
        return x
    if scheme == "zscore":
        return (x - v.mean()) / v.std()
    if scheme == "minmax":
        return (x - v.min()) / (v.max() - v.min())
    if scheme == "equalize":
        return np.searchsorted(np.sort(v), x, "right") / len(v)
    if scheme == "dynamic_world":
        floor = max(np.quantile(v, 0.001), 1e-6)
        v, x = np.log(np.maximum(v, floor)), np.log(np.maximum(x, floor))
    low, high = {"dynamic_world": (0.3, 0.7), "dynamic_world_nolog": (0.3, 0.95)}.get(scheme, (0.01, 0.99))
    low, high = np.quantile(v, low), np.quantile(v, high)
    scaled = (x - low) / (high - low)
    if scheme.startswith("percentile"):
        return np.clip(scaled, 0, 1) if scheme.endswith("clipped") else scaled
    return 1 / (1 + np.exp(-(5 * scaled - 1)))


class TestSchemes:
    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("scheme", SCHEMES)
    def test_as_computed_on_the_pixels(self, scheme, kind):
        if scheme == "dynamic_world" and kind in ("int8", "int16", "int32", "float64"):
            pytest.skip("negative numbers have no logarithm: the scheme is not for them")
        values = data(kind, 20_000)
        given = np.concatenate([values[:3000], values[values.argsort()[[0, -1]]]])
        normalisation = fit(scheme, [sketch_of(values, 5)])
        got = normalisation.apply(given[None, None], np.ones((1, 1, given.size), bool))[0, 0]
        assert got.dtype == np.float32 and np.isfinite(got).all()
        expected = reference(scheme, values, given)
        if scheme == "equalize":  # of pixels with the same value any share between those below and those not above is right
            below = np.searchsorted(np.sort(values), given, "left") / len(values)
            expected = np.clip(got, below, expected)
        if scheme == "none":
            assert np.array_equal(got, given.astype(np.float32))
        # the ends of the range are off by the sketch's error, and so is what they scale
        tolerance = 1e-4 if scheme in ("zscore", "minmax") else 0.02
        assert np.abs(got - expected).max() <= tolerance * max(1, np.abs(expected).max())

    @pytest.mark.parametrize("kind", ["uint16", "float32", "float64", "elevation"])
    def test_equalize_is_uniform(self, kind):
        values = data(kind, 50_000)
        got = fit("equalize", [sketch_of(values)]).apply(values[None, None], np.ones((1, 1, values.size), bool))
        counts, _ = np.histogram(got, 20, (0, 1))
        assert np.abs(counts / values.size - 0.05).max() < 0.01 and got.min() >= 0 and got.max() <= 1

    @pytest.mark.parametrize("scheme", SCHEMES)
    @pytest.mark.parametrize("value", [0, 7, -3, 1e5])
    def test_a_constant_band_stays_finite(self, scheme, value):
        normalisation = fit(scheme, [sketch_of(np.full(50, value, np.float32))])
        got = normalisation.apply(np.array([[[value, value + 1, -9999, 3e4]]], np.float32), np.ones((1, 1, 4), bool))
        assert np.isfinite(got).all()
        assert Normalisation.from_json(json.loads(json.dumps(normalisation.to_json())), 1) == normalisation

    @pytest.mark.parametrize("scheme", SCHEMES)
    def test_nodata_becomes_the_median_and_says_nothing(self, scheme):
        values = data("uint16")
        normalisation = fit(scheme, [sketch_of(values)])
        pixels, valid = np.array([[[0, 500, 1000]]], np.float32), np.array([[[False, True, False]]])
        results = []
        for rubbish in (np.nan, np.inf, -9999, 3e38):
            pixels[~valid] = rubbish
            results.append(normalisation.apply(pixels, valid))
        assert all(np.array_equal(r, results[0]) for r in results) and np.isfinite(results[0]).all()
        median = np.median(values)
        assert results[0][0, 0, 0] == pytest.approx(
            normalisation.apply(np.full((1, 1, 1), median), np.ones((1, 1, 1), bool))[0, 0, 0], abs=0.01, rel=0.01
        )

    @pytest.mark.parametrize("dtype", ["uint8", "uint16", "int32", "float32", "float64"])
    def test_nothing_is_done_to_raw_pixels(self, dtype):
        pixels = np.array([[[0, 1, 200, 77]]], dtype)
        valid = pixels != 77
        for given in (
            Normalisation.identity(1),
            Normalisation("percentile_clipped", ({"fill": 0.0, "low": 3.0, "high": 5.0},), in_graph=True),
        ):
            assert np.array_equal(given.apply(pixels, valid), np.where(valid, pixels, 0).astype(np.float32))
        assert Normalisation.identity(1).apply(pixels, valid, np.float64).dtype == np.float64

    def test_bands_are_normalised_each_by_its_own_numbers(self):
        bands = [data("uint8"), data("float32"), data("int16")]
        joint = fit("percentile", [sketch_of(b) for b in bands])
        valid = np.ones((1, 1, bands[0].size), bool)
        together = joint.apply(np.stack([b.astype(np.float64) for b in bands])[:, None], np.repeat(valid, 3, 0))
        for i, band in enumerate(bands):
            assert np.allclose(together[i], fit("percentile", [sketch_of(band)]).apply(band[None, None], valid)[0], atol=1e-4)

    def test_an_unknown_scheme(self):
        with pytest.raises(ConfigError, match="percentile"):
            fit("best", [sketch_of(np.arange(9))])


@pytest.mark.parametrize("kind", ["uint8", "uint16", "int16", "float32", "float64", "elevation"])
@pytest.mark.parametrize("scheme", [s for s in SCHEMES if s not in ("percentile", "minmax", "zscore", "none")])
def test_torch_does_the_same_inside_the_graph(scheme, kind):
    bands = [np.abs(data(kind, 20_000, seed)) + 1 if scheme == "dynamic_world" else data(kind, 20_000, seed) for seed in range(2)]
    normalisation = fit(scheme, [sketch_of(b) for b in bands])
    given = np.stack([np.concatenate([b[:4000], b[b.argsort()[[0, -1]]], [0, 100, -100]]) for b in bands]).astype(np.float32)[:, None]
    expected = normalisation.apply(given, np.ones(given.shape, bool))
    got = InGraph(normalisation)(torch.from_numpy(given)[None])[0].numpy()
    assert np.abs(got - expected).max() < (2e-3 if kind == "elevation" else 2e-4)  # their logarithms differ by 0.01 only
    assert expected.std() > 0.05


@pytest.mark.parametrize("scheme", SCHEMES)
def test_numbers_survive_the_file(scheme):
    normalisation = fit(scheme, [sketch_of(data(k)) for k in ("uint16", "float64", "int8")])
    text = json.dumps(normalisation.to_json(), allow_nan=False)
    back = Normalisation.from_json(json.loads(text), 3)
    assert back == normalisation
    pixels = np.stack([data(k)[:100].astype(np.float64) for k in ("uint16", "float64", "int8")])[:, None]
    assert np.array_equal(back.apply(pixels, np.ones(pixels.shape, bool)), normalisation.apply(pixels, np.ones(pixels.shape, bool)))


def test_numbers_of_a_band_with_the_usual_nodata_that_nobody_declared_survive_too():
    for scheme in SCHEMES:
        normalisation = fit(scheme, [sketch_of(np.concatenate([data("float32").astype(np.float64), [-3.4028234663852886e38]]))])
        assert Normalisation.from_json(json.loads(json.dumps(normalisation.to_json())), 1) == normalisation


HOSTILE = [None, True, "1", [], {}, [1], 10**400, -(10**400), 1e39, -1e300, float("nan"), float("inf"), "x" * 100_000, [[[]]]]


class TestHostileNumbers:
    @pytest.mark.parametrize("scheme", SCHEMES)
    def test_any_value_in_any_place_gives_a_model_error(self, scheme):
        good = fit(scheme, [sketch_of(data("uint8"))] * 2).to_json()
        for key in good["bands"][0]:
            for value in HOSTILE:
                bad = copy.deepcopy(good)
                bad["bands"][1][key] = value
                with pytest.raises(ModelError):
                    Normalisation.from_json(bad, 2)
            bad = copy.deepcopy(good)
            del bad["bands"][0][key]
            with pytest.raises(ModelError):
                Normalisation.from_json(bad, 2)
        for key, values in {"scheme": [*HOSTILE, "best"], "in_graph": [v for v in HOSTILE if v is not True], "bands": HOSTILE}.items():
            for value in values:
                with pytest.raises(ModelError):
                    Normalisation.from_json({**good, key: value}, 2)
        for value in HOSTILE:
            with pytest.raises(ModelError):
                Normalisation.from_json(value, 2)
        with pytest.raises(ModelError):
            Normalisation.from_json(good, 3)

    @pytest.mark.parametrize("change", [{"low": 5.0, "high": 5.0}, {"low": 6.0, "high": 5.0}, {"low": 0.0, "high": 1e-320}])
    def test_an_empty_range(self, change):
        with pytest.raises(ModelError, match="low"):
            Normalisation.from_json({"scheme": "percentile", "bands": [{"fill": 0.0, **change}]}, 1)

    def test_a_floor_whose_logarithm_is_none(self):
        with pytest.raises(ModelError, match="floor"):
            Normalisation.from_json({"scheme": "dynamic_world", "bands": [{"fill": 0, "low": 0, "high": 1, "floor": 0}]}, 1)

    @pytest.mark.parametrize("knots", [[1.0], [2.0, 1.0], [0.0] * 2000, ["0", "1"], [0, None], [0, True], [0, 10**400], [[0], [1]]])
    def test_knots(self, knots):
        with pytest.raises(ModelError):
            Normalisation.from_json({"scheme": "equalize", "bands": [{"fill": 0, "low": 0, "high": 1, "knots": knots}]}, 1)

    def test_nesting_without_end(self):
        deep: list = []
        for _ in range(100_000):
            deep = [deep]
        for bad in ({"scheme": deep, "bands": [{}]}, {"scheme": "none", "bands": [{"fill": deep}]}):
            with pytest.raises(ModelError):
                Normalisation.from_json(bad, 1)
        while deep:  # taken apart by hand: freeing it in one go may overflow the stack
            deep = deep[0]


def test_the_table_of_equalize_rises_from_0_to_1():
    table = equalize_table(fit("equalize", [sketch_of(data("float32"))]).bands[0])
    assert len(table) == 40_000 and (np.diff(table) >= 0).all() and table[0] < 0.01 and table[-1] > 0.99


def test_transform_in_plain_numbers():
    assert np.allclose(transform("percentile", {"low": 10.0, "high": 20.0}, np.array([10.0, 15, 30])), [0, 0.5, 2])
    assert np.allclose(transform("percentile_clipped", {"low": 10.0, "high": 20.0}, np.array([0, 15.0, 30])), [0, 0.5, 1])
    sigmoid = lambda x: 1 / (1 + np.exp(-x))  # noqa: E731
    assert np.allclose(transform("dynamic_world_nolog", {"low": 0.0, "high": 1.0}, np.array([0.0, 1.0])), [sigmoid(-1), sigmoid(4)])
    assert np.allclose(
        transform("dynamic_world", {"low": 0.0, "high": np.log(10), "floor": 0.1}, np.array([1.0, 10, -5])),
        [sigmoid(-1), sigmoid(4), sigmoid(-6)],
    )

"""The simulator of benchmarks/reservoirs.py: its physics against known answers, on a made valley, so without the real elevation models."""

from __future__ import annotations

import csv
import datetime as dt
import os
import sys
from dataclasses import replace

import numpy as np
import pytest
from osgeo import gdal
from scipy import ndimage

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))), "benchmarks"))

import reservoir_basins as basins
import reservoir_cover
import reservoir_figures
import reservoir_optics as optics
import reservoir_radar as radar
import reservoir_seasons
import reservoirs

from water_dl_plugin.engine import dates

FLAT = basins.Place("flat", "", (0, 0), 0.0, 1, 10.0, "", relief=0.06)
STEEP = replace(FLAT, name="steep banks", relief=2.5)
DATES = [dt.datetime(2014, 1, 10, 8, 35) + dt.timedelta(days=61 * k) for k in range(8)]


@pytest.fixture(scope="module")
def level_series():
    return basins.levels(FLAT, "", 3)


@pytest.fixture(scope="module")
def flat(level_series):
    return basins.basin(FLAT, "", level_series.clean.max())


@pytest.fixture(scope="module")
def ground(flat):
    return reservoir_cover.ground(FLAT, flat, 3)


@pytest.fixture(scope="module")
def weather(level_series):
    return reservoir_seasons.seasons(FLAT, level_series, 3)


@pytest.fixture(scope="module")
def optical(tmp_path_factory):
    return reservoirs.simulate(FLAT, str(tmp_path_factory.mktemp("s2")), "sentinel-2", DATES, seed=3, truth=True, data="")


@pytest.fixture(scope="module")
def echoes(tmp_path_factory):
    return reservoirs.simulate(FLAT, str(tmp_path_factory.mktemp("s1")), "sentinel-1", DATES[:4], seed=3, truth=True, data="")


def bands(path):
    return gdal.Open(path).ReadAsArray()


class TestBasin:
    def test_water_is_what_lies_below_the_level_and_hangs_together_with_the_pool(self, flat):
        for level in (flat.full_m - 1, flat.full_m - 4.3):
            below, _ = ndimage.label(flat.heights < level)
            seed = np.unravel_index(np.argmin(flat.spill), flat.spill.shape)
            assert (below == below[seed]).sum() == (flat.spill < level).sum() > 1000

    def test_the_dam_holds_it(self, flat):
        assert flat.wall.any() and not (flat.spill[flat.wall] < flat.full_m).any()
        below_dam = np.nonzero(flat.wall)[0].max() + 5
        assert not (flat.spill[below_dam:] < flat.full_m).any()
        assert (flat.heights[below_dam:] < flat.full_m).any()  # which without the dam would be under water

    def test_shares_of_cells_resolve_centimetres_on_steep_banks(self, level_series):
        steep = basins.basin(STEEP, "", level_series.clean.max())
        rows = slice(len(steep.spill) // 2 - 30, len(steep.spill) // 2 + 30)
        for level in (steep.full_m - 3, steep.full_m - 1.7):
            wider = (steep.wet(level + 0.05)[rows].sum() - steep.wet(level)[rows].sum()) * basins.CELL_M / 60
            assert wider == pytest.approx(2 * 0.05 / STEEP.relief, rel=0.15)  # m, of both banks

    def test_steep_banks_hide_the_level_from_the_area(self, flat, level_series):
        steep = basins.basin(STEEP, "", level_series.clean.max())
        change = [(b.wet(b.full_m).sum() - b.wet(b.full_m - 2).sum()) / b.wet(b.full_m).sum() for b in (steep, flat)]
        assert 0 < 3 * change[0] < change[1]

    def test_a_basin_that_is_too_small_is_refused(self):
        with pytest.raises(ValueError, match="leaves the scene"):
            basins.basin(replace(FLAT, depth_m=40.0), "", 40.0)

    def test_skyline_of_a_wall(self):
        heights = np.zeros((80, 80), np.float32)
        heights[:, 60:62] = 30.0
        seen = basins.horizon(heights, 90.0)
        assert seen[40, 50] == pytest.approx(30 / (10 * basins.CELL_M)) and seen[40, 70] <= 0
        assert seen[40, 20] == pytest.approx(30 / (40 * basins.CELL_M), rel=0.05)

    def test_spikes_go_and_steps_stay(self):
        raw = np.concatenate([np.linspace(10, 9, 60), np.linspace(6, 5.5, 60)])
        spiky = raw.copy()
        spiky[[20, 90]] += [-4, 3]
        spiky[40:43] = np.nan
        assert np.abs(basins.cleaned(spiky) - raw).max() < 0.05


class TestLight:
    def test_sun_at_the_solstices(self):
        for day, height in ((dt.datetime(2015, 12, 22, 10, 43), 90 - 33.9 + 23.44), (dt.datetime(2015, 6, 21, 10, 46), 90 - 33.9 - 23.44)):
            up, azimuth = reservoir_seasons.sun(day)
            assert up == pytest.approx(height, abs=0.3) and min(azimuth, 360 - azimuth) < 3  # noon: in the north

    def test_slopes_towards_the_sun_are_bright_and_a_high_wall_throws_shadow(self, flat):
        factor, direct = optics.Light(flat)(30.0, 90.0)  # morning, sun in the east
        east = basins.inner(flat.east)
        sloping = np.abs(east) > 0.03
        assert (
            factor[2][sloping & (east < 0)].mean() > 1.05 > 0.95 > factor[2][sloping & (east > 0)].mean()
        )  # falling eastwards: faces the sun
        steep = basins.basin(STEEP, "", 10.0)
        _, direct = optics.Light(steep)(15.0, 90.0)
        assert 0.1 < (direct < 0.5).mean() < 0.9 and (optics.Light(steep)(80.0, 90.0)[1] > 0.5).all()


class TestWater:
    def test_turbid_water_as_nechad_et_al_2010_measured_it(self):
        """doi:10.1016/j.rse.2009.11.022: rho(665) = S / (A + S / C), A = 355.85, C = 0.1728."""
        for matter in (10.0, 30.0, 100.0):
            red = optics.water(np.array([40.0]), np.array([matter]), 5.0, 1.0, np.zeros((3, 1)), 45)[1, 0]
            assert red == pytest.approx(matter / (355.85 + matter / 0.1728), rel=0.35)

    def test_the_ground_shows_through_shallow_water_in_green_long_after_it_is_gone_in_near_infrared(self):
        depth = np.array([0.001, 0.1, 0.3, 1.0, 3.0, 30.0])
        ground = np.full((3, len(depth)), 0.2)
        seen = optics.water(depth, np.full(len(depth), 3.0), 3.0, 0.8, ground, 45)
        deep = seen[:, -1:]
        left = (seen - deep) / (seen[:, :1] - deep)
        assert (np.diff(left, axis=1) <= 1e-9).all()
        assert left[0, 3] > 0.15 > 0.005 > left[2, 3] and left[2, 2] < 0.25

    def test_wind_makes_glint_under_a_high_sun(self):
        assert optics.surface(9, 57) > optics.surface(4, 57) > optics.surface(9, 25)

    def test_cmod5n(self):
        """Against the published formula, step by step in scalar arithmetic."""
        for wind, phi, theta, known in (
            (1, 0, 30, 0.0061807295),
            (5, 0, 40, 0.0137917988),
            (8, 180, 38, 0.0323885583),
            (10, 90, 40, 0.0160263845),
        ):
            assert float(radar.cmod5n(np.array(float(wind)), phi, theta)) == pytest.approx(known, rel=1e-7)

    def test_rough_wet_soil_is_bright_and_smooth_mud_dark(self):
        cosine = np.cos(np.radians(38.0))
        db = lambda mv, s: 10 * np.log10(radar.soil(np.array(mv), np.array(s), np.array(cosine)))  # noqa: E731
        assert db(0.3, 0.012)[0] > db(0.05, 0.012)[0] + 4 and db(0.3, 0.012)[0] > db(0.3, 0.003)[0] + 4
        assert -16 < db(0.05, 0.012)[0] < -10 and 8 < np.subtract(*db(0.3, 0.012)) < 16  # VV of dry soil; VV above VH


class TestCover:
    def test_days_since_the_water_left(self):
        history = np.concatenate([np.full(50, 10.0), np.linspace(10, 6, 41)])  # falls 0.1 m a day
        bare, wet = reservoir_cover._since(history, np.array([11.0, 9.0, 7.0, 5.0]))
        assert bare == pytest.approx([91, 31, 11, 0], abs=1) and wet[3] == 91 and wet[1] == 0

    def test_mud_dries_bleaches_and_brightens(self, flat, ground, level_series, weather):
        falling = replace(level_series, clean=np.interp(np.arange(len(level_series.days)), [0, 300, 340, 420], [10, 10, 5, 5]))
        dry = replace(weather, moisture=np.full(len(level_series.days), 0.05), green=np.zeros(len(level_series.days)))
        bank = (basins.inner(flat.spill) > 6.5) & (basins.inner(flat.spill) < 8)
        fresh, later = (optics.land(reservoir_cover.cover(flat, ground, falling, dry, day))[:, bank].mean(axis=1) for day in (330, 345))
        assert (later > 1.4 * fresh).all()
        early, late = (reservoir_cover.cover(flat, ground, falling, replace(dry, green=dry.green + 0.8), day) for day in (345, 419))
        assert (late.green[bank] + late.dry[bank]).mean() > 0.3 > 0.1 > (early.green[bank] + early.dry[bank]).mean()  # herbs come

    def test_shares_add_up(self, flat, ground, level_series, weather):
        day = reservoir_cover.cover(flat, ground, level_series, weather, 800)
        total = day.trees + day.shrubs + day.green + day.dry + day.rock + day.wall
        assert total.min() >= 0 and total.max() < 1 + 1e-5
        assert not day.trees[basins.inner(flat.spill) < flat.full_m - 0.5].any()  # none below the full level

    def test_it_rains_when_the_reservoir_rises(self, level_series):
        still, rising = (replace(level_series, clean=np.linspace(0, rise, len(level_series.days))) for rise in (0, 400))
        wet, dry = (reservoir_seasons.seasons(FLAT, record, 3) for record in (rising, still))
        assert wet.moisture.mean() > dry.moisture.mean() + 0.03 and wet.cloudy.mean() > dry.cloudy.mean() + 0.03

    def test_rain_makes_plants_green_and_inflow_makes_water_turbid(self, weather, level_series):
        month = level_series.days.astype("M8[M]").astype(int) % 12
        assert weather.green[np.isin(month, (7, 8))].mean() > 2 * weather.green[np.isin(month, (1, 2))].mean()
        rising = np.gradient(ndimage.uniform_filter1d(level_series.clean, 15)) > 0.01
        assert np.median(weather.matter[rising]) > 1.5 * np.median(weather.matter[~rising])


class TestScenes:
    def test_optical_files_are_what_a_user_has(self, optical):
        assert len(optical.scenes) == len(DATES)
        for path, when in zip(optical.scenes, DATES):
            data = gdal.Open(path)
            assert [data.GetRasterBand(n).GetDescription() for n in (1, 2, 3, 4)] == ["B3", "B4", "B8", "QA60"]
            assert data.GetRasterBand(1).DataType == gdal.GDT_UInt16 and data.GetGeoTransform()[1] == 10 and data.GetProjection()
            assert dates.when(path) == when and dates.sensor(path) == "sentinel-2"
            assert set(np.unique(bands(path)[3])) <= {0, 1024, 2048}

    def test_radar_files(self, echoes):
        for path, when in zip(echoes.scenes, DATES):
            assert dates.when(path) == when and dates.sensor(path) == "sentinel-1"
            vv, vh = bands(path)
            assert -32 < vh.mean() < vv.mean() < 0 and vv.dtype == np.float32

    def test_truth_and_class_rasters_agree_and_ndwi_finds_the_water(self, optical):
        rows = reservoir_figures.truth(optical)
        clear = 0
        for row, water, path in zip(rows, optical.water, optical.scenes):
            wet = bands(water) > 0
            assert wet.sum() * 100 == pytest.approx(row["area_m2"], rel=0.06)
            image = bands(path).astype(float)
            if row["cloud"] + row["shadow"] == 0 and image[:3].all():
                found = (image[0] > image[2]) & (image[0] > 0)
                inner = ndimage.binary_erosion(wet, iterations=2)
                outer = ~ndimage.binary_dilation(wet, iterations=3)
                assert found[inner].mean() > 0.9 and found[outer].mean() < 0.02
                clear += 1
        assert clear >= 3

    def test_levels_of_truth_are_clean_and_those_of_the_gauge_raw(self, optical, level_series):
        with open(optical.gauge, newline="", encoding="utf-8") as file:
            told = {row["date"]: float(row["level_m"]) for row in csv.DictReader(file)}
        spikes = [
            d for d, raw, clean in zip(level_series.days, level_series.raw, level_series.clean) if abs(raw - clean) > 2 and str(d) in told
        ]
        assert spikes and all(abs(told[str(d)] - level_series.at(d)) > 2 for d in spikes)
        assert [row["level_m"] for row in reservoir_figures.truth(optical)] == pytest.approx([level_series.at(d) for d in DATES], abs=1e-3)

    def test_the_elevation_model_tells_the_area(self, optical):
        heights = bands(optical.dem)
        where = reservoir_figures.inside(optical, 0)
        for row in reservoir_figures.truth(optical):
            assert ((heights < row["level_m"]) & where).sum() * 100 == pytest.approx(row["area_m2"], rel=0.1, abs=4000)

    def test_the_same_seed_gives_the_same_files(self, optical, tmp_path):
        again = reservoirs.simulate(FLAT, str(tmp_path / "a"), "sentinel-2", DATES[:2], seed=3, data="")
        other = reservoirs.simulate(FLAT, str(tmp_path / "b"), "sentinel-2", DATES[:2], seed=4, data="")
        assert os.path.basename(again.scenes[0]) == os.path.basename(optical.scenes[0])
        assert (bands(again.scenes[1]) == bands(optical.scenes[1])).all() and (bands(other.scenes[1]) != bands(optical.scenes[1])).any()

    def test_a_shift_moves_the_image_by_parts_of_a_pixel(self):
        fine = np.zeros((1, basins.SIDE * 3, basins.SIDE * 3))
        fine[:, :, 150:] = 1.0
        edges = [optics._sampled(np.random.default_rng(0), fine, (0.0, shift)).sum() / basins.SIDE for shift in (0.0, 0.4)]
        assert edges[0] - edges[1] == pytest.approx(0.4, abs=0.01)

    def test_qa60_misses_some_cloud_and_all_shadow(self, flat, ground, level_series, weather):
        light, cover = optics.Light(flat), reservoir_cover.cover(flat, ground, level_series, weather, 700)
        seen, real, dark = [], [], []
        for seed in range(12):
            rng = np.random.default_rng(seed)
            air = replace(optics.sky(rng, 40.0, 50.0, 4.0, 0.4), overcast=0.35, thin=0.0)
            _, bits, masks = optics.scene(rng, cover, light, air, 8.0, 5.0, 1.0)
            seen.append(bits > 0)
            real.append(masks["cloud"])
            dark.append(masks["shadow"] & ~masks["cloud"])
        seen, real, dark = (np.array(a) for a in (seen, real, dark))
        assert 0.6 < seen[real].mean() < 0.98 and dark.sum() > 500 and seen[dark].mean() < 0.35

    def test_speckle_of_about_four_looks_and_wind_on_the_water(self, flat, ground, level_series, weather):
        view, cover = radar.View(flat), reservoir_cover.cover(flat, ground, level_series, weather, 600)
        wet = ndimage.binary_erosion(cover.wet[1::3, 1::3] > 0.99, iterations=4)
        level = level_series.clean[600]
        calm, windy = (10 ** (radar.scene(np.random.default_rng(1), cover, view, level, wind)[0][wet] / 10) for wind in (2.0, 11.0))
        assert 6 < 10 * np.log10(windy.mean() / calm.mean()) < 14
        field = np.concatenate([radar._speckle(np.random.default_rng(k), (90, 90)).ravel() for k in range(4)])
        assert field.mean() == pytest.approx(1) and 3.8 < 1 / field.var() < 5.5

    def test_walls_towards_the_radar_are_bright_and_those_behind_dark(self, level_series, weather):
        steep = basins.basin(replace(STEEP, relief=1.2), "", level_series.clean.max())
        cover = reservoir_cover.cover(steep, reservoir_cover.ground(STEEP, steep, 3), level_series, weather, 600)
        vv = radar.scene(np.random.default_rng(1), cover, radar.View(steep), level_series.clean[600], 3.0)[0]
        east, wet = basins.inner(steep.east)[1::3, 1::3], cover.wet[1::3, 1::3]
        toward, away = ((wet == 0) & (east > 0.8)), ((wet == 0) & (east < -0.8))  # it looks eastwards
        assert np.median(vv[toward]) > np.median(vv[away]) + 8

    def test_places_together(self, optical, echoes, tmp_path):
        polygons, gauge = reservoirs.together([optical, replace_name(echoes, "other", tmp_path)], str(tmp_path / "all"))
        source = gdal.OpenEx(polygons, gdal.OF_VECTOR)
        layer = source.GetLayer(0)
        assert layer.GetFeatureCount() == 2 and all(feature["datum_m"] is not None for feature in layer)
        with open(gauge, encoding="utf-8") as file:
            assert {line.split(",")[0] for line in file} == {"reservoir", "flat", "other"}

    @pytest.mark.skipif(not basins.find(), reason="The real elevation models and levels are not here (../shared/data or WATER_DL_DATA).")
    def test_real_basins_hold_their_water(self):
        data = basins.find()
        spread = {}
        for place in basins.PLACES.values():
            record = basins.levels(place, data)
            basin = basins.basin(place, data, record.clean.max())
            used = record.clean[(record.days >= np.datetime64(place.first)) & (record.days <= np.datetime64(place.last))]
            areas = [basin.wet(level).sum() for level in (used.min(), used.max())]
            assert basin.bottom_m < used.min() and areas[0] * basins.CELL_M**2 > 1000
            spread[place.name] = 1 - areas[0] / areas[1]
        assert spread["steep"] < 0.15 < 0.8 < spread["shallow"]


def replace_name(made, name, folder):
    path = str(folder / "gauge.csv")
    with open(made.gauge, encoding="utf-8") as source, open(path, "w", encoding="utf-8") as target:
        target.write(source.read().replace("flat,", f"{name},"))
    return replace(made, name=name, gauge=path)

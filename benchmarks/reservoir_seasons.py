"""Weather, water and plants of a simulated reservoir, day by day, and the calendar of the satellites.

The climate is the Western Cape's, where the levels come from: rain in winter, dry windy summers. Rain is more likely on days on which the
reservoir rises, so that turbid inflow, wet soil and clouds come together, as they do. All states are first-order: they gain from rain or
inflow and fade exponentially (soil: antecedent precipitation index, Kohler & Linsley 1951; plants: greenness follows the soil's store
of water by weeks; turbidity: settles within about two weeks).
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

import numpy as np
from reservoir_basins import Levels, Place, key

LATITUDE, LONGITUDE = -33.9, 18.9  # Western Cape: the sun and the rain are those of the levels
RAIN_DAYS = (
    0.10,
    0.09,
    0.11,
    0.20,
    0.30,
    0.36,
    0.36,
    0.36,
    0.28,
    0.20,
    0.14,
    0.11,
)  # share of rainy days per month there (about 90 a year)
RAIN_MM = (4, 4, 5, 8, 10, 11, 11, 10, 7, 6, 4, 4)  # mean of a rainy day
CLOUDY = (0.25, 0.26, 0.30, 0.40, 0.50, 0.50, 0.48, 0.48, 0.45, 0.40, 0.34, 0.28)  # mean cloud cover
WIND = (5.2, 4.9, 4.4, 3.8, 3.6, 3.9, 3.9, 4.1, 4.3, 4.7, 5.1, 5.3)  # m/s at 10 m, mean: the summer's south-easter


@dataclass(frozen=True)
class Seasons:
    """Per day of `levels.days`: `moisture` of the uppermost soil, m3/m3; `green` 0..1, of annual plants; `matter`, suspended, g/m3; `algae`,
    chlorophyll, mg/m3; `stain`, absorption of dissolved organic matter at 440 nm, 1/m; `wind`, m/s; `cloudy`, expected cloud cover 0..1."""

    moisture: np.ndarray
    green: np.ndarray
    matter: np.ndarray
    algae: np.ndarray
    stain: np.ndarray
    wind: np.ndarray
    cloudy: np.ndarray


def seasons(place: Place, levels: Levels, seed: int) -> Seasons:
    rng = np.random.default_rng([seed, 1, key(place.name)])
    days, count = levels.days, len(levels.days)
    month = days.astype("M8[M]").astype(int) % 12
    rising = np.maximum(np.gradient(levels.clean), 0)
    chance = np.array(RAIN_DAYS)[month] * (0.75 + 1.5 * np.minimum(rising / 0.15, 1))
    rain = np.where(rng.random(count) < chance, rng.gamma(0.8, np.array(RAIN_MM)[month] / 0.8), 0)
    summer = 0.5 + 0.5 * np.cos(2 * np.pi * (np.arange(count) - 20) / 365.25)
    store = _fading(rain, 4 + 9 * (1 - summer))
    deep = _fading(rain, 45 + 20 * (1 - summer))
    usual = deep.mean()
    green = _fading(np.clip(deep / (1.6 * usual), 0, 1) / 25, np.full(count, 25.0))
    emptiness = 1 - (levels.clean - levels.clean.min()) / max(np.ptp(levels.clean), 1e-6)
    inflow = _fading(np.minimum(rising, 0.5) * 55 + 0.04 * rain, np.full(count, 13.0))
    wind = rng.gamma(4.5, np.array(WIND)[month] / 4.5)
    stirred = (1.5 + 9 * emptiness**2) * np.minimum(wind / 5, 2) ** 1.5  # waves reach the bottom where little water is left
    matter = place.turbid * (2.0 + inflow + stirred) * np.exp(0.25 * _slow(rng, count, 10))
    algae = np.minimum((2 + 14 * summer**2 * (0.4 + emptiness)) * np.exp(0.5 * _slow(rng, count, 15)), 60)
    stain = 0.7 + 0.9 * np.clip(inflow / 8, 0, 1.5)
    cloudy = np.clip(np.array(CLOUDY)[month] + 0.25 * (rain > 1) - 0.03, 0.05, 0.95)
    return Seasons(np.clip(0.05 + 0.33 * (1 - np.exp(-store / 40)), 0.04, 0.38), np.clip(green, 0, 1), matter, algae, stain, wind, cloudy)


def _fading(gain: np.ndarray, days: np.ndarray) -> np.ndarray:
    """State of a store that gets `gain` each day and loses a share of 1/`days`."""
    state, result = gain[:60].mean() * days[0], np.empty(len(gain))
    for k, (plus, keep) in enumerate(zip(gain, np.exp(-1 / days))):
        state = state * keep + plus
        result[k] = state
    return result


def _slow(rng: np.random.Generator, count: int, days: float) -> np.ndarray:
    """Noise of standard deviation 1 that takes `days` to forget itself."""
    keep = np.exp(-1 / days)
    noise, state, result = rng.standard_normal(count) * np.sqrt(1 - keep**2), 0.0, np.empty(count)
    for k in range(count):
        state = state * keep + noise[k]
        result[k] = state
    return result


def passes(place: Place, sensor: str, weather: Seasons, levels: Levels, seed: int) -> list[dt.datetime]:
    """When the satellites look, and someone keeps the scene: Sentinel-2 every 5 days at 08:35 UTC, without the scenes that a search for at
    most about 70 % cloud leaves out; Sentinel-1 every 6 days at 17:30 UTC (one ascending orbit), one in five missing. As if both
    satellites of each pair had flown since 2013: the levels end in 2017."""
    rng = np.random.default_rng([seed, 2, key(place.name), sensor == "sentinel-1"])
    first, last = (np.datetime64(text) for text in (place.first, place.last))
    optical = sensor == "sentinel-2"
    start = max(first, levels.days[0]) + int(rng.integers(0, 5))
    days = [d for d in np.arange(start, min(last, levels.days[-1]) + 1, 5 if optical else 6)]
    keep = [d for d in days if rng.random() > (0.45 * min(1.6 * weather.cloudy[levels.index(d)], 1.3) + 0.06 if optical else 0.2)]
    if place.scenes and place.scenes < len(keep):
        keep = [keep[k] for k in np.sort(rng.choice(len(keep), place.scenes, replace=False))]
    clock = dt.timedelta(hours=8, minutes=35) if optical else dt.timedelta(hours=17, minutes=30)
    return [dt.datetime.combine(d.astype(dt.date), dt.time()) + clock + dt.timedelta(seconds=int(rng.integers(-60, 60))) for d in keep]


def sun(when: dt.datetime) -> tuple[float, float]:
    """Elevation and azimuth (clockwise from north) of the sun, degrees, to about half a degree (Michalsky 1988, doi:10.1016/0038-092X(88)90045-X,
    without the small terms)."""
    n = (when - dt.datetime(2000, 1, 1, 12)).total_seconds() / 86400
    mean, anomaly = np.radians(280.46 + 0.9856474 * n), np.radians(357.528 + 0.9856003 * n)
    ecliptic = mean + np.radians(1.915 * np.sin(anomaly) + 0.02 * np.sin(2 * anomaly))
    tilt = np.radians(23.439)
    declination, ascension = np.arcsin(np.sin(tilt) * np.sin(ecliptic)), np.arctan2(np.cos(tilt) * np.sin(ecliptic), np.cos(ecliptic))
    sidereal = np.radians(15 * (6.697375 + 0.0657098242 * n + (when.hour + when.minute / 60 + when.second / 3600)) + LONGITUDE)
    hour, latitude = sidereal - ascension, np.radians(LATITUDE)
    height = np.arcsin(np.sin(latitude) * np.sin(declination) + np.cos(latitude) * np.cos(declination) * np.cos(hour))
    azimuth = np.arctan2(
        -np.cos(declination) * np.sin(hour), np.sin(declination) * np.cos(latitude) - np.cos(declination) * np.sin(latitude) * np.cos(hour)
    )
    return float(np.degrees(height)), float(np.degrees(azimuth) % 360)

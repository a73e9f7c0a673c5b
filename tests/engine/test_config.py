"""Settings: what is checked, what is told, and that every one of them states itself in full."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Optional

import pytest

from water_dl_plugin.engine import losses, regression_losses, settings
from water_dl_plugin.engine.config import Config, param, params, parse_json
from water_dl_plugin.engine.errors import ConfigError
from water_dl_plugin.engine.tasks import level

ALL = [c for c in vars(settings).values() if isinstance(c, type) and issubclass(c, Config) and c is not Config]


@dataclass(frozen=True)
class Sample(Config):
    whole: int = param(3, "Whole", "A whole number.", unit="px", minimum=1, maximum=9)
    real: float = param(0.5, "Real", "A number.", minimum=0)
    maybe: Optional[float] = param(None, "Maybe", "A number or none.", maximum=1)
    flag: bool = param(True, "Flag", "Yes or no.")
    text: str = param("", "Text", "Any text.")
    choice: str = param("a", "Choice", "One of two.", choices=("a", "b"))


@pytest.mark.parametrize("wrong, told", [
    ({"whole": 0}, "from 1 to 9 px"), ({"whole": 10}, "from 1 to 9"), ({"whole": 2.5}, "whole number"), ({"whole": "3"}, "finite number"),
    ({"whole": True}, "finite number"), ({"whole": None}, "not set"), ({"whole": float("nan")}, "finite"), ({"whole": 10**400}, "finite"),
    ({"real": -0.1}, "at least 0"), ({"real": float("inf")}, "finite"), ({"real": [1]}, "finite"), ({"real": ""}, "not set"),
    ({"maybe": 1.5}, "at most 1"), ({"maybe": "x"}, "finite"), ({"flag": 1}, "true or false"), ({"flag": "true"}, "true or false"),
    ({"text": 5}, "must be text"), ({"text": None}, "not set"), ({"choice": "c"}, "a, b"), ({"choice": ""}, "a, b"), ({"flag": None}, "not set"),
])  # fmt: skip
def test_wrong_values_are_told_with_name_and_limits(wrong, told):
    with pytest.raises(ConfigError) as caught:
        Sample(**wrong)
    assert told in str(caught.value)
    assert f"({next(iter(wrong)).upper()})" in caught.value.message


def test_values_become_the_stated_type():
    made = Sample(whole=4.0, real=2, maybe="")
    assert (made.whole, type(made.whole), type(made.real), made.maybe) == (4, int, float, None)


def test_limits_are_inclusive():
    assert Sample(whole=1).whole == 1 and Sample(whole=9).whole == 9 and Sample(maybe=1).maybe == 1.0


def test_settings_survive_json_and_unknown_ones_do_not():
    made = Sample(whole=7, maybe=0.25, choice="b")
    assert Sample.from_json(json.loads(json.dumps(made.to_json()))) == made
    with pytest.raises(ConfigError, match="Unknown setting hole.*Known are: choice"):
        Sample.from_json({"hole": 1})
    for wrong in (None, [], "x", 3):
        with pytest.raises(ConfigError, match="JSON object"):
            Sample.from_json(wrong)


def test_settings_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Sample().whole = 2


@pytest.mark.parametrize("text", ["{", "NaN", "[Infinity]", "-Infinity", "1e999", "[-1e999]", "", "[" * 100_000, "\ud800"])
def test_bad_json_is_a_config_error(text):
    with pytest.raises(ConfigError, match="Stuff is not valid JSON"):
        parse_json(text, "Stuff")


def test_json_is_bounded():
    assert parse_json('{"a": [1, 2.5, -1e3, null]}', "Stuff") == {"a": [1, 2.5, -1000.0, None]}
    with pytest.raises(ConfigError, match="11 characters long; 10"):
        parse_json("1234567890 ", "Stuff", limit=10)


@pytest.mark.parametrize("kind", ALL, ids=lambda c: c.__name__)
def test_every_setting_states_itself(kind):
    """Label and help for people, a unit or none, limits that the default keeps, defaults that make a valid object."""
    kind()
    seen = set()
    for item in params(kind):
        assert item.label and item.label[0].isupper() and not item.label.endswith("."), item.name
        assert item.help.rstrip().endswith("."), item.name
        assert item.kind in (int, float, bool, str), item.name
        assert item.label not in seen, f"two settings are called {item.label}"
        seen.add(item.label)
        if item.unit:
            assert item.kind in (int, float) or "," in item.default, item.name  # a number, or a list of them
        if item.kind in (int, float):
            assert item.minimum is not None, f"{item.name} has no lower limit"
        if item.choices:
            assert item.kind is str and item.default in item.choices and len(set(item.choices)) == len(item.choices)
        assert item.optional == (item.default is None), item.name


def test_all_settings_are_seen():
    assert {c.__name__ for c in ALL} >= {"ChipsConfig", "TrainConfig", "InferConfig", "AssessConfig"}


def test_offered_losses_are_those_there_are():
    assert set(settings.LOSSES) == {*losses.LOSSES, *regression_losses.LOSSES, *level.LOSSES}

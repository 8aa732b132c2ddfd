from dataclasses import FrozenInstanceError, fields

import pytest

from trafficlog.config import PREFIX, Config
from trafficlog.errors import InvalidValueError

SETTINGS = fields(Config)
UNITS = (
    *("max", "seconds", "minutes", "hours", "days", "ms", "per_second"),
    *("records", "connections", "requests", "proxies"),
)


def test_every_setting_says_what_it_does_and_its_unit():
    """A name ends in its unit or its bound, and a sentence stands beside each."""
    for setting in SETTINGS:
        assert setting.name.endswith(UNITS), setting.name
        assert len(setting.metadata["text"]) > 15, setting.name
    assert len({s.metadata["text"] for s in SETTINGS}) == len(SETTINGS)


def test_every_default_lies_within_its_bounds():
    """What is taken when nothing is said is itself allowed."""
    for setting in SETTINGS:
        low, high = setting.metadata["low"], setting.metadata["high"]
        assert low <= setting.default <= high, setting.name


def test_an_empty_environment_gives_the_defaults():
    """Nothing need be set."""
    assert Config.from_environment({}) == Config()
    assert Config.from_environment({"PATH": "/bin", "TRAFFICLOG_OTHER": "x"}) == Config()


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda s: s.name)
def test_a_setting_is_taken_from_its_lowest_to_its_highest_value(setting):
    """At both bounds it is taken; one beyond either is refused with the name and the bounds."""
    name = PREFIX + setting.name.upper()
    low, high = setting.metadata["low"], setting.metadata["high"]
    for value in (low, high):
        given = Config.from_environment({name: str(value)})
        assert getattr(given, setting.name) == value
    for value in (low - 1, high + 1):
        with pytest.raises(InvalidValueError, match=f"{name}: must be from {low} to {high}"):
            Config.from_environment({name: str(value)})


@pytest.mark.parametrize("text", ["", " ", "ten", "1.5", "1e3", "0x10", "1,000", "5s", "\u00bd"])
def test_what_is_no_whole_number_is_refused_by_name(text):
    """A setting that cannot be read stops the start: it is not replaced by a default."""
    with pytest.raises(InvalidValueError) as caught:
        Config.from_environment({"TRAFFICLOG_READ_SECONDS_MAX": text})
    assert caught.value.field == "TRAFFICLOG_READ_SECONDS_MAX"


def test_the_environment_of_the_process_is_read(monkeypatch):
    """Without a mapping it is the environment that counts."""
    monkeypatch.setenv("TRAFFICLOG_PAGE_RECORDS", "7")
    assert Config.from_environment().page_records == 7


def test_the_table_names_each_setting_with_its_default():
    """What the documentation lists is what there is."""
    table = Config.table()
    assert [(name, default) for name, default, _ in table] == [
        (PREFIX + s.name.upper(), s.default) for s in SETTINGS
    ]


def test_settings_do_not_change():
    """A configuration is a value."""
    with pytest.raises(FrozenInstanceError):
        Config().page_records = 5

"""The texts of the page: the same in both languages, all used, and numbers as each writes them."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from string import Formatter

import trafficlog.dashboard
from trafficlog.dashboard import texts
from trafficlog.dashboard.texts import LANGUAGES, speaking
from trafficlog.dashboard.texts_en import ENGLISH
from trafficlog.dashboard.texts_sv import SWEDISH

PACKAGE = Path(trafficlog.dashboard.__file__).parent
# These keys are put together from a value of a closed set.
COMPUTED = (
    *("kind.", "direction.", "status.", "filter.", "error.", "sign_in.", "wrong.", "month."),
    *("time.", "ago.", "nav.", "usage.span.", "usage.chart.", "export.", "erasure."),
    *("erasures.title.", "erasures.stopped.", "receipt.class.", "settings.dontlog."),
    *("settings.changed", "settings.same"),
)


def placeholders(text: str) -> set[str]:
    """The names of values that a text takes."""
    return {name for _, name, _, _ in Formatter().parse(text) if name}


def test_both_languages_have_the_same_texts_with_the_same_values() -> None:
    """No text is missing in one of them, and none leaves a value out."""
    assert list(ENGLISH) == list(SWEDISH)
    for key, english in ENGLISH.items():
        assert placeholders(english) == placeholders(SWEDISH[key]), key
        assert SWEDISH[key].strip()


def test_every_text_is_there_and_is_used() -> None:
    """A template or module that names a text finds it, and no text lies about unused."""
    ours = [
        path
        for path in PACKAGE.rglob("*")
        if path.suffix in (".html", ".py") and not path.stem.startswith("texts_")
    ]
    source = "\n".join(path.read_text() for path in ours)
    own = [path.read_text() for path in ours if "operator" not in path.parts]
    pattern = r"\b(?:t|n|text|counted)\(f?['\"]([a-z_.0-9-]+[a-z0-9])['\"]"
    named = set(re.findall(pattern, "".join(own)))
    there = ENGLISH.keys() | {key.rpartition(".")[0] for key in ENGLISH}
    assert named - there == set()
    for key in ENGLISH:
        stem = re.sub(r"\.(one|other)$", "", key)
        assert key.startswith(COMPUTED) or f"'{stem}'" in source or f'"{stem}"' in source, key


def test_texts_that_count_have_both_forms_and_say_how_many() -> None:
    """Singular and plural come in pairs, and a plural states the number."""
    for table in (ENGLISH, SWEDISH):
        for key, value in table.items():
            if key.endswith(".one"):
                assert key.removesuffix(".one") + ".other" in table
            if key.endswith(".other"):
                assert placeholders(value) == {"count"}


def test_lengths_of_time_are_said_in_their_largest_unit() -> None:
    """At the edge of a unit the larger one speaks; what is over is said to be ago."""
    assert texts.until(timedelta(days=1)) == "in a day"
    assert texts.until(timedelta(days=1, microseconds=-1)) == "in 23 hours"
    assert texts.until(timedelta(hours=1)) == "in an hour"
    assert texts.until(timedelta(seconds=59)) == "in a moment"
    assert texts.until(timedelta(seconds=-59)) == "a moment ago"
    assert texts.until(timedelta(days=-2)) == "2 days ago"
    assert texts.duration(187) == "3 minutes 7 seconds"
    assert texts.duration(60) == "a minute"
    assert texts.duration(0) == "0 seconds"
    with speaking(LANGUAGES["sv"]):
        assert texts.until(timedelta(days=-2)) == "för 2 dagar sedan"
        assert texts.until(timedelta(hours=1)) == "om en timme"


def test_each_language_writes_numbers_and_days_in_its_own_way() -> None:
    """Groups of digits, decimals, days and months."""
    at = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
    assert (texts.number(1_234_567), texts.cost(12_345_678)) == ("1,234,567", "1,234.5678")
    assert texts.cost(-1) == "-0.0001"
    assert texts.instant(at) == "4 Mar 2026 05:06:07"
    assert texts.month(date(2026, 3, 1)) == "March 2026"
    with speaking(LANGUAGES["sv"]):
        space = "\N{NO-BREAK SPACE}"
        assert texts.number(1_234_567) == f"1{space}234{space}567"
        assert texts.cost(12_345_678) == f"1{space}234,5678"
        assert texts.instant(at) == "2026-03-04 05:06:07"
        assert texts.month(date(2026, 3, 1)) == "mars 2026"
    assert texts.number(1_000) == "1,000"

"""The formats of export, in the order in which the page offers them."""

from __future__ import annotations

from typing import Final

from trafficlog.export.formats import FORMATS

# What opens in a spreadsheet is what most people want.
OFFERED: Final = tuple(sorted(FORMATS, key=lambda name: (name != "csv", name)))

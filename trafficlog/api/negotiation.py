"""Which of the forms that an answer can have a request likes best (RFC 9110, 12.5.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def preferred(accept: str, media_types: Sequence[str]) -> str:
    """One of the media types: the first, unless another is named and liked better."""
    liked = dict.fromkeys(media_types, 0.0)
    for each in accept.lower().split(","):
        media_type, *parameters = (part.strip() for part in each.split(";"))
        if media_type in liked:
            liked[media_type] = _quality(parameters)
    return max(media_types, key=lambda media_type: liked[media_type])


def _quality(parameters: list[str]) -> float:
    for each in parameters:
        name, _, value = each.partition("=")
        if name.strip() == "q":
            try:
                return float(value)
            except ValueError:
                return 0.0
    return 1.0

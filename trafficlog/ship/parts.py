"""How many short messages a text takes on the air.

The sums are those of Kannel's own splitting, which are those of 3GPP TS 23.040
(§9.2.3.24) and TS 23.038 (§6.2.1): 140 octets in one short message, less the
user data header; a text in more parts carries a concatenation header of 5
octets besides the header's length octet. Characters that the GSM alphabet does
not have are sent by Kannel as one that it has, so each counts as one septet.
"""

from __future__ import annotations

import re

OCTETS_MAX = 140
"""The user data of one short message, header included."""

CONCATENATION_OCTETS = 5
"""What the concatenation element adds to a header: identifier, length, and three octets."""

_EXTENSION = re.compile("[\f\\^{}\\\\\\[~\\]|€]")
"""The characters that are sent as an escape and a septet (TS 23.038, §6.2.1.1)."""


def parts_of_text(text: str, udh_octets: int = 0) -> int:
    """The parts of a text in the GSM 7-bit alphabet: 160 septets in one, 153 in each of several.

    An escape stays in one part with the septet that it belongs to.
    """
    single = _septets_max(udh_octets)
    escapes = len(_EXTENSION.findall(text))
    if len(text) + escapes <= single:
        return 1
    each = max(_septets_max(_concatenated(udh_octets)), 2)
    if not escapes:
        return _divided(len(text), each)
    parts, used = 1, 0
    for character in text:
        septets = 2 if _EXTENSION.match(character) else 1
        if used + septets > each:
            parts, used = parts + 1, 0
        used += septets
    return parts


def parts_of_octets(octets: int, udh_octets: int = 0) -> int:
    """The parts of binary user data: 140 octets in one, 134 in each of several.

    UCS-2 is counted here too, two octets for a code unit (70, then 67): a
    surrogate pair may be divided, as Kannel does.
    """
    if octets <= OCTETS_MAX - udh_octets:
        return 1
    each = (OCTETS_MAX - _concatenated(udh_octets)) // 2 * 2
    return _divided(octets, max(each, 2))


def _concatenated(udh_octets: int) -> int:
    """The octets of a header once the concatenation element is in it."""
    return max(udh_octets, 1) + CONCATENATION_OCTETS


def _septets_max(udh_octets: int) -> int:
    """The septets left beside a header, which is padded to whole septets."""
    return OCTETS_MAX * 8 // 7 - (udh_octets * 8 + 6) // 7


def _divided(amount: int, each: int) -> int:
    return -(-amount // each)

"""Pages of records as lines of text: NDJSON and CSV, made by columns."""

from __future__ import annotations

from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from trafficlog.export.columns import PAGE

_JSON_SPECIAL: Final = r'["\\\x00-\x1f]'
_JSON_COMMON: Final = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}
_JSON_RARE: Final = {chr(c): f"\\u{c:04x}" for c in range(1, 32) if c not in (8, 9, 10, 12, 13)} | {
    "\b": "\\b",
    "\f": "\\f",
}
_CONTROL: Final = r"[\x00-\x1f]"
# What a spreadsheet may take for a formula, with the apostrophes that may stand before it already.
_FORMULA: Final = r"\A'*[=+\-@\t\r\n]"
_NUMBER: Final = r"\A[+-]?[0-9]+\z"
_TEXTS: Final = frozenset({"id", "from", "to", "owner", "message"})
_CSV_HEADER: Final = ",".join(PAGE.names) + "\r\n"


class Ndjson:
    """A JSON object a line, as the pages of history have them: what is not known is absent."""

    def page(self, records: pa.RecordBatch) -> bytes:
        """The lines of a page."""
        parts: list[Any] = []
        for number, field in enumerate(PAGE):
            column = records.column(number)
            head = f'{"{" if number == 0 else ","}"{field.name}":'
            if pa.types.is_integer(field.type):
                before, value, after = head, column.cast(pa.string()), ""
            elif field.name == "tags":
                before, value, after = head, column, ""
            else:
                # An id cannot have what must be escaped, and the rest are words of closed sets.
                value = _escaped(column) if field.name in _TEXTS - {"id"} else column
                before, after = head + '"', '"'
            if field.nullable:
                if column.null_count == len(column):
                    continue
                parts.append(joined(before, value, after))
            else:
                parts += [before, value, after]
        return bytes_of(joined(*parts, "}\n", absent=""))

    def end(self) -> bytes:
        """Nothing comes after the last line."""
        return b""


class Csv:
    """CSV as RFC 4180 has it, in UTF-8, with a header.

    An empty cell is a value that is not known; ``""`` is an empty text. Tags are a JSON array in
    one cell. A text in which a spreadsheet could see a formula has an apostrophe before it,
    unless it is a number such as ``+46701234567``; where texts begin with such apostrophes of
    their own they get one more, so that taking one away gives every text back.
    """

    def __init__(self) -> None:
        self._begun = False

    def page(self, records: pa.RecordBatch) -> bytes:
        """The lines of a page; the header before the first."""
        parts: list[Any] = []
        for number, field in enumerate(PAGE):
            column = records.column(number)
            if number:
                parts.append(",")
            if field.name in _TEXTS or field.name == "tags":
                value = column if field.name == "tags" else guarded(column)
                parts.append(joined('"', pc.replace_substring(value, '"', '""'), '"'))
            else:
                parts.append(column.cast(pa.string()))
        return self._head() + bytes_of(joined(*parts, "\r\n", absent=""))

    def end(self) -> bytes:
        """The header, if there was no page."""
        return self._head()

    def _head(self) -> bytes:
        head = b"" if self._begun else _CSV_HEADER.encode()
        self._begun = True
        return head


def joined(*parts: Any, absent: str | None = None) -> pa.Array:
    """The parts of each row after each other.

    Where one is null the whole is, or ``absent`` stands for that part.
    """
    scalars = [pa.scalar(part) if isinstance(part, str) else part for part in parts]
    if absent is None:
        return pc.binary_join_element_wise(*scalars, "", null_handling="emit_null")
    return pc.binary_join_element_wise(
        *scalars, "", null_handling="replace", null_replacement=absent
    )


def bytes_of(lines: pa.Array) -> bytes:
    """All texts of an array without nulls after each other: they lie so in memory."""
    _, offsets, texts = lines.buffers()
    end = pa.Array.from_buffers(pa.int32(), len(lines) + 1, [None, offsets])[len(lines)].as_py()
    return bytes(texts.slice(0, end))


def guarded(text: pa.Array) -> pa.Array:
    """Texts that no spreadsheet takes for a formula."""
    risky = pc.match_substring_regex(text, _FORMULA)
    if pc.any(risky).as_py():
        risky = pc.and_not(risky, pc.match_substring_regex(text, _NUMBER))
        if pc.any(risky).as_py():
            return pc.if_else(risky, joined("'", text), text)
    return text


def _escaped(text: pa.Array) -> pa.Array:
    """What stands between the quotes of a JSON string."""
    special = pc.match_substring_regex(text, _JSON_SPECIAL)
    if not pc.any(special).as_py():
        return text
    # Few texts have such characters, and to look for each of them in all costs more.
    found = text.filter(special)
    for character, escape in _JSON_COMMON.items():
        found = pc.replace_substring(found, character, escape)
    if pc.any(pc.match_substring_regex(found, _CONTROL)).as_py():
        for character, escape in _JSON_RARE.items():
            found = pc.replace_substring(found, character, escape)
    return pc.replace_with_mask(text, pc.fill_null(special, False), found)  # noqa: FBT003 - the value

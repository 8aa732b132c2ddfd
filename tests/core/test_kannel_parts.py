import pytest

from trafficlog.ship.parts import parts_of_octets, parts_of_text


@pytest.mark.parametrize(
    ("septets", "parts"),
    [(0, 1), (1, 1), (160, 1), (161, 2), (306, 2), (307, 3), (459, 3), (460, 4)],
)
def test_a_text_takes_160_septets_in_one_part_and_153_in_each_of_several(septets, parts):
    """TS 23.040: 160 septets in one short message, 153 in each of a concatenation."""
    assert parts_of_text("a" * septets) == parts


@pytest.mark.parametrize("character", "^{}\\[~]|€\f")
def test_a_character_of_the_extension_table_takes_two_septets(character):
    """TS 23.038, §6.2.1.1: the extension table's characters are sent as escape and septet."""
    assert parts_of_text("a" * 158 + character) == 1
    assert parts_of_text("a" * 159 + character) == 2
    assert parts_of_text(character * 80) == 1
    assert parts_of_text(character * 81) == 2


def test_an_escape_is_not_divided_between_two_parts():
    """A part that has one septet left does not take an escape, so the next part does."""
    assert parts_of_text("a" * 152 + "€" + "a" * 151) == 2
    assert parts_of_text("a" * 152 + "€" + "a" * 152) == 3
    assert parts_of_text("€" * (2 * 76)) == 2
    assert parts_of_text("€" * (2 * 76 + 1)) == 3


@pytest.mark.parametrize("character", "åÄ@ßΩ`ç😀")
def test_any_other_character_takes_one_septet(character):
    """What the GSM alphabet does not have is sent by Kannel as one character that it has."""
    assert parts_of_text(character * 160) == 1
    assert parts_of_text(character * 161) == 2


@pytest.mark.parametrize(
    ("units", "parts"), [(0, 1), (70, 1), (71, 2), (134, 2), (135, 3), (201, 3), (202, 4)]
)
def test_ucs2_takes_70_code_units_in_one_part_and_67_in_each_of_several(units, parts):
    """TS 23.040: 140 octets in one short message, 134 beside a concatenation header."""
    assert parts_of_octets(2 * units) == parts


@pytest.mark.parametrize(("octets", "parts"), [(140, 1), (141, 2), (268, 2), (269, 3)])
def test_binary_data_take_140_octets_in_one_part_and_134_in_each_of_several(octets, parts):
    """The same sums for 8-bit data."""
    assert parts_of_octets(octets) == parts


def test_a_user_data_header_takes_its_room_from_the_text():
    """A header of 6 octets leaves 153 septets or 134 octets; a part of a whole is one part."""
    assert parts_of_text("a" * 153, udh_octets=6) == 1
    assert parts_of_text("a" * 154, udh_octets=6) == 2
    assert parts_of_octets(134, udh_octets=6) == 1
    assert parts_of_octets(135, udh_octets=6) == 2


def test_a_header_larger_than_a_short_message_still_gives_a_number():
    """A line with a header that no short message holds is counted, not divided by nothing."""
    assert parts_of_text("abc€", udh_octets=140) >= 1
    assert parts_of_octets(10, udh_octets=300) >= 1

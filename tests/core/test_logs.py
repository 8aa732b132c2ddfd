"""What logs may hold: no value of a row, wherever PostgreSQL quotes one."""

from trafficlog.cli.logs import without_row_values


def test_values_that_an_error_quotes_are_left_out():
    """The error's own words stay, and what happened after it; its DETAIL is left out."""
    error = "duplicate key\nDETAIL:  Key (id)=(secret) exists,\nwith a second line: secret"
    chained = f"asyncpg.Error: {error}\n\nThe above exception was the cause of this:\nOops"
    event = {"event": "broke", "reason": error, "exception": chained, "rows": 3}
    assert without_row_values(None, "", event) == {
        "event": "broke",
        "reason": "duplicate key\nDETAIL: (left out)",
        "exception": "asyncpg.Error: duplicate key\nDETAIL: (left out)\n\n"
        "The above exception was the cause of this:\nOops",
        "rows": 3,
    }

"""What may happen to a store, as values that hypothesis draws, shrinks and prints.

Numbers that choose one of several things (a record sent before, a hold, a boundary) are taken
modulo how many there are, so that any list of commands can be carried out.
"""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import strategies as st

MINUTES_A_DAY = 24 * 60


@dataclass(frozen=True)
class Sent:
    """A record created ``minutes`` before now (negative: ahead), less ``ticks`` microseconds."""

    account: str
    record: str
    minutes: int
    ticks: int = 0
    number: int = 0
    ip: int = 0
    dontlog: tuple[str, ...] = ()


@dataclass(frozen=True)
class Ingest:
    """Some new records in one batch, by one of two writers."""

    records: tuple[Sent, ...]
    writer: int = 0


@dataclass(frozen=True)
class SendAgain:
    """A report that was sent before is sent again, together with those that followed it."""

    which: int
    count: int = 1
    writer: int = 0


@dataclass(frozen=True)
class Later:
    """A later report of a record that was sent before."""

    which: int
    minutes: int
    status: str | None
    message: bool = False
    ip: int = 0
    dontlog: tuple[str, ...] = ()
    writer: int = 0


@dataclass(frozen=True)
class Setting:
    """The customer's setting is changed; no days: off."""

    account: str
    days: int | None


@dataclass(frozen=True)
class Close:
    """The account is closed."""

    account: str


@dataclass(frozen=True)
class Step:
    """One step of the move of an account's history, of so many rows."""

    account: str
    rows: int


@dataclass(frozen=True)
class Move:
    """The job that moves history, until nothing is left to move."""


@dataclass(frozen=True)
class Place:
    """A hold is placed; the window is in days before now, or none."""

    selector: str
    which: int
    days: int
    window: tuple[int | None, int | None] = (None, None)


@dataclass(frozen=True)
class Release:
    """A hold is released."""

    which: int


@dataclass(frozen=True)
class Extend:
    """A hold is made to end so many days from now."""

    which: int
    days: int


@dataclass(frozen=True)
class Erase:
    """The customer erases a record by its id."""

    account: str
    record: str


@dataclass(frozen=True)
class Run:
    """A retention run."""


@dataclass(frozen=True)
class Begin:
    """A retention run that is killed in the drop of a partition."""

    which: int
    detach: bool


@dataclass(frozen=True)
class Pass:
    """Time passes."""

    minutes: int


@dataclass(frozen=True)
class Reach:
    """Time passes until something is due, or a microsecond less or more."""

    which: int
    ticks: int


@dataclass(frozen=True)
class Policy:
    """The policy of a class is changed from so many minutes on, which are more than ten."""

    data_class: str
    minutes: int
    days: int


@dataclass(frozen=True)
class Restart:
    """A writer is started anew: it knows nothing."""

    writer: int


Command = (
    Ingest
    | SendAgain
    | Later
    | Setting
    | Close
    | Step
    | Move
    | Place
    | Release
    | Extend
    | Erase
    | Run
    | Begin
    | Pass
    | Reach
    | Policy
    | Restart
)

ACCOUNTS = st.sampled_from("abc")
RECORDS = st.sampled_from(["m1", "m2", "m3"])
DAYS = st.sampled_from([1, 2, 7, 30, 60, 61, 90, 365, 1095]) | st.integers(1, 1095)
SOME = st.integers(0, 9)
WRITERS = st.sampled_from([0, 0, 1])
TICKS = st.sampled_from([0, 0, 1, -1])
WITHHELD = st.sampled_from([(), (), (), ("message",), ("from",), ("to", "message")])
AGES = st.one_of(
    st.integers(-10, 70 * MINUTES_A_DAY),
    st.integers(-10, 10),
    # Whole days: at the boundary of a setting or of the law.
    st.sampled_from([1, 2, 7, 30, 60]).map(lambda days: days * MINUTES_A_DAY),
)

sent = st.builds(
    Sent,
    account=ACCOUNTS,
    record=RECORDS,
    minutes=AGES,
    ticks=TICKS,
    number=st.integers(0, 2),
    ip=st.integers(0, 2),
    dontlog=WITHHELD,
)
ingest = st.builds(Ingest, st.lists(sent, min_size=1, max_size=3).map(tuple), WRITERS)
setting = st.builds(Setting, ACCOUNTS, st.none() | DAYS | DAYS)
passing = st.builds(Pass, st.integers(1, 40 * MINUTES_A_DAY) | st.integers(1, 60))
reaching = st.builds(Reach, st.integers(0, 3), TICKS)
placing = st.builds(
    Place,
    st.sampled_from(["account", "number", "ip", "record"]),
    SOME,
    st.integers(1, 100) | st.integers(1, 366),
    st.just((None, None))
    | st.sampled_from([(None, 1), (3, None), (30, 1), (70, -1), (None, -1), (10, 0)]),
)
anything = st.one_of(
    ingest,
    ingest,
    ingest,
    st.builds(SendAgain, SOME, st.integers(1, 3), WRITERS),
    st.builds(
        Later,
        SOME,
        st.integers(0, 3),
        st.sampled_from([None, "created", "sent", "delivered", "failed"]),
        st.booleans(),
        st.integers(0, 2),
        WITHHELD,
        WRITERS,
    ),
    setting,
    setting,
    st.builds(Step, ACCOUNTS, st.integers(1, 2)),
    st.just(Move()),
    placing,
    placing,
    st.builds(Release, SOME) | st.builds(Extend, SOME, st.integers(1, 300)),
    st.builds(Erase, ACCOUNTS, RECORDS),
    st.just(Run()),
    st.builds(Begin, SOME, st.booleans()),
    passing,
    passing,
    reaching,
    reaching,
    st.builds(
        Policy,
        st.sampled_from(["traffic_record", "traffic_record", "history_record"]),
        st.integers(11, 3 * MINUTES_A_DAY),
        st.sampled_from([1, 7, 30, 60, 61, 120]),
    )
    | st.builds(Restart, WRITERS)
    | st.builds(Close, ACCOUNTS),
)
# Without something stored there is little that could go wrong.
sequences = st.tuples(ingest, st.lists(anything, min_size=6, max_size=30)).map(
    lambda both: [both[0], *both[1]]
)

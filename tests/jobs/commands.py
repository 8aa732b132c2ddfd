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
class Want:
    """The customer wants erased what a filter means, or everything."""

    account: str
    what: str
    which: int


@dataclass(frozen=True)
class Work:
    """Steps of an erasure that is under way, each of so many rows."""

    which: int
    rows: int
    steps: int


@dataclass(frozen=True)
class Cancel:
    """An erasure is cancelled."""

    which: int


@dataclass(frozen=True)
class Run:
    """A retention run."""


@dataclass(frozen=True)
class Begin:
    """A retention run that is killed in the drop of a partition, after one of its steps.

    begun: the intent is written; pending: the detach waited for a reader; detached; settled:
    what is held is copied; undone: in the last transaction; dropped: before the next drop.
    """

    which: int
    after: str


@dataclass(frozen=True)
class Destroy:
    """A retention run that is killed after some of the copies that no hold keeps are destroyed."""

    rows: int


@dataclass(frozen=True)
class Pass:
    """Time passes."""

    minutes: int


@dataclass(frozen=True)
class Reach:
    """Time passes until something of a kind is due, or a microsecond less or more."""

    what: str
    which: int
    ticks: int


@dataclass(frozen=True)
class Ripen:
    """Time passes until the next partition with rows may be dropped."""


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
    | Want
    | Work
    | Cancel
    | Run
    | Begin
    | Destroy
    | Pass
    | Reach
    | Ripen
    | Policy
    | Restart
)

ACCOUNTS = st.sampled_from("aaaabbc")
RECORDS = st.sampled_from(["m1", "m2", "m3"])
DAYS = st.sampled_from([1, 2, 7, 30, 60, 61, 90, 365, 1095]) | st.integers(1, 1095)
SOME = st.integers(0, 9)
WRITERS = st.sampled_from([0, 0, 1])
TICKS = st.sampled_from([0, 0, 1, -1])
WITHHELD = st.sampled_from([(), (), (), ("message",), ("from",), ("to", "message")])
AGES = st.one_of(
    st.integers(-10, 70 * MINUTES_A_DAY),
    st.integers(-10, 10),
    st.integers(0, 5 * MINUTES_A_DAY),
    # Soon to be gone.
    st.integers(57 * MINUTES_A_DAY, 60 * MINUTES_A_DAY),
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
ingest = st.builds(Ingest, st.lists(sent, min_size=1, max_size=4).map(tuple), WRITERS)
again = st.builds(SendAgain, SOME, st.integers(1, 3), WRITERS)
later = st.builds(
    Later,
    SOME,
    st.integers(0, 3),
    st.sampled_from([None, "created", "sent", "delivered", "failed"]),
    st.booleans(),
    st.integers(0, 2),
    WITHHELD,
    WRITERS,
)
setting = st.builds(Setting, ACCOUNTS, st.sampled_from([None, 1, 2, 7, 30, 60, 90, 365]) | DAYS)
step = st.builds(Step, ACCOUNTS, st.integers(1, 2))
passing = st.builds(Pass, st.integers(1, 60) | st.integers(1, 40 * MINUTES_A_DAY))
reaching = st.builds(
    Reach,
    st.sampled_from(["hold", "hold", "shown", "shown", "stored", "partition", "policy"]),
    st.integers(0, 3),
    TICKS,
)
placing = st.builds(
    Place,
    st.sampled_from(["account", "number", "ip", "record"]),
    SOME,
    st.integers(1, 366),
    st.just((None, None))
    | st.sampled_from([(None, 1), (3, None), (30, 1), (70, -1), (None, -1), (10, 0)]),
)
ending = st.builds(Release, SOME) | st.builds(Extend, SOME, st.integers(1, 300))
erasing = st.builds(Erase, ACCOUNTS, RECORDS)
wanting = st.builds(Want, ACCOUNTS, st.sampled_from(["everything", "from", "status", "days"]), SOME)
working = st.builds(Work, SOME, st.integers(1, 3), st.integers(1, 4))
STEPS = ("begun", "pending", "detached", "settled", "undone", "dropped")
beginning = st.builds(Begin, SOME, st.sampled_from(STEPS))
destroying = st.builds(Destroy, st.integers(1, 2))
running = st.just(Run())
policy = st.builds(
    Policy,
    st.sampled_from(["traffic_record", "history_record"]),
    st.integers(11, 3 * MINUTES_A_DAY),
    st.sampled_from([1, 7, 30, 60, 61, 120]),
)
anything = st.one_of(
    ingest,
    again,
    later,
    setting,
    step,
    passing,
    reaching,
    placing,
    ending,
    erasing,
    wanting,
    working,
    st.builds(Cancel, SOME),
    running,
    beginning,
    destroying,
    policy,
    st.just(Move()),
    st.builds(Restart, WRITERS),
    st.builds(Close, ACCOUNTS),
)
# What is more likely to go wrong than single commands: one thing in the middle of another.
groups = st.one_of(
    st.tuples(anything),
    st.tuples(ingest, ingest),
    st.tuples(setting, step, anything),
    st.tuples(placing, erasing),
    st.tuples(wanting, working, anything, working),
    st.tuples(wanting, setting, step, working, working),
    st.tuples(placing, wanting, st.one_of(later, ending, ingest), working, working),
    st.tuples(wanting, st.builds(Ripen), beginning, working, running),
    st.tuples(st.builds(Ripen), beginning, anything),
    st.tuples(st.builds(Ripen), placing, beginning, ending, running),
    st.tuples(st.builds(Ripen), beginning, placing, beginning, running),
    # What a copy says: what the row said last, whatever destroyed it.
    st.tuples(later, placing, st.one_of(erasing, setting), running),
    st.tuples(placing, later, st.builds(Ripen), beginning, later, running),
    st.tuples(running, ending, destroying, anything),
    st.tuples(
        st.builds(Setting, ACCOUNTS, st.none()),
        anything,
        st.builds(Setting, ACCOUNTS, DAYS),
        ingest,
    ),
    st.tuples(placing, st.builds(Close, ACCOUNTS), ingest, running),
    st.tuples(passing, anything, running),
    st.tuples(setting, reaching, running),
    st.tuples(placing, st.builds(Ripen), running, reaching, running),
    st.tuples(reaching, later),
    st.tuples(policy, passing, ingest),
)
# Without something stored there is little that could go wrong.
sequences = st.tuples(ingest, st.lists(groups, min_size=4, max_size=17)).map(
    lambda both: [both[0], *(command for group in both[1] for command in group)]
)

"""What a store must hold, show and have destroyed, in plain Python.

Written from the design alone: nothing of ``trafficlog`` is imported, so a rule that is wrong
there is not wrong here in the same way. One row is one object in a dictionary, everything is
looked at one by one, and nothing is fast.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

DAY = timedelta(hours=24)
AHEAD = timedelta(minutes=10)
STATES = ("created", "sent", "delivered", "failed")
TRAFFIC, HISTORY = "traffic_record", "history_record"

# Sorts after every id.
LAST = "\x7f"
# Account, instant of creation, id: what makes two reports the same record.
Key = tuple[str, datetime, str]


def end_of_day(instant: datetime) -> datetime:
    """The upper bound of the daily partition that holds an instant."""
    return datetime(instant.year, instant.month, instant.day, tzinfo=UTC) + DAY


@dataclass(frozen=True)
class Told:
    """One report as a gateway sends it."""

    key: Key
    sender: str
    recipient: str
    ip: str | None = None
    updated: datetime | None = None
    status: str | None = None
    message: str | None = None
    dontlog: tuple[str, ...] = ()


@dataclass
class Row:
    """One stored row; ``dead`` when no customer may ever see it again."""

    expires: datetime
    sender: str | None
    recipient: str | None
    ip: str | None = None
    updated: datetime | None = None
    status: str | None = None
    message: str | None = None
    withheld: frozenset[str] = frozenset()
    dead: bool = False
    detached: bool = False


@dataclass
class Account:
    """An account's setting (``days`` None: off) and how far a change of it was carried out."""

    days: int | None
    given_up: datetime | None = None
    closed: bool = False
    moving: bool = False
    moved_up_to: tuple[datetime, str] | None = None


@dataclass
class Hold:
    """What a hold covers and until when."""

    account: str | None
    number: str | None
    ip: str | None
    record: str | None
    start: datetime | None
    end: datetime | None
    ends_at: datetime
    released: bool = False

    def covers(self, data_class: str, key: Key, row: Row) -> bool:
        """Whether the selector meets a row."""
        account, created, record = key
        return (
            self.account in (None, account)
            and self.record in (None, record)
            and (self.number is None or self.number in (row.sender, row.recipient))
            and (self.ip is None or (data_class == TRAFFIC and row.ip == self.ip))
            and (self.start is None or self.start <= created)
            and (self.end is None or created < self.end)
        )


@dataclass
class Erasure:
    """What a customer wants erased: of what was created within (start, end].

    With everything these rows as well, that were stored already though they were created later.
    """

    account: str
    start: datetime
    end: datetime
    sender: str | None = None
    status: str | None = None
    everything: bool = False
    ahead: list[Key] = field(default_factory=list)
    reached: tuple[datetime, str] = (datetime.min.replace(tzinfo=UTC), "")
    erased: int = 0
    over: bool = False

    def covers(self, key: Key) -> bool:
        """Whether it is about when a row was created, and for whom."""
        return key[0] == self.account and self.start < key[1] <= self.end

    def means(self, row: Row) -> bool:
        """Whether the filter fits."""
        return self.sender in (None, row.sender) and self.status in (None, row.status)


@dataclass
class Oracle:
    """The whole store at ``now``."""

    now: datetime
    accounts: dict[str, Account] = field(default_factory=dict)
    traffic: dict[Key, Row] = field(default_factory=dict)
    history: dict[Key, Row] = field(default_factory=dict)
    copies: dict[tuple[str, Key], Row] = field(default_factory=dict)
    holds: list[Hold] = field(default_factory=list)
    erasures: list[Erasure] = field(default_factory=list)
    # Per class what records created from an instant on are kept for, oldest first.
    policies: dict[str, list[tuple[datetime, timedelta]]] = field(
        default_factory=lambda: {
            TRAFFIC: [(datetime.min.replace(tzinfo=UTC), 60 * DAY)],
            HISTORY: [(datetime.min.replace(tzinfo=UTC), 90 * DAY)],
        }
    )
    # Rows and kept rows by class and reason, as the ledger must add up to.
    ledger: Counter[tuple[str, str]] = field(default_factory=Counter)
    ledger_held: Counter[tuple[str, str]] = field(default_factory=Counter)
    inserted: Counter[str] = field(default_factory=Counter)

    def table(self, data_class: str) -> dict[Key, Row]:
        """The rows of a class."""
        return self.traffic if data_class == TRAFFIC else self.history

    def period(self, data_class: str, created: datetime) -> timedelta:
        """What the policy in force at an instant says."""
        return [kept for start, kept in self.policies[data_class] if start <= created][-1]

    # What customers see.

    def visible(self, account: str) -> dict[Key, Row]:
        """What a customer sees now."""
        days = self.accounts[account].days
        return {
            key: row
            for key, row in self.history.items()
            if key[0] == account
            and not row.dead
            and days is not None
            and key[1] + days * DAY > self.now
        }

    def _bury(self, account: str) -> None:
        """What cannot be seen now is never seen again."""
        seen = self.visible(account)
        for key, row in self.history.items():
            if key[0] == account and key not in seen:
                row.dead = True

    # What comes in.

    def account(self, name: str) -> Account:
        """The account, made with the default setting when it is not known."""
        if name not in self.accounts:
            self.accounts[name] = Account(self.period(HISTORY, self.now) // DAY)
        return self.accounts[name]

    def accepts(self, told: Told) -> bool:
        """Whether a record may still be stored: not too far ahead, not over."""
        created = told.key[1]
        return created <= self.now + AHEAD and created + self.period(TRAFFIC, created) > self.now

    def write(self, told: Told) -> str:
        """Stores a report; says whether its record was new, or known."""
        account, created, _ = told.key
        setting = self.account(account)
        if told.key in self.traffic:
            known = self.traffic[told.key]
            known.ip = known.ip or told.ip
            known.updated = _latest(known.updated, told.updated)
            if told.key in self.history and not self.history[told.key].detached:
                _merge(self.history[told.key], told)
            return "known"
        self.inserted[TRAFFIC] += 1
        self.traffic[told.key] = Row(
            created + self.period(TRAFFIC, created),
            told.sender,
            told.recipient,
            told.ip,
            told.updated,
        )
        if (
            setting.days is not None
            and created + setting.days * DAY > self.now
            and (setting.given_up is None or created > setting.given_up)
        ):
            self.inserted[HISTORY] += 1
            row = Row(
                created + setting.days * DAY,
                told.sender,
                told.recipient,
                updated=told.updated,
                status=told.status,
                message=told.message,
                withheld=frozenset(told.dontlog),
            )
            self.history[told.key] = row
            _withhold(row)
        return "new"

    # What customers and operators decide.

    def change(self, name: str, days: int | None) -> None:
        """Changes the setting of an account that is not closed."""
        setting = self.account(name)
        if setting.days == days:
            return
        self._bury(name)
        if setting.days is None:
            # Everything up to now was given up, and so was what stands a little ahead of the
            # clock while the destruction is under way: that goes at once.
            self._give_up(setting, self.now)
            ahead = [
                key
                for key, row in self.history.items()
                if key[0] == name and key[1] > self.now and not row.detached
            ]
            self._destroy(HISTORY, ahead, "setting")
        elif days is not None:
            self._give_up(setting, self.now - min(setting.days, days) * DAY)
        setting.days = days
        self._bury(name)
        setting.moving, setting.moved_up_to = True, None

    def _give_up(self, setting: Account, up_to: datetime) -> None:
        setting.given_up = max(setting.given_up or up_to, up_to)

    def close(self, name: str) -> None:
        """Closes an account."""
        self.change(name, None)
        self.account(name).closed = True

    def erase(self, name: str, record: str) -> int:
        """The customer erases what it sees under an id."""
        gone = [key for key in self.visible(name) if key[2] == record]
        if gone:
            self._destroy(HISTORY, gone, "erased")
        return len(gone)

    def want(self, erasure: Erasure) -> int:
        """The customer wants something erased; says how much of what it sees that is."""
        setting = self.accounts[erasure.account]
        erasure.end = min(erasure.end, self.now)
        if setting.days is None:
            erasure.start = self.now
        else:
            shown_after = self.now - setting.days * DAY
            erasure.start = max(erasure.start, shown_after, setting.given_up or shown_after)
        erasure.end = max(erasure.end, erasure.start)
        erasure.reached = (erasure.start, LAST)
        seen = self.visible(erasure.account)
        if erasure.everything and setting.days is not None:
            erasure.ahead = sorted(key for key in seen if key[1] > erasure.end)
        meant = sum(erasure.covers(key) and erasure.means(row) for key, row in seen.items())
        return meant + len(erasure.ahead)

    # What time and jobs do.

    def erase_step(self, erasure: Erasure, rows_max: int) -> None:
        """Carries an erasure on by some rows, or finds that it is done."""
        if erasure.ahead:
            ahead, erasure.ahead = erasure.ahead[:rows_max], erasure.ahead[rows_max:]
            gone = [k for k in ahead if k in self.history and not self.history[k].detached]
            if gone:
                self._destroy(HISTORY, gone, "erased")
            erasure.erased += len(gone)
            return
        there = sorted(
            (key[1:], key)
            for key, row in self.history.items()
            if erasure.covers(key) and not row.detached
        )
        if erasure.reached[0] < erasure.end:
            left = [each for each in there if each[0] > erasure.reached][:rows_max]
            gone = [key for _, key in left if erasure.means(self.history[key])]
            if gone:
                self._destroy(HISTORY, gone, "erased")
            erasure.erased += len(gone)
            erasure.reached = left[-1][0] if len(left) == rows_max else (erasure.end, LAST)
        elif late := [place for place, key in there if erasure.means(self.history[key])]:
            erasure.reached = (late[0][0] - timedelta(microseconds=1), LAST)
        else:
            erasure.over = True

    def step(self, name: str, rows_max: int) -> None:
        """Carries the move of an account on by some rows, in the order of their creation."""
        setting = self.account(name)
        if not setting.moving:
            return
        left = sorted(
            (key[1:], key)
            for key, row in self.history.items()
            if key[0] == name
            and not row.detached
            and (setting.moved_up_to is None or key[1:] > setting.moved_up_to)
        )[:rows_max]
        alive = self.visible(name)
        gone = []
        for _, key in left:
            if key in alive and setting.days is not None:
                self.history[key].expires = key[1] + setting.days * DAY
            else:
                gone.append(key)
        if gone:
            self._destroy(HISTORY, gone, "setting")
        if len(left) < rows_max:
            setting.moving, setting.moved_up_to = False, None
        else:
            setting.moved_up_to = left[-1][0]

    def due(self) -> list[tuple[str, datetime]]:
        """Class and lower bound of the attached partitions with rows that may be dropped."""
        return sorted(
            {
                (data_class, end_of_day(row.expires) - DAY)
                for data_class in (TRAFFIC, HISTORY)
                for row in self.table(data_class).values()
                if not row.detached and end_of_day(row.expires) <= self.now
            }
        )

    def next_due(self) -> datetime | None:
        """When the next attached partition with rows may be dropped."""
        return min(
            (
                end_of_day(row.expires)
                for table in (self.traffic, self.history)
                for row in table.values()
                if not row.detached and end_of_day(row.expires) > self.now
            ),
            default=None,
        )

    def is_to_be_moved(self, data_class: str, lower: datetime) -> bool:
        """Whether a partition holds history that a changed setting still moves."""
        return data_class == HISTORY and any(
            self.accounts[key[0]].moving for key in self._within(data_class, lower)
        )

    def begin(self, data_class: str, lower: datetime, *, after: str) -> None:
        """A drop that is killed after one of its steps, or a run after one of its drops."""
        keys = self._within(data_class, lower)
        if after == "begun":
            return
        if after == "dropped":
            self._destroy(data_class, keys, "expired")
            return
        for key in keys:
            # No report reaches it any more: what a hold keeps is its last state.
            self.table(data_class)[key].detached = True
        if after in {"settled", "undone"}:
            self._keep(data_class, keys)

    def destroy_copy(self, data_class: str, key: Key) -> None:
        """A copy is destroyed that no hold keeps any more."""
        copy = self.copies.pop((data_class, key))
        assert copy.expires <= self.now
        assert not self._is_held(data_class, key, copy)
        self.ledger[data_class, "hold-ended"] += 1

    def copies_due(self) -> list[tuple[str, Key]]:
        """The copies that no hold keeps any more."""
        return [(c, k) for (c, k), copy in self.copies.items() if not self._is_held(c, k, copy)]

    def _within(self, data_class: str, lower: datetime) -> list[Key]:
        return [
            key for key, row in self.table(data_class).items() if lower <= row.expires < lower + DAY
        ]

    def run(self) -> None:
        """A retention run."""
        for name in self.accounts:
            while self.accounts[name].moving:
                self.step(name, 1000)
        for data_class in (TRAFFIC, HISTORY):
            over = [
                key
                for key, row in self.table(data_class).items()
                if end_of_day(row.expires) <= self.now
            ]
            self._destroy(data_class, over, "expired")
        for data_class, key in self.copies_due():
            self.destroy_copy(data_class, key)

    def _is_held(self, data_class: str, key: Key, row: Row) -> bool:
        return any(
            not h.released and h.ends_at > self.now and h.covers(data_class, key, row)
            for h in self.holds
        )

    def _keep(self, data_class: str, keys: list[Key]) -> int:
        """Copies what is held among rows; says how many are."""
        table = self.table(data_class)
        held = [key for key in keys if self._is_held(data_class, key, table[key])]
        for key in held:
            row = table[key]
            self.copies.setdefault(
                (data_class, key), replace(row, expires=min(row.expires, self.now))
            )
        return len(held)

    def _destroy(self, data_class: str, keys: list[Key], reason: str) -> None:
        self.ledger_held[data_class, reason] += self._keep(data_class, keys)
        self.ledger[data_class, reason] += len(keys)
        for key in keys:
            del self.table(data_class)[key]

    def boundaries(self, what: str) -> list[datetime]:
        """Every instant ahead at which something of a kind changes of itself."""
        rows = [*self.traffic.values(), *self.history.values()]
        match what:
            case "hold":
                instants = {h.ends_at for h in self.holds if not h.released}
            case "shown":
                instants = {
                    key[1] + self.accounts[key[0]].days * DAY
                    for name in self.accounts
                    for key in self.visible(name)
                }
            case "stored":
                instants = {row.expires for row in rows}
            case "partition":
                instants = {end_of_day(row.expires) for row in rows}
            case _:
                instants = {start for changes in self.policies.values() for start, _ in changes}
        return sorted(instant for instant in instants if instant > self.now)


def _merge(row: Row, told: Told) -> None:
    """A later report wins field by field; nothing known is lost; withheld once, withheld always."""
    later = told.updated is not None and (
        row.updated is None or (told.updated, _rank(told.status)) > (row.updated, _rank(row.status))
    )
    status, message = (told.status, told.message), (row.status, row.message)
    first, second = (status, message) if later else (message, status)
    row.status = first[0] or second[0]
    row.message = first[1] or second[1]
    row.updated = _latest(row.updated, told.updated)
    row.withheld |= frozenset(told.dontlog)
    _withhold(row)


def _latest(*instants: datetime | None) -> datetime | None:
    return max((t for t in instants if t), default=None)


def _withhold(row: Row) -> None:
    if "message" in row.withheld:
        row.message = None
    if "from" in row.withheld:
        row.sender = None
    if "to" in row.withheld:
        row.recipient = None


def _rank(status: str | None) -> int:
    return STATES.index(status) + 1 if status else 0

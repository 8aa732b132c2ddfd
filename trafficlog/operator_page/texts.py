"""Every text of the operators' page in one place.

A text that counts something stands under two keys: ``….one`` and ``….other``.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Final

ENGLISH: Final = {
    "product": "trafficlog",
    "side": "operations",
    "skip": "Skip to the content",
    "nav": "Main",
    "nav.overview": "Overview",
    "nav.accounts": "Accounts",
    "nav.holds": "Holds",
    "nav.ledger": "Ledger",
    "nav.sign_out": "Sign out",
    "nav.key": "Key",
    "utc": "Times are in UTC.",
    "none": "-",
    "more": "Pages",
    "more.next": "Next page",
    "more.first": "Back to the first page",
    # Sign in
    "sign_in.title": "Operators",
    "sign_in.lead": "Watch what comes in, what is kept and what is destroyed.",
    "sign_in.key": "Operator key",
    "sign_in.key.hint": "A key of the scope operator. It starts with “tl_”.",
    "sign_in.submit": "Sign in",
    "sign_in.refused": "This is no operator key, or it was revoked.",
    "sign_in.ended": "Your session has ended. Please sign in again.",
    "sign_in.signed_out": "You are signed out.",
    "sign_in.period.one": "A session ends after a minute.",
    "sign_in.period.other": "A session ends after {count} minutes.",
    # Overview
    "overview.title": "Overview",
    "overview.at": "As of {at} UTC.",
    "overview.reload": "Look again",
    "overview.right": "Nothing is overdue, and every job does what it has to.",
    "overview.wrong.one": "One thing needs attention",
    "overview.wrong.other": "{count} things need attention",
    "wrong.overdue": "{table}: a partition should be gone since {at}, and is still there.",
    "wrong.failing": "The job “{job}” failed in its last run: {failure}",
    "wrong.late": "The job “{job}” has not run since {at}.",
    "wrong.no_jobs": "No job has run yet. Is an instance of the service on duty?",
    "tile.rate": "New records a second",
    "tile.rate.hint": "mean of the last {minutes} minutes",
    "tile.hour": "New records in the last hour",
    "tile.hour.hint": "of all instances",
    "tile.holds": "Holds in force",
    "tile.ledger": "Ledger entries",
    "ingest.title": "What comes in",
    "ingest.chart": "New records a minute over the last hour, the present minute on the right; "
    "at most {most}.",
    "ingest.caption": "New records a minute over the last hour, of all instances; the highest bar "
    "is {most}. Counted when usage is summed up, every few seconds. Later reports of known "
    "records are not new.",
    "ingest.none": "No new record came in during the last hour.",
    "retention.title": "Retention",
    "retention.last": "Last run by the clock of {at}.",
    "retention.never": "No run is noted yet.",
    "retention.caption": "One row for each retained table. A partition is dropped when its upper "
    "bound has passed. Where too little is made ahead, the next run makes more.",
    "retention.table": "Data",
    "retention.kept": "Kept",
    "retention.kept.account": "as each account says; {span} at first",
    "retention.basis": "Legal basis",
    "retention.coming": "{span} from {at} on",
    "retention.partitions": "Partitions",
    "retention.oldest": "Oldest rows expire",
    "retention.next": "Next drop",
    "retention.headroom": "Made ahead",
    "retention.state": "State",
    "retention.overdue": "overdue by {span}",
    "retention.due.one": "one to drop",
    "retention.due.other": "{count} to drop",
    "retention.short": "short",
    "retention.right": "in order",
    "retention.begun.one": "One drop was begun and is not finished.",
    "retention.begun.other": "{count} drops were begun and are not finished.",
    "retention.moves.one": "The history of one account is being moved to a changed setting, "
    "since {at}.",
    "retention.moves.other": "The history of {count} accounts is being moved to changed settings, "
    "the first since {at}.",
    "class.traffic_record": "Traffic data",
    "class.history_record": "History",
    "class.debug_log": "Debug log",
    "class.in_transit": "In transit",
    "class.access_log": "Access log",
    "jobs.title": "Jobs",
    "jobs.caption": "The last runs on whichever instance was on duty. Runs that go well are noted "
    "once a minute.",
    "jobs.job": "Job",
    "jobs.ran": "Last run",
    "jobs.succeeded": "Last success",
    "jobs.failures": "Failed runs",
    "jobs.failed": "Last failure",
    "jobs.state": "State",
    "jobs.none": "No job has run yet.",
    "job.retention": "Retention",
    "job.moves": "Moves of history",
    "job.erasures": "Erasures",
    "job.usage": "Sums of usage",
    "job.reports": "Monthly reports",
    "state.right": "in order",
    "state.failing": "failing",
    "state.late": "late",
    "state.open": "open",
    "state.closed": "closed",
    "state.active": "in force",
    "state.released": "released",
    "state.ended": "ended",
    # Accounts
    "accounts.title": "Accounts",
    "accounts.search": "Account or name",
    "accounts.search.submit": "Search",
    "accounts.search.all": "Show all",
    "accounts.none": "There is no such account.",
    "accounts.none.yet": "There is no account yet.",
    "accounts.caption": "By their ids.",
    "accounts.account": "Account",
    "accounts.name": "Name",
    "accounts.history": "History",
    "accounts.created": "Made",
    "accounts.state": "State",
    "accounts.off": "off",
    "accounts.moving": "a change applies since {at}",
    "account.title": "Account",
    "account.back": "Accounts",
    "account.reports": "Monthly reports",
    "account.currency": "Currency",
    "account.closed": "Closed",
    "account.gone": "Nothing is shown up to",
    "account.moving": "Change applying since",
    "account.changes": "Changes of its settings",
    "account.changes.none": "Its settings were never changed.",
    "account.change.at": "When",
    "account.change.by": "By",
    "account.change.what": "What",
    "account.holds": "What the account has stored, its customer alone sees.",
    "yes": "yes",
    "no": "no",
    # Holds
    "holds.title": "Holds",
    "holds.active": "In force",
    "holds.over": "Over",
    "holds.which": "Which holds",
    "holds.none.active": "No hold is in force.",
    "holds.none.over": "No hold is over yet.",
    "holds.caption": "Newest first.",
    "holds.covers": "Covers",
    "holds.case": "Case",
    "holds.reason": "Reason",
    "holds.placed": "Placed",
    "holds.until": "Ends",
    "holds.copies": "Copies",
    "holds.by": "by {actor}",
    "hold.title": "Hold",
    "hold.back": "Holds",
    "hold.id": "Id",
    "hold.window": "Created",
    "hold.window.from": "from {at}",
    "hold.window.to": "before {at}",
    "hold.state": "State",
    "hold.released": "Released",
    "hold.copies": "What it keeps",
    "hold.copies.none": "Nothing that has expired so far. What it covers is where it always was.",
    "hold.copies.hint": "Copies of rows whose time is over. What is not over yet is where "
    "it always was.",
    "hold.extended": "The hold ends at {at} now.",
    "hold.release.done": "The hold is released. What only it kept is destroyed by the next run.",
    "hold.extend.title": "Let it end at another time",
    "hold.extend.until": "Ends at (UTC)",
    "hold.extend.submit": "Change the end",
    "hold.release.title": "Release it now",
    "hold.release.means": "What only this hold keeps is destroyed by the next retention run. "
    "It does not come back.",
    "hold.release.sure": "I know that these copies will be destroyed",
    "hold.release.sure.wrong": "Nothing was released: confirm that you know what it means.",
    "hold.release.submit": "Release the hold",
    "hold.wrong": "Nothing was changed. {field}: {reason}.",
    "selector.account": "account",
    "selector.number": "number",
    "selector.ip": "IP address",
    "selector.record": "record",
    "place.title": "Place a hold",
    "place.means": "From then on nothing that it covers is destroyed, until it ends or is "
    "released.",
    "place.what": "Covers",
    "place.what.wrong": "must be one of those offered",
    "place.value": "Which",
    "place.value.hint": "A record is written ACCOUNT/ID. A number is either side's.",
    "place.created_from": "Only what was created from (UTC)",
    "place.created_to": "Only what was created before (UTC)",
    "place.optional": "May be left empty.",
    "place.reason": "Reason",
    "place.case_ref": "Case",
    "place.until": "Ends at (UTC)",
    "place.until.hint": "At most {days} days from now; it may be extended.",
    "place.submit": "Place the hold",
    "place.wrong": "No hold was placed. {field}: {reason}.",
    "hold.placed": "The hold is placed. Nothing that it covers is destroyed from now on.",
    # Ledger
    "ledger.title": "Ledger",
    "ledger.lead": "One entry for each thing destroyed, each chained to the one before it.",
    "ledger.verify": "Verify now",
    "ledger.verify.means": "Reads the whole ledger and holds catalogue, ledger and clock against "
    "each other, as the command “trafficlog retention verify” does. It changes nothing.",
    "ledger.right": "Verified at {at}: the chain of {entries} entries holds, and in {partitions} "
    "partitions nothing is overdue and nothing went early.",
    "ledger.wrong": "Verified at {at}: {entries} entries and {partitions} partitions were looked "
    "at, and this was found:",
    "ledger.findings.more": "… and {count} more findings.",
    "ledger.head": "Head of the chain",
    "ledger.latest": "Latest entries",
    "ledger.caption": "Newest first.",
    "ledger.none": "Nothing was destroyed yet.",
    "ledger.seq": "Entry",
    "ledger.at": "When",
    "ledger.class": "Data",
    "ledger.object": "What",
    "ledger.reason": "Why",
    "ledger.rows": "Rows",
    "ledger.held": "Held",
    "ledger.hash": "Hash",
    # What went wrong
    "error.title": "This did not work",
    "error.home": "Go to the overview",
    "error.400": "The request was not understood.",
    "error.403": "This is not allowed.",
    "error.403.form": "This form is not from a page of your session, so nothing was done. Go "
    "back, reload the page and try again.",
    "error.404": "There is nothing here.",
    "error.405": "This address does not take such a request.",
    "error.408": "The form did not arrive in time.",
    "error.409": "Things have changed meanwhile. Please look again.",
    "error.413": "The form is too large.",
    "error.415": "The form is of a kind that is not read here.",
    "error.429": "Too many wrong keys came from your address. Please try again in a minute.",
    "error.500": "Something went wrong here. The log says what.",
    "error.503": "The database does not answer at the moment. Please try again shortly.",
    # Lengths of time
    "days.one": "a day",
    "days.other": "{count} days",
    "hours.one": "an hour",
    "hours.other": "{count} hours",
    "minutes.one": "a minute",
    "minutes.other": "{count} minutes",
    "moment": "a moment",
    "ahead": "in {span}",
    "ago": "{span} ago",
    "now": "just now",
}


def text(key: str, **values: object) -> str:
    """The text of a key, with its values put in.

    Raises:
        KeyError: there is no such text.
    """
    return ENGLISH[key].format(**values)


def counted(key: str, count: int, **values: object) -> str:
    """The text of a key that counts something."""
    return text(f"{key}.one" if count == 1 else f"{key}.other", count=f"{count:,}", **values)


def span(period: timedelta) -> str:
    """A length of time, in the largest unit of which it has two."""
    for name, unit, least in (
        ("days", timedelta(days=1), 2),
        ("hours", timedelta(hours=1), 2),
        ("minutes", timedelta(minutes=1), 1),
    ):
        if period >= unit * least:
            return counted(name, period // unit)
    return text("moment")


def distance(period: timedelta) -> str:
    """How long it still is, or has been."""
    if -timedelta(minutes=1) < period <= timedelta(0):
        return text("now")
    key = "ahead" if period >= timedelta(0) else "ago"
    return text(key, span=span(abs(period)))

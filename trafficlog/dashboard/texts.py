"""Every text of the page in one place, so that a second language is a second table.

A text that counts something stands under two keys: ``….one`` and ``….other``.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Final

ENGLISH: Final = {
    "product": "trafficlog",
    "language": "en",
    "skip": "Skip to the content",
    "nav": "Main",
    "nav.history": "History",
    "nav.settings": "Settings",
    "nav.sign_out": "Sign out",
    "nav.account": "Signed in as",
    "unit.utc": "UTC",
    "absent": "not stored",
    # Sign in
    "sign_in.title": "Sign in",
    "sign_in.lead": "See what is stored about your messages and calls, and decide how long.",
    "sign_in.account": "Account",
    "sign_in.key": "API key",
    "sign_in.key.hint": "A customer key of this account. It starts with “tl_”.",
    "sign_in.submit": "Sign in",
    "sign_in.refused": "This account and this key do not belong together, or the key was revoked.",
    "sign_in.ended": "Your session has ended. Please sign in again.",
    "sign_in.signed_out": "You are signed out.",
    "sign_in.period.one": "A session ends after a minute.",
    "sign_in.period.other": "A session ends after {count} minutes.",
    # History
    "history.title": "History",
    "history.kept": "What is kept",
    "history.days.one": "Your history is kept for a day.",
    "history.days.other": "Your history is kept for {count} days.",
    "history.days.means": "Each record disappears that long after it was created, to the second, "
    "and does not come back.",
    "history.off": "Your history is off.",
    "history.off.means": "No record of yours is written to the history, and none is shown.",
    "history.gone": "Nothing created up to {at} is shown: it was given up by an earlier change.",
    "history.moving": "A change of {at} is still being applied to what is stored; what you see "
    "follows it already.",
    "history.change": "Change this",
    "filter.title": "Filter",
    "filter.any": "Any",
    "filter.kind": "Kind",
    "filter.direction": "Direction",
    "filter.status": "Status",
    "filter.from": "From",
    "filter.to": "To",
    "filter.after": "Created after (UTC)",
    "filter.before": "Created before (UTC)",
    "filter.submit": "Filter",
    "filter.reset": "Show all",
    "filter.wrong": "{field}: {reason}.",
    "records.title": "Records",
    "records.caption": "Newest first. Times are in UTC.",
    "records.empty": "There are no records here.",
    "records.empty.filtered": "No record fits this filter.",
    "records.next": "Older records",
    "records.first": "Back to the newest",
    "records.more": "Page of records",
    "cursor.wrong": "This link to a page of records is not valid any more",
    # One record
    "record.title": "Record",
    "record.back": "History",
    "record.several": "{count} records carry this id, newest first.",
    "record.what": "What is stored",
    "record.life": "Its life",
    "record.kind": "Kind",
    "record.direction": "Direction",
    "record.from": "From",
    "record.to": "To",
    "record.status": "Status",
    "record.duration": "Duration",
    "record.parts": "Parts",
    "record.cost": "Cost",
    "record.cost.unit": "in the currency of the account",
    "record.owner": "Owner",
    "record.tags": "Tags",
    "record.message": "Message",
    "record.created": "Created",
    "record.updated": "Last report",
    "record.delivered": "Delivered",
    "record.expires": "Disappears",
    "erase.title": "Erase",
    "erase.means": "This takes the record out of your history for good. It cannot be undone.",
    "erase.means.several": "This takes all {count} records of this id out of your history for "
    "good. It cannot be undone.",
    "erase.remains": "What the law obliges the operator to keep about it stays until {at}: who "
    "communicated with whom, when and how, without the content.",
    "erase.submit.one": "Erase this record",
    "erase.submit.other": "Erase these {count} records",
    # The receipt
    "receipt.title": "Erased",
    "receipt.rows.one": "One record is gone from your history.",
    "receipt.rows.other": "{count} records are gone from your history.",
    "receipt.keep": "Keep this page if you need a receipt: it is shown once.",
    "receipt.number": "Receipt",
    "receipt.record": "Record",
    "receipt.at": "Erased at",
    "receipt.trace": "Last physical trace gone by",
    "receipt.remains": "What remains by law",
    "receipt.remains.until": "The traffic data of this communication is kept until {at}.",
    "receipt.remains.basis": "Legal basis: {basis}",
    "receipt.remains.nothing": "Nothing.",
    "receipt.back": "Back to the history",
    # Settings
    "settings.title": "Settings",
    "settings.history": "History",
    "settings.on": "Keep my history",
    "settings.on.hint": "Records are shown here until the days are over.",
    "settings.days": "Days",
    "settings.days.hint": "From 1 to {most}, counted from when a record was created.",
    "settings.off": "Keep no history",
    "settings.off.hint": "Nothing is written from now on, and what is there disappears at once.",
    "settings.law": "This does not touch what the law obliges the operator to keep.",
    "settings.preview": "Continue",
    "settings.preview.hint": "You will see what it would hide before anything changes.",
    "settings.changed": "Your settings are changed.",
    "settings.same": "This is your setting already: nothing would change.",
    "settings.wrong": "{field}: {reason}.",
    "settings.choice.wrong": "Choose whether to keep your history.",
    "settings.number.wrong": "must be a whole number of days",
    # The preview
    "preview.title": "Change the history setting?",
    "preview.now": "Now",
    "preview.then": "Then",
    "preview.days.one": "kept for a day",
    "preview.days.other": "kept for {count} days",
    "preview.off": "off",
    "preview.hidden": "Records that disappear",
    "preview.hidden.none": "No record of yours disappears by this.",
    "preview.hidden.one": "One record of yours disappears at once, for good.",
    "preview.hidden.other": "{count} records of yours disappear at once, for good.",
    "preview.longer": "Records that have not expired are kept for the longer time; what has "
    "disappeared before does not come back.",
    "preview.on": "Records are kept from now on. What was stored before history was turned off "
    "does not come back.",
    "preview.confirm": "Confirm the change",
    "preview.cancel": "Cancel",
    # What went wrong
    "error.title": "This did not work",
    "error.home": "Go to the history",
    "error.400": "The request was not understood.",
    "error.401": "Sign in first.",
    "error.403": "This is not allowed.",
    "error.403.form": "This form is not from a page of your session, so nothing was done. Go "
    "back, reload the page and try again.",
    "error.404": "There is nothing here.",
    "error.404.record": "There is no such record in your history. It may have been erased, or its "
    "time was over.",
    "error.405": "This address does not take such a request.",
    "error.408": "The form did not arrive in time.",
    "error.409": "Things have changed meanwhile. Please look again.",
    "error.413": "The form is too large.",
    "error.415": "The form is of a kind that is not read here.",
    "error.429": "There is too much to do at the moment. Please try again shortly.",
    "error.500": "Something went wrong here. It is noted, and nothing of it is your fault.",
    "error.503": "The records cannot be reached at the moment. Please try again shortly.",
    # The closed sets
    "kind.sms": "SMS",
    "kind.mms": "MMS",
    "kind.call": "Call",
    "direction.incoming": "Incoming",
    "direction.outgoing": "Outgoing",
    "direction.outgoing-reply": "Reply",
    "status.created": "Created",
    "status.ongoing": "Ongoing",
    "status.sent": "Sent",
    "status.received": "Received",
    "status.delivered": "Delivered",
    "status.failed": "Failed",
    "status.success": "Success",
    "status.busy": "Busy",
    "status.no-answer": "No answer",
    # Lengths of time
    "time.days.one": "in a day",
    "time.days.other": "in {count} days",
    "time.hours.one": "in an hour",
    "time.hours.other": "in {count} hours",
    "time.minutes.one": "in a minute",
    "time.minutes.other": "in {count} minutes",
    "time.moment": "in a moment",
    "seconds.one": "a second",
    "seconds.other": "{count} seconds",
    "minutes.one": "a minute",
    "minutes.other": "{count} minutes",
}


def text(key: str, **values: object) -> str:
    """The text of a key, with its values put in.

    Raises:
        KeyError: there is no such text.
    """
    return ENGLISH[key].format(**values)


def counted(key: str, count: int) -> str:
    """The text of a key that counts something."""
    return text(f"{key}.one" if count == 1 else f"{key}.other", count=f"{count:,}")


def until(period: timedelta) -> str:
    """How long it still is, in the largest whole unit."""
    for name, unit in (
        ("time.days", timedelta(days=1)),
        ("time.hours", timedelta(hours=1)),
        ("time.minutes", timedelta(minutes=1)),
    ):
        if period >= unit:
            return counted(name, period // unit)
    return text("time.moment")


def duration(seconds: int) -> str:
    """A length of time in minutes and seconds."""
    minutes, rest = divmod(seconds, 60)
    parts = [counted("minutes", minutes)] if minutes else []
    if rest or not minutes:
        parts.append(counted("seconds", rest))
    return " ".join(parts)

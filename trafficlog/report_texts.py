"""The texts of a printed report, in the languages that it is printed in."""

from __future__ import annotations

from typing import Final

LANGUAGES: Final = ("en", "sv")
ENGLISH: Final = {
    "title": "Usage in {month}",
    "account": "Account",
    "made": "Made",
    "covers": "It counts all that was stored until then",
    "state": "State",
    "final": "final: it does not change any more",
    "provisional": "provisional: late records and later states are added until {until} UTC, when "
    "it becomes final",
    "currency": "Currency",
    "currency.unknown": "The currency of the account is not known here.",
    "lines": "By kind, direction and status",
    "days": "By day",
    "day": "Day (UTC)",
    "kind": "Kind",
    "direction": "Direction",
    "status": "Status",
    "records": "Records",
    "parts": "Parts",
    "duration": "Duration",
    "cost": "Cost",
    "total": "In all",
    "chart": "Records by day",
    "empty": "Nothing was used in this month.",
    "foot": "A record counts on the day of its creation (UTC) and under the last status that was "
    "reported of it. Durations are in hours, minutes and seconds. The report is made from "
    "totals alone: there is no number, address or text in it.",
    "sms": "SMS",
    "mms": "MMS",
    "call": "Call",
    "incoming": "Incoming",
    "outgoing": "Outgoing",
    "outgoing-reply": "Reply",
    "none": "none",
    "created": "Created",
    "ongoing": "Ongoing",
    "sent": "Sent",
    "received": "Received",
    "delivered": "Delivered",
    "failed": "Failed",
    "success": "Success",
    "busy": "Busy",
    "no-answer": "No answer",
    "point": ".",
}
SWEDISH: Final = {
    "title": "Användning i {month}",
    "account": "Konto",
    "made": "Gjord",
    "covers": "Den räknar allt som lagrats fram till dess",
    "state": "Läge",
    "final": "slutlig: den ändras inte mer",
    "provisional": "preliminär: sena poster och senare status läggs till fram till {until} UTC, då "
    "den blir slutlig",
    "currency": "Valuta",
    "currency.unknown": "Kontots valuta är inte känd här.",
    "lines": "Efter typ, riktning och status",
    "days": "Efter dag",
    "day": "Dag (UTC)",
    "kind": "Typ",
    "direction": "Riktning",
    "status": "Status",
    "records": "Poster",
    "parts": "Delar",
    "duration": "Längd",
    "cost": "Kostnad",
    "total": "Totalt",
    "chart": "Poster per dag",
    "empty": "Inget har använts under den här månaden.",
    "foot": "En post räknas på dagen då den skapades (UTC) och under den senaste status som "
    "rapporterats för den. Längder är i timmar, minuter och sekunder. Rapporten görs bara av "
    "summor: den innehåller inga nummer, adresser eller texter.",
    "sms": "SMS",
    "mms": "MMS",
    "call": "Samtal",
    "incoming": "Inkommande",
    "outgoing": "Utgående",
    "outgoing-reply": "Svar",
    "none": "ingen",
    "created": "Skapad",
    "ongoing": "Pågår",
    "sent": "Skickad",
    "received": "Mottagen",
    "delivered": "Levererad",
    "failed": "Misslyckad",
    "success": "Lyckad",
    "busy": "Upptaget",
    "no-answer": "Inget svar",
    "point": ",",
}
TEXTS: Final = {"en": ENGLISH, "sv": SWEDISH}
MONTHS: Final = {
    "en": (
        *("January", "February", "March", "April", "May", "June"),
        *("July", "August", "September", "October", "November", "December"),
    ),
    "sv": (
        *("januari", "februari", "mars", "april", "maj", "juni"),
        *("juli", "augusti", "september", "oktober", "november", "december"),
    ),
}

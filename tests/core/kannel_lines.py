"""Lines as Kannel's bearerbox writes them, for the tests."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

START = datetime(2026, 11, 21, 22, 0, 0, tzinfo=UTC)


def line(
    event: str = "Sent SMS",
    *,
    seconds: int = 0,
    stamp: str | None = None,
    smsc: str = "FAKE",
    service: str = "u0001",
    owner: str = "",
    fid: str | None = "",
    meta: str = "",
    sender: str = "Elks",
    recipient: str = "+46700000001",
    coding: int = 0,
    mask: int = 31,
    text: str | bytes = "hej",
    octets: int | None = None,
    udh: str = "",
) -> bytes:
    """One line; a text is written in its coding, bytes as they are."""
    stamp = stamp or (START + timedelta(seconds=seconds)).strftime("%Y-%m-%d %H:%M:%S")
    if isinstance(text, str):
        raw = text.encode("utf-16-be" if coding == 2 else "utf-8", "surrogatepass")
    else:
        raw = text
    written = raw.hex().upper().encode() if coding in {1, 2} else raw
    octets = len(raw) if octets is None else octets
    fields = f"[FID:{fid}] [META:{meta}] " if fid is not None else ""
    head = (
        f"{stamp} {event} [SMSC:{smsc}] [SVC:{service}] [ACT:{owner}] [BINF:] {fields}"
        f"[from:{sender}] [to:{recipient}] [flags:-1:{coding}:-1:-1:{mask}] [msg:{octets}:"
    )
    return head.encode() + written + f"] [udh:{len(udh) // 2}:{udh}]".encode()


def report(kind: int, *, fid: str = "", seconds: int = 0, **others: str) -> bytes:
    """The line of a delivery report."""
    text = "ACK/" if kind == 8 else "NACK/" if kind == 16 else ""
    return line(
        "Receive DLR",
        seconds=seconds,
        fid=fid,
        meta="?orig_msg?dlr_mask=31&",
        coding=-1,
        mask=kind,
        text=text,
        **others,
    )

"""From a run that drops partitions to a certificate that is checked far from the store."""

from __future__ import annotations

import json
import os
import stat
from dataclasses import asdict

import orjson
import pytest

from tests.cli.process import TIME_TRAVEL, invoke
from tests.cli.test_commands import NOBODY
from tests.core.test_certificate import ENTRIES, KEY, SIGNED
from trafficlog.signing import pem

FROM, TO, AFTER = "2027-03-01", "2027-04-01", "2027-04-02T00:00:00Z"
LATER = TIME_TRAVEL | {"TRAFFICLOG_NOW": AFTER}
# No database is there: a check that asked for one would fail.
OFFLINE = {"dsn": NOBODY}
PERIOD = ("--from", FROM, "--to", TO)


@pytest.fixture
def run(database, tmp_path):
    """Runs a command on the database, a month after the run that drops."""
    env = LATER | {
        "TRAFFICLOG_SIGNING_KEY_FILE": str(tmp_path / "key.pem"),
        "TRAFFICLOG_ISSUER": "Example Telecom",
        "TRAFFICLOG_HEADROOM_DAYS": "1",
        "TRAFFICLOG_HEADROOM_HOURS": "1",
    }

    def work(*arguments: str, **more: str):
        return invoke(*arguments, dsn=database, env=env | more)

    return work


@pytest.fixture
def issued(run, tmp_path):
    """A store that has dropped partitions; its certificate, public key and ledger as files."""
    for at in ("2026-11-22", FROM, AFTER):
        assert run("retention", "run", "--at", at).code == 0
    page = tmp_path / "certificate.html"
    done = run("ledger", "certificate", *PERIOD, "--html", str(page), "--json")
    assert done.code == 0, done.err
    (tmp_path / "certificate.json").write_text(done.out)
    (tmp_path / "public.pem").write_text(run("ledger", "public-key").out)
    (tmp_path / "ledger.json").write_text(run("ledger", "export", "--json").out)
    return tmp_path


@pytest.fixture
def files(tmp_path):
    """A certificate, the public key and the ledger, as one is given them who has no store."""
    (tmp_path / "certificate.json").write_bytes(SIGNED.text)
    (tmp_path / "public.pem").write_text(pem(KEY.public_key()))
    entries = [asdict(e) | {"previous": e.previous.hex(), "hash": e.hash.hex()} for e in ENTRIES]
    (tmp_path / "ledger.json").write_bytes(orjson.dumps({"entries": entries}))
    return tmp_path


def check(
    directory,
    *,
    key: str | None = "public.pem",
    ledger: str | None = "ledger.json",
    name="certificate.json",
):
    """Checks a certificate offline; the answer."""
    arguments = ["--certificate", str(directory / name)]
    arguments += [] if key is None else ["--public-key", str(directory / key)]
    arguments += [] if ledger is None else ["--file", str(directory / ledger)]
    done = invoke("ledger", "verify", *arguments, "--json", **OFFLINE)
    return done.code, done.json


def test_a_certificate_of_real_drops_is_verified_offline(issued, run):
    """With the public key and the exported ledger: it is right, and nothing is left open."""
    code, answer = check(issued)
    assert (code, answer["ok"], answer["faults"], answer["notes"]) == (0, True, [], [])
    assert (answer["origin_checked"], answer["ledger_checked"]) == (True, True)
    assert (answer["from"], answer["to"]) == ("2027-03-01T00:00:00Z", "2027-04-01T00:00:00Z")
    assert answer["issuer"] == "Example Telecom"
    said = json.loads((issued / "certificate.json").read_text())["certificate"]
    exported = json.loads((issued / "ledger.json").read_text())["entries"]
    of_period = [e for e in exported if e["at"] == "2027-03-01T00:00:00Z"]
    assert of_period
    assert len(exported) > len(of_period)
    assert sum(t["entries"] for t in said["destruction"]["totals"]) == len(of_period)
    # The page says it too, and needs no other file.
    page = (issued / "certificate.html").read_text()
    for forbidden in ("<script", "src=", "href=", "url(", "@import", "style="):
        assert forbidden not in page
    signature = json.loads((issued / "certificate.json").read_text())["signature"]["value"]
    for told in ("Example Telecom", "2027-03-01 00:00", signature):
        assert told in page.replace("&#43;", "+")
    # The ledger goes on, and the certificate holds.
    assert run("retention", "run", "--at", "2027-04-09").code == 0
    (issued / "ledger.json").write_text(run("ledger", "export", "--json").out)
    assert len(json.loads((issued / "ledger.json").read_text())["entries"]) > len(exported)
    assert check(issued) == (0, answer)


def test_people_get_a_table(run):
    """Totals, and what ties the certificate down; a period without any says so."""
    for at in ("2026-11-22", FROM, AFTER):
        assert run("retention", "run", "--at", at).code == 0
    done = run("ledger", "certificate", *PERIOD)
    assert done.code == 0
    assert "traffic_record" in done.out
    assert "0 faults found" in done.out
    empty = run("ledger", "certificate", "--from", "2026-01-01", "--to", "2026-02-01")
    assert empty.out.startswith("nothing was destroyed")


def test_with_the_embedded_key_alone_the_origin_is_said_to_be_open(files):
    """For programs and for people; it is not an error."""
    code, answer = check(files, key=None, ledger=None)
    assert (code, answer["origin_checked"], answer["ledger_checked"]) == (0, False, False)
    assert "by whom it was signed is open" in answer["notes"][0]
    path = str(files / "certificate.json")
    done = invoke("ledger", "verify", "--certificate", path, **OFFLINE)
    assert "by whom it was signed is open" in done.out
    assert "is right" in done.out


def test_a_tampered_certificate_is_exit_code_1(files):
    """A changed count, and a whole certificate by another's key."""
    text = (files / "certificate.json").read_text()
    (files / "changed.json").write_text(text.replace('"rows":122', '"rows":121'))
    code, answer = check(files, key=None, ledger=None, name="changed.json")
    assert (code, answer["ok"]) == (1, False)
    assert "changed" in answer["faults"][0]
    other = str(files / "other.pem")
    invoked = invoke("ledger", "public-key", "--signing-key-file", other, **OFFLINE)
    (files / "other_public.pem").write_text(invoked.out)
    code, answer = check(files, key="other_public.pem")
    assert (code, answer["ok"]) == (1, False)
    assert "not signed with the key" in answer["faults"][0]


def test_a_tampered_export_is_exit_code_1(files):
    """A changed count, an entry left out, the end cut off: each is found, and told for people."""
    whole = json.loads((files / "ledger.json").read_text())["entries"]
    changed = [e | {"rows": 5} if e["seq"] == 2 else e for e in whole]
    for entries in (changed, [e for e in whole if e["seq"] != 2], whole[:3], []):
        (files / "forged.json").write_text(json.dumps({"entries": entries}))
        code, answer = check(files, ledger="forged.json")
        assert (code, answer["ok"]) == (1, False)
        assert answer["faults"]
    path, forged = str(files / "certificate.json"), str(files / "forged.json")
    told = invoke("ledger", "verify", "--certificate", path, "--file", forged, **OFFLINE)
    assert told.code == 1
    assert told.out.startswith("fault: the ledger ends at entry 0")


def test_a_fault_is_stated_and_is_exit_code_1(issued, run):
    """By the certificate, by the page, by the command, and by who checks it."""
    overdue = {"TRAFFICLOG_NOW": "2027-06-01T00:00:00Z"}
    page = issued / "faulty.html"
    done = run("ledger", "certificate", *PERIOD, "--html", str(page), "--json", **overdue)
    assert done.code == 1
    assert done.json["certificate"]["verification"]["count"] > 0
    (issued / "faulty.json").write_text(done.out)
    assert "faults were found" in page.read_text()
    code, answer = check(issued, name="faulty.json")
    assert (code, answer["ok"]) == (0, True)
    assert answer["findings"] == done.json["certificate"]["verification"]["count"]
    assert "states" in answer["notes"][0]
    told = run("ledger", "certificate", *PERIOD, **overdue)
    assert told.code == 1
    assert "fault: overdue" in told.out


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("certificate", "--from", FROM), "--to"),
        (("certificate", "--from", FROM, "--to", "2027-04-03"), "--to"),
        (("certificate", "--from", TO, "--to", FROM), "--from"),
        (("certificate", "--from", "then", "--to", TO), "--from"),
        (("certificate", *PERIOD, "--issuer", ""), "--issuer"),
        (("certificate", *PERIOD, "--html", "/nowhere/page.html"), "--html"),
        (("verify", "--public-key", os.devnull), "--certificate"),
        (("verify", "--certificate", "/nowhere"), "--certificate"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_wrong_usage_names_what_is_wrong(run, arguments, named):
    """Exit code 2 and the option."""
    done = run("ledger", *arguments)
    assert done.code == 2, done.err
    assert named in done.err


def test_a_file_that_is_something_else_is_wrong_usage(files):
    """Each of the three files is told by its option."""
    certificate, public, ledger = (
        str(files / name) for name in ("certificate.json", "public.pem", "ledger.json")
    )
    for given, named in (
        ((ledger, public, ledger), "--certificate"),
        ((certificate, ledger, ledger), "--public-key"),
        ((certificate, public, certificate), "--file"),
    ):
        options = zip(("--certificate", "--public-key", "--file"), given, strict=True)
        done = invoke("ledger", "verify", *(o for pair in options for o in pair), **OFFLINE)
        assert done.code == 2, done.err
        assert f"trafficlog: {named}" in done.err


def test_where_the_key_is(tmp_path, monkeypatch):
    """In the data directory; with a database elsewhere only if one of the two was named."""
    monkeypatch.chdir(tmp_path)

    def public_key(*arguments: str, dsn: str = "", **env: str):
        return invoke("ledger", "public-key", "--json", *arguments, dsn=dsn, env=env)

    data = tmp_path / "data"
    default = public_key()
    embedded = public_key("--data-dir", str(data))
    elsewhere = public_key("--data-dir", str(tmp_path / "other"), **OFFLINE)
    named = public_key("--signing-key-file", str(tmp_path / "my.pem"), **OFFLINE)
    for place in ("var/signing_key.pem", "data/signing_key.pem", "other/signing_key.pem", "my.pem"):
        assert stat.S_IMODE((tmp_path / place).stat().st_mode) == 0o600
    keys = (default, embedded, elsewhere, named)
    assert {done.code for done in keys} == {0}
    assert len({done.json["key_id"] for done in keys}) == 4
    unnamed = public_key(**OFFLINE)
    assert unnamed.code == 1
    assert "TRAFFICLOG_SIGNING_KEY_FILE" in unnamed.err
    again = public_key(TRAFFICLOG_DATA_DIR=str(data), **OFFLINE)
    assert again.json == embedded.json
    assert again.json["pem"].startswith("-----BEGIN PUBLIC KEY-----")
    assert not any("PRIVATE" in done.out + done.err for done in keys)

"""The signing key's file: made once, for its owner alone, and never in half."""

from __future__ import annotations

import os
import stat
import subprocess
import sys

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from trafficlog.errors import InvalidValueError, SigningKeyError
from trafficlog.signature import key_id
from trafficlog.signing import pem, public_key, signing_key


def written(key, password: bytes | None = None) -> bytes:
    """A private key as a file."""
    protection = NoEncryption() if password is None else BestAvailableEncryption(password)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, protection)


def test_a_key_is_made_once_for_its_owner_alone(tmp_path):
    """Mode 0600 whatever the umask, its directory 0700; afterwards it is the same key."""
    path = tmp_path / "data" / "signing_key.pem"
    umask = os.umask(0)
    try:
        made = signing_key(path)
    finally:
        os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert [each.name for each in path.parent.iterdir()] == ["signing_key.pem"]
    assert written(signing_key(path)) == written(made) == path.read_bytes()


def test_of_several_processes_at_once_one_makes_the_key_of_all(tmp_path):
    """No process goes on with a key that another one has replaced."""
    path = tmp_path / "signing_key.pem"
    program = (
        "import sys, pathlib, trafficlog.signing as s, trafficlog.signature as c\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        "print(c.key_id(s.signing_key(pathlib.Path(sys.argv[1])).public_key()))"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for _ in range(4)
    ]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    told = {p.communicate(timeout=60)[0].splitlines()[-1] for p in processes}
    assert told == {key_id(signing_key(path).public_key())}
    assert [each.name for each in tmp_path.iterdir()] == ["signing_key.pem"]


def test_a_key_made_meanwhile_is_not_replaced(tmp_path, monkeypatch):
    """Between the look for the file and its making another process was quicker."""
    path = tmp_path / "signing_key.pem"
    path.write_bytes(written(Ed25519PrivateKey.generate()))
    path.chmod(0o600)
    before = path.read_bytes()
    monkeypatch.setattr("pathlib.Path.exists", lambda _: False)
    assert written(signing_key(path)) == before == path.read_bytes()


@pytest.mark.parametrize("mode", [0o604, 0o620, 0o602, 0o666])
def test_a_key_that_others_can_read_or_replace_is_not_used(tmp_path, mode):
    """Its signature would prove nothing. A group may read it: so containers are given secrets."""
    path = tmp_path / "signing_key.pem"
    signing_key(path)
    path.chmod(0o640)
    signing_key(path)
    path.chmod(mode)
    with pytest.raises(SigningKeyError, match="chmod 600"):
        signing_key(path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"secret text",
        written(generate_private_key(SECP256R1())),
        written(Ed25519PrivateKey.generate(), b"password"),
        pem(Ed25519PrivateKey.generate().public_key()).encode(),
    ],
    ids=["empty", "text", "another kind", "with a password", "public"],
)
def test_what_is_no_signing_key_is_refused_and_left_alone(tmp_path, content):
    """A broken file is not replaced by a new key, and nothing of it is told."""
    path = tmp_path / "signing_key.pem"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(SigningKeyError, match="no Ed25519 private key") as caught:
        signing_key(path)
    assert path.read_bytes() == content
    assert "secret" not in str(caught.value)


def test_a_key_that_cannot_be_made_or_read_is_told(tmp_path):
    """The path and the reason; and where none is named, how to name one."""
    (tmp_path / "file").touch()
    for path in (tmp_path / "file" / "key.pem", tmp_path):
        with pytest.raises(SigningKeyError, match=str(path)):
            signing_key(path)
    with pytest.raises(SigningKeyError, match="TRAFFICLOG_SIGNING_KEY_FILE"):
        signing_key(None)


def test_a_public_key_is_read_from_what_is_printed():
    """And a private key, given by mistake, is not repeated in the error."""
    key = Ed25519PrivateKey.generate()
    assert key_id(public_key(pem(key.public_key()).encode())) == key_id(key.public_key())
    for content in (b"", b"x", written(key), b"-----BEGIN PUBLIC KEY-----\n"):
        with pytest.raises(InvalidValueError, match="--public-key") as caught:
            public_key(content)
        assert "PRIVATE" not in str(caught.value)

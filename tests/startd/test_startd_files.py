"""What the reporter reads and writes: private copies of credentials, logs that grow, the last word, software."""

import json
import stat
from base64 import urlsafe_b64encode
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, strategies as st
from reporter import message, software
from reporter.codes import Code
from reporter.credentials import Credentials
from reporter.fault import Fault
from reporter.logs import Log
from reporter.message import Message

pytestmark = pytest.mark.fast


@pytest.fixture
def credentials(tmp_path: Path) -> Credentials:
    (tmp_path / "secret").mkdir()
    return Credentials(secret=tmp_path / "secret", copies=tmp_path / "copies")


def test_copies_are_private_and_follow_the_secret(credentials: Credentials) -> None:
    for name in ("token", "proxy", "ca.pem"):
        (credentials.secret / name).write_text("one")
    credentials.refresh()
    (credentials.secret / "token").write_text("two")
    credentials.refresh()
    files = [path for path in credentials.copies.rglob("*") if path.is_file()]
    assert {path.name: path.read_text() for path in files} == {"token": "two", "proxy": "one", "ca.pem": "one"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    assert stat.S_IMODE((credentials.copies / "tokens").stat().st_mode) == 0o700


def test_nothing_but_the_token_lies_where_htcondor_looks_for_tokens(credentials: Credentials) -> None:
    for name in ("token", "proxy", "ca.pem"):
        (credentials.secret / name).write_text(name)
    credentials.refresh()
    assert [path.name for path in (credentials.copies / "tokens").iterdir()] == ["token"]


def test_an_unchanged_credential_is_not_written_again(credentials: Credentials) -> None:
    (credentials.secret / "proxy").write_text("one")
    credentials.refresh()
    before = (credentials.copies / "proxy").stat().st_ino
    credentials.refresh()
    assert (credentials.copies / "proxy").stat().st_ino == before


def test_a_credential_that_vanishes_or_is_empty_leaves_its_copy(credentials: Credentials) -> None:
    for name in ("token", "proxy"):
        (credentials.secret / name).write_text("good")
    credentials.refresh()
    (credentials.secret / "token").unlink()
    (credentials.secret / "proxy").write_text("")
    credentials.refresh()
    assert credentials.methods() == ("IDTOKENS", "SSL")


@pytest.mark.parametrize(
    ("algorithm", "method"), [("HS256", "IDTOKENS"), ("ES256", "SCITOKENS"), ("RS256", "SCITOKENS"), (7, "SCITOKENS")]
)
def test_who_signed_a_token_decides_how_it_is_shown(credentials: Credentials, algorithm: object, method: str) -> None:
    header = urlsafe_b64encode(json.dumps({"alg": algorithm, "typ": "JWT"}).encode()).rstrip(b"=")
    (credentials.secret / "token").write_bytes(header + b".e30.signature")
    credentials.refresh()
    assert credentials.methods() == (method,)


@pytest.mark.parametrize(
    ("held", "methods"),
    [
        ((), ()),
        (("ca.pem",), ()),
        (("token",), ("IDTOKENS",)),
        (("proxy", "ca.pem"), ("SSL",)),
        (("proxy", "token"), ("IDTOKENS", "SSL")),
    ],
)
def test_what_the_secret_holds_decides_how_the_startd_proves_itself(
    credentials: Credentials, held: tuple[str, ...], methods: tuple[str, ...]
) -> None:
    for name in held:
        (credentials.secret / name).write_text("x")
    credentials.refresh()
    assert credentials.methods() == methods


def test_a_credential_that_cannot_be_read_is_one_sentence(credentials: Credentials) -> None:
    (credentials.secret / "token").mkdir()
    with pytest.raises(Fault, match=r"token: Is a directory; the Secret must be mounted whole") as fault:
        credentials.refresh()
    assert fault.value.reason == "CredentialUnreadable"


def test_a_log_is_read_on_where_it_was_left_also_in_the_middle_of_a_line(tmp_path: Path) -> None:
    place = tmp_path / "StartLog"
    with closing(Log(path=place)) as log, place.open("w") as file:
        for text in ("one\ntw", "o\n", "three"):
            file.write(text)
            file.flush()
            got = list(log.lines())
            assert got == {"one\ntw": ["one"], "o\n": ["two"], "three": []}[text]


def test_a_log_that_was_renamed_is_read_to_its_end_before_the_new_one(tmp_path: Path) -> None:
    place = tmp_path / "StartLog"
    place.write_text("one\n")
    with closing(Log(path=place)) as log:
        assert list(log.lines()) == ["one"]
        with place.open("a") as file:
            file.write("two\n")
        place.rename(tmp_path / "StartLog.old")
        place.write_text("three\n")
        assert list(log.lines()) == ["two", "three"]


@given(pieces=st.lists(st.text(alphabet="ab\n", max_size=10), max_size=20))
def test_no_line_of_a_log_is_lost_or_doubled_however_it_is_written(
    pieces: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    place = tmp_path_factory.mktemp("log") / "StartLog"
    got = []
    with closing(Log(path=place)) as log:
        assert list(log.lines()) == []
        for piece in pieces:
            with place.open("a") as file:
                file.write(piece)
            got += list(log.lines())
    assert got == "".join(pieces).split("\n")[:-1]


def test_a_shorter_message_leaves_nothing_of_a_longer_one(tmp_path: Path) -> None:
    place = tmp_path / "termination-log"
    place.touch()
    for sentence in ("long " * 100, "short"):
        message.write(Message(code=Code.TRANSIENT, reason="Died", sentence=sentence), place)
    assert place.read_text() == '700 short\n{"v":1,"code":700,"reason":"Died"}\n'


def test_a_message_that_cannot_be_written_is_told_on_the_output(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    message.write(Message(code=Code.TRANSIENT, reason="Died", sentence="x"), tmp_path / "nowhere")
    assert "No such file or directory" in capsys.readouterr().out


def test_software_that_is_there_is_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "a.example").mkdir()
    (tmp_path / "a.example" / "file").touch()
    software.wait(software.repositories({"REPOSITORIES": "a.example"}), 0.1, tmp_path)


@pytest.mark.parametrize(("made", "why"), [(False, "No such file or directory"), (True, "it is empty")])
def test_software_that_is_missing_is_named(tmp_path: Path, made: bool, why: str) -> None:  # noqa: FBT001
    if made:
        (tmp_path / "a.example").mkdir()
    with pytest.raises(Fault, match=rf"{tmp_path / 'a.example'} after 0 s: {why}.*; look at CVMFS") as fault:
        software.wait(("a.example",), 0.1, tmp_path)
    assert fault.value.reason == "SoftwareMissing"


@pytest.mark.parametrize("name", ["../etc", "/cvmfs/x", ".hidden"])
def test_a_repository_is_a_name(name: str) -> None:
    with pytest.raises(Fault, match="is not the name of a repository"):
        software.repositories({"REPOSITORIES": f"a.example, {name}"})


def test_facts_stand_on_the_second_line() -> None:
    text = Message(code=Code.WORKED, reason="Worked", sentence="two\nlines", facts={"claims": 2}).text()
    first, second, end = text.split("\n")
    assert (first, json.loads(second), end) == (
        "200 two lines",
        {"v": 1, "code": 200, "reason": "Worked", "claims": 2},
        "",
    )

"""What payloads call to bring their files out, with the real rclone, against Azurite by TLS on loopback."""

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from aiohttp.test_utils import unused_port
from stageout.fault import Exit

from local import tools
from local.progress import Progress
from tests.storage import azurite
from tests.storage.azurite import Azurite
from tests.storage.calling import PROGRAM, SOURCES
from tests.storage.entra import TENANT, Entra
from tests.storage.spoiler import Spoiler

pytestmark = pytest.mark.engine

MIB = 2**20
SECONDS = 300
SLOWLY = {"RCLONE_BWLIMIT": "6M"}
DOOR = r"does not let this site in \(\w+\): see that its SAS is right and has not expired, or that its identity may"


@pytest.fixture(scope="module")
def rclone() -> Path:
    return tools.ensure(Progress(total=0), ("rclone",)) / "rclone"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Azurite]:
    directory = tmp_path_factory.mktemp("azurite")
    running = Azurite(azurite.ensure(directory / "npm.log"), directory)
    yield running
    running.stop()


@dataclass(frozen=True, kw_only=True)
class Site:
    """A payload's view: files of its own, and what the site offers."""

    rclone: Path
    server: Azurite
    files: Path
    offered: Path

    def offer(self, container: str, sas: str) -> None:
        (self.offered / "container").write_text(f"{container}\n")
        (self.offered / "sas").write_text(f"{sas}\n")

    def file(self, name: str, content: bytes) -> Path:
        path = self.files / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    def start(self, directory: str, *files: Path, **more: str) -> "subprocess.Popen[str]":
        environment = {
            **os.environ,
            "PYTHONPATH": str(SOURCES),
            "SSL_CERT_FILE": str(self.server.authority),
            **more,
        }
        words = [sys.executable, "-B", "-c", PROGRAM, self.offered, self.rclone, directory, *files]
        return subprocess.Popen(
            [str(word) for word in words], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def run(self, directory: str, *files: Path, **more: str) -> tuple[int, list[dict[str, object]], str]:
        """Exit code, what is told of each file, and what else is said."""
        process = self.start(directory, *files, **more)
        out, errors = process.communicate(timeout=SECONDS)
        return process.returncode, [json.loads(line) for line in out.splitlines()], errors


@pytest.fixture
def site(rclone: Path, server: Azurite, tmp_path: Path) -> Site:
    (tmp_path / "offered").mkdir()
    made = Site(rclone=rclone, server=server, files=tmp_path / "files", offered=tmp_path / "offered")
    made.offer(server.url, server.sas())
    return made


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def eventually(true: Callable[[], bool]) -> None:
    until = time.monotonic() + SECONDS
    while not true():
        assert time.monotonic() < until
        time.sleep(0.05)


def only_child(process: "subprocess.Popen[str]") -> int:
    (child,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return int(child)


def test_files_are_there_with_their_md5_and_one_line_tells_of_each(site: Site) -> None:
    contents = {"hits.root": os.urandom(9 * MIB + 7), "log.tgz": os.urandom(999), "empty": b""}
    files = [site.file(f"{index}/{name}", content) for index, (name, content) in enumerate(contents.items())]
    code, told, said = site.run("mc/run-1", *files)
    assert (code, said) == (Exit.DONE, "")
    for path, one in zip(files, told, strict=True):
        content, blob = contents[path.name], site.server.blob(f"mc/run-1/{path.name}")
        assert (blob.content, blob.md5) == (content, md5(content))
        url = f"{site.server.url}/mc/run-1/{path.name}"
        assert one == {"file": str(path), "url": url, "bytes": len(content), "md5": md5(content)}
        assert path.read_bytes() == content


def test_a_second_call_copies_what_is_missing_and_nothing_else(site: Site) -> None:
    here, missing = site.file("here", os.urandom(MIB)), site.file("missing", os.urandom(MIB))
    assert site.run("mc/run-2", here)[0] == Exit.DONE
    before = site.server.changed("mc/run-2/here")
    code, told, _ = site.run("mc/run-2", here, missing)
    assert (code, len(told)) == (Exit.DONE, 2)
    assert site.server.changed("mc/run-2/here") == before
    assert site.server.blob("mc/run-2/missing").content == missing.read_bytes()


@pytest.mark.parametrize("size", [1000, 6 * MIB])
def test_other_content_under_the_name_is_not_touched_and_the_other_files_get_there(site: Site, size: int) -> None:
    others, mine = os.urandom(size), os.urandom(size)
    directory = f"mc/taken-{size}"
    site.server.put(f"{directory}/taken", others)
    code, told, said = site.run(directory, site.file("taken", mine), site.file("beside", mine))
    assert code == Exit.TAKEN
    assert [one["url"] for one in told] == [f"{site.server.url}/{directory}/beside"]
    (sentence,) = said.splitlines()
    assert sentence.startswith(
        f"stage-out: {site.server.url}/{directory}/taken holds other content ({size} bytes, MD5 "
    )
    assert site.server.blob(f"{directory}/taken").content == others


def test_content_of_which_nobody_knows_the_md5_is_taken_for_others_though_it_is_as_large(site: Site) -> None:
    content = os.urandom(1000)
    site.server.put_in_blocks("mc/unknown/hits", content)
    code, told, said = site.run("mc/unknown", site.file("hits", os.urandom(1000)))
    assert (code, told) == (Exit.TAKEN, [])
    assert "holds other content (1000 bytes, MD5 unknown)" in said
    assert site.server.blob("mc/unknown/hits").content == content


def test_an_empty_blob_that_was_left_behind_gives_way(site: Site) -> None:
    site.server.put("mc/run-4/hits", b"")
    hits = site.file("hits", os.urandom(MIB))
    assert site.run("mc/run-4", hits)[0] == Exit.DONE
    assert site.server.blob("mc/run-4/hits").content == hits.read_bytes()


def amid(site: Site, directory: str, path: Path) -> "subprocess.Popen[str]":
    """A call of which some blocks have arrived."""
    process = site.start(directory, path, **SLOWLY)
    name = f"{directory}/{path.name}"
    eventually(lambda: name in site.server.names(uncommitted=True))
    assert name not in site.server.names()
    return process


def assert_there(site: Site, directory: str, path: Path) -> None:
    blob, content = site.server.blob(f"{directory}/{path.name}"), path.read_bytes()
    assert (md5(blob.content), blob.md5) == (md5(content), md5(content))


def stop(process: "subprocess.Popen[str]") -> int:
    process.send_signal(signal.SIGTERM)
    return 128 + signal.SIGTERM


def kill_both(process: "subprocess.Popen[str]") -> int:
    child = only_child(process)
    process.kill()
    os.kill(child, signal.SIGKILL)
    return -signal.SIGKILL


@pytest.mark.parametrize("interrupt", [stop, kill_both])
def test_what_is_interrupted_shows_no_half_file_and_the_next_call_finishes_it(
    site: Site, interrupt: Callable[["subprocess.Popen[str]"], int]
) -> None:
    path, directory = site.file("large", os.urandom(64 * MIB)), f"mc/{interrupt.__name__}"
    process = amid(site, directory, path)
    expected = interrupt(process)
    out, said = process.communicate(timeout=SECONDS)
    assert (process.returncode, out) == (expected, ""), said
    assert f"{directory}/large" not in site.server.names()
    assert site.run(directory, path)[0] == Exit.DONE
    assert_there(site, directory, path)


def lose_rclone(process: "subprocess.Popen[str]", _server: Azurite) -> None:
    os.kill(only_child(process), signal.SIGKILL)


def lose_the_storage(_process: "subprocess.Popen[str]", server: Azurite) -> None:
    server.stop()
    server.start()


@pytest.mark.parametrize("lose", [lose_rclone, lose_the_storage])
def test_what_is_lost_for_a_while_is_tried_again_in_the_same_call(
    site: Site, lose: Callable[["subprocess.Popen[str]", Azurite], None]
) -> None:
    path, directory = site.file("large", os.urandom(64 * MIB)), f"mc/{lose.__name__}"
    process = amid(site, directory, path)
    lose(process, site.server)
    _, said = process.communicate(timeout=SECONDS)
    assert (process.returncode, said) == (Exit.DONE, "")
    assert_there(site, directory, path)


@pytest.mark.parametrize("size", [1000, 6 * MIB], ids=["one piece", "blocks"])
def test_what_is_spoilt_on_its_way_is_refused_by_the_storage_and_sent_again(site: Site, size: int) -> None:
    content = os.urandom(size)
    path = site.file("frail", content)
    with Spoiler(site.server) as spoiler:
        site.offer(f"https://127.0.0.1:{spoiler.port}/{azurite.ACCOUNT}/{azurite.CONTAINER}", site.server.sas())
        code, _, said = site.run(f"mc/spoilt-{size}", path)
    assert (code, said) == (Exit.DONE, "")
    assert spoiler.said == "Md5Mismatch"
    assert site.server.blob(f"mc/spoilt-{size}/frail").content == content


def test_a_secret_that_is_renewed_lets_the_same_payload_in(site: Site) -> None:
    path = site.file("late", b"late")
    site.offer(site.server.url, site.server.sas(hours=-1))
    assert site.run("mc/run-5", path)[0] == Exit.DENIED
    site.offer(site.server.url, site.server.sas())
    assert site.run("mc/run-5", path)[0] == Exit.DONE


CLIENT = "00000000-0000-0000-0000-00000000000c"


def by_identity(site: Site, entra: Entra) -> dict[str, str]:
    """What a site of an own container offers; what is said of Entra ID besides, on AKS nobody has to say."""
    (site.offered / "sas").unlink()
    for name, text in {"client": CLIENT, "tenant": TENANT, "token": "what the kubelet wrote"}.items():
        (site.offered / name).write_text(text)
    return {"AZURE_AUTHORITY_HOST": entra.url, "RCLONE_CONFIG_OUT_DISABLE_INSTANCE_DISCOVERY": "true"}


def test_the_token_of_the_pod_is_all_that_an_identity_needs(site: Site) -> None:
    path = site.file("hits", os.urandom(6 * MIB))
    with Entra(site.server) as entra:
        code, _, said = site.run("mc/identity", path, **by_identity(site, entra))
    assert (code, said) == (Exit.DONE, "")
    assert_there(site, "mc/identity", path)
    assert {(form["client_id"], form["client_assertion"], form["scope"].split()[0]) for form in entra.asked} == {
        (CLIENT, "what the kubelet wrote", "https://storage.azure.com/.default")
    }


def test_an_identity_that_the_storage_does_not_take_is_one_sentence(site: Site) -> None:
    with Entra(site.server) as entra:
        entra.audience = "https://another.example"
        code, told, said = site.run("mc/identity", site.file("mine", b"mine"), **by_identity(site, entra))
    assert (code, told) == (Exit.DENIED, [])
    (line,) = said.splitlines()
    assert re.search(DOOR, line)


def wrong(sas: str) -> str:
    return sas.replace("sig=", "sig=AAAA")


@pytest.mark.parametrize(
    ("offer", "code", "sentence"),
    [
        (lambda on: (on.url, on.sas(hours=-1)), Exit.DENIED, DOOR),
        (lambda on: (on.url, wrong(on.sas())), Exit.DENIED, DOOR),
        (lambda on: (on.url, "sv=nonsense"), Exit.DENIED, DOOR),
        (lambda on: (on.url, on.sas("r")), Exit.DENIED, DOOR),
        (
            lambda on: (f"{on.endpoint}/absent", on.sas(container="absent")),
            Exit.DENIED,
            r"there is no container https://\S+/absent: make it, or correct the stack",
        ),
        (
            lambda on: (f"https://127.0.0.1:{unused_port()}/x/out", on.sas()),
            Exit.UNFINISHED,
            r"could not be reached, or not to the end \(.*connection refused\): try again",
        ),
        (lambda on: ("http://127.0.0.1/out", on.sas()), Exit.WRONG, "not https://ACCOUNT/CONTAINER: correct the stack"),
    ],
    ids=["expired", "forged", "nonsense", "may not write", "no container", "unreachable", "in clear"],
)
def test_a_storage_that_takes_nothing_is_one_sentence_and_no_secret(
    site: Site, offer: Callable[[Azurite], tuple[str, str]], code: Exit, sentence: str
) -> None:
    url, sas = offer(site.server)
    site.offer(url, sas)
    ended, told, said = site.run("mc/run-6", site.file("mine", b"mine"))
    assert (ended, told) == (code, [])
    (line,) = said.splitlines()
    assert re.search(sentence, line)
    assert "sig=" not in line.replace("sig=…", "")


@pytest.mark.parametrize(
    ("directory", "files", "sentence"),
    [
        ("mc/../x", ["a"], "is no directory of a container"),
        ("mc", ["absent"], r"/absent is no file: give files that are there"),
        ("mc", ["a b"], r"its name may have letters, digits"),
        ("mc", ["a", "other/a"], "two files are called a: rename one"),
    ],
)
def test_what_cannot_be_asked_for_is_one_sentence(site: Site, directory: str, files: list[str], sentence: str) -> None:
    paths = [site.files / name if name == "absent" else site.file(name, b"") for name in files]
    ended, told, said = site.run(directory, *paths)
    assert (ended, told) == (Exit.WRONG, [])
    (line,) = said.splitlines()
    assert re.search(sentence, line)


def test_where_a_site_offers_none_it_says_so(site: Site) -> None:
    (site.offered / "container").unlink()
    ended, _, said = site.run("mc", site.file("a", b""))
    assert ended == Exit.WRONG
    assert said == "stage-out: this site offers no stage-out: take a site whose startds say HasStageOut\n"

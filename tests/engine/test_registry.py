"""Publishing to a real registry, which the tests run themselves on the loopback."""

import hashlib
import io
import json
import re
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import pytest

from local import images, tools
from local.paths import cache_dir
from local.progress import Progress
from local.refusal import Refusal

pytestmark = pytest.mark.engine

START_SECONDS = 30
MANIFESTS = "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json"
NAME = "published-probe"


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(program: Path, directory: Path, **more: object) -> Iterator[str]:
    """A registry whose files lie in `directory`; yields its address."""
    address = f"127.0.0.1:{free_port()}"
    configuration = directory / "registry.json"  # YAML holds JSON
    configuration.write_text(
        json.dumps(
            {
                "version": "0.1",
                "log": {"level": "error"},
                "storage": {"filesystem": {"rootdirectory": str(directory / "storage")}},
                "http": {"addr": address},
                **more,
            }
        )
    )
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen([program, "serve", configuration], stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                httpx.get(f"http://{address}/v2/", timeout=5)
                break
            except httpx.TransportError:
                if process.poll() is not None or time.monotonic() > deadline:
                    pytest.fail(f"the registry does not answer: {(directory / 'log').read_text()}")
                time.sleep(0.1)
        yield address
    finally:
        process.terminate()
        process.wait(timeout=30)


@pytest.fixture(scope="module")
def program() -> Path:
    return tools.ensure(Progress(total=1), ["registry"]) / "registry"


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A checkout with one small image, which is built; this machine's own site is not told of it."""
    top = tmp_path_factory.mktemp("checkout")
    (top / "images" / NAME).mkdir(parents=True)
    (top / "images" / NAME / "Containerfile").write_text("ARG BASE\nFROM ${BASE}\nCOPY greeting /greeting\nUSER 7:7\n")
    (top / "greeting").write_text(f"made at {time.time_ns()}\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        images.build(Progress(total=1), [NAME], checkout=top)
    yield top
    for archive in (cache_dir() / "images").glob(f"{NAME}-*.tar"):
        archive.unlink()


def publish(registry: str, checkout: Path) -> dict[str, str]:
    return images.publish(registry, Progress(total=1, stream=io.StringIO()), [NAME], checkout=checkout)


def test_what_is_pushed_can_be_pulled_by_the_digest_that_is_told(
    program: Path, checkout: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with running(program, tmp_path) as address:
        registry = f"{address}/some/path"
        reference = publish(registry, checkout)[NAME]
        repository, _, digest = reference.partition("@")
        assert repository == f"{registry}/{NAME}"

        home = f"http://{address}/v2/some/path/{NAME}"
        manifest = httpx.get(f"{home}/manifests/{digest}", headers={"Accept": MANIFESTS}, timeout=30)
        assert manifest.status_code == 200
        assert f"sha256:{hashlib.sha256(manifest.content).hexdigest()}" == digest
        tags = httpx.get(f"{home}/tags/list", timeout=30).json()["tags"]
        assert tags == [images.recipe(NAME, checkout).key]

        configuration = httpx.get(f"{home}/blobs/{manifest.json()['config']['digest']}", timeout=30).json()
        assert configuration["config"]["User"] == "7:7"
        sizes = {
            layer["digest"]: (httpx.head(f"{home}/blobs/{layer['digest']}", timeout=30).headers["content-length"])
            for layer in manifest.json()["layers"]
        }
        assert sizes == {layer["digest"]: str(layer["size"]) for layer in manifest.json()["layers"]}

        assert publish(registry, checkout)[NAME] == reference
    assert f"    registry: {registry}\n" in capsys.readouterr().out


def nobody_there(_: Path, __: Path) -> Iterator[str]:
    yield f"127.0.0.1:{free_port()}"


def for_members(program: Path, directory: Path) -> Iterator[str]:
    (directory / "members").touch()
    realm = {"realm": "probe", "path": str(directory / "members")}
    with running(program, directory, auth={"htpasswd": realm}) as address:
        yield address


@pytest.mark.parametrize(
    ("registry", "reason"),
    [(nobody_there, "connection refused"), (for_members, "(unauthorized|authentication required|no basic auth)")],
)
def test_a_registry_that_does_not_take_an_image_gives_one_sentence(
    program: Path,
    checkout: Path,
    tmp_path: Path,
    registry: Callable[[Path, Path], Iterator[str]],
    reason: str,
) -> None:
    with contextmanager(registry)(program, tmp_path) as address, pytest.raises(Refusal) as refused:
        publish(address, checkout)
    sentence = str(refused.value)
    assert sentence.startswith(f"registry {address}: did not take image {NAME} (")
    assert sentence.endswith("; check the address and your login there")
    assert "\n" not in sentence
    assert re.search(reason, sentence)

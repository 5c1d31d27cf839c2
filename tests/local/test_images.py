"""What decides whether an image is built anew, and what our Containerfiles keep to."""

import dataclasses
import io
import json
import re
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from local import builders, images, tools
from local.paths import CHECKOUT
from local.progress import Progress
from local.refusal import Refusal

pytestmark = pytest.mark.fast

OURS = [path for path in sorted((CHECKOUT / "images").glob("*/Containerfile")) if path.parent.name != "base"]
# They mount file systems, or own what they serve; nothing of a site that is not privileged runs them.
ROOT = {"cvmfs"}


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with one image, and a cache and state of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    top = tmp_path / "checkout"
    (top / "images" / "probe").mkdir(parents=True)
    (top / "images" / "probe" / "Containerfile").write_text(
        "ARG BASE\nFROM ${BASE}\nCOPY --chmod=0755 code \\\n  conf/one /there/\nCOPY site-packages /packages\n"
    )
    (top / "images" / "probe" / "requirements.txt").write_text("idna==3.20\n")
    (top / "code" / "deep").mkdir(parents=True)
    (top / "code" / "deep" / "a.py").write_text("a = 1\n")
    (top / "conf").mkdir()
    (top / "conf" / "one").write_text("1")
    (top / "conf" / "two").write_text("2")
    return top


def quiet() -> Progress:
    return Progress(total=1, stream=io.StringIO())


def write(path: str, text: str) -> Callable[[Path], object]:
    return lambda top: (top / path).write_text(text)


@pytest.mark.parametrize(
    "change",
    [
        write("code/deep/a.py", "a = 2\n"),
        write("code/b.py", ""),
        write("conf/one", "2"),
        write("images/probe/requirements.txt", "idna==3.19\n"),
        write("images/probe/Containerfile", "FROM ${BASE}\nCOPY code conf/one /there/\nCOPY site-packages /packages\n"),
        lambda top: (top / "code" / "deep" / "a.py").chmod(0o755),
        lambda top: (top / "code" / "deep").rename(top / "code" / "deeper"),
        lambda top: (top / "code" / "deep" / "a.py").unlink(),
    ],
    ids=["content", "new file", "single file", "lock", "Containerfile", "executable", "renamed", "removed"],
)
def test_whatever_goes_into_an_image_changes_its_tag(checkout: Path, change: Callable[[Path], object]) -> None:
    before = images.recipe("probe", checkout).key
    change(checkout)
    assert images.recipe("probe", checkout).key != before


def bytecode(top: Path) -> None:
    (top / "code" / "__pycache__").mkdir()
    (top / "code" / "__pycache__" / "a.cpython-311.pyc").write_bytes(b"\0")


@pytest.mark.parametrize(
    "change",
    [
        write("conf/two", "3"),
        write("README.md", "words"),
        bytecode,
        lambda top: (top / "code" / "deep" / "a.py").chmod(0o600),
        lambda top: (top / "code" / "deep" / "a.py").touch(),
    ],
    ids=["a file beside", "a file elsewhere", "bytecode", "umask", "time"],
)
def test_nothing_else_changes_the_tag(checkout: Path, change: Callable[[Path], object]) -> None:
    before = images.recipe("probe", checkout).key
    change(checkout)
    assert images.recipe("probe", checkout).key == before


def test_another_base_makes_every_image_anew(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = images.recipe("probe", checkout).key
    monkeypatch.setattr(builders, "SUITE", "forky")
    assert images.recipe("probe", checkout).key != before


def test_a_build_sees_what_the_containerfile_copies_and_nothing_else(checkout: Path, tmp_path: Path) -> None:
    (checkout / "images" / "probe" / "Containerfile").write_text("FROM ${BASE}\nCOPY code conf/one /there/\n")
    (checkout / "code" / "deep" / "a.py").chmod(0o700)
    bytecode(checkout)
    context = tmp_path / "context"
    images.lay_out(images.recipe("probe", checkout), context, tmp_path / "log", quiet())
    laid = {str(path.relative_to(context)): path for path in context.rglob("*") if path.is_file()}
    assert set(laid) == {"code/deep/a.py", "conf/one"}
    assert laid["code/deep/a.py"].stat().st_mode & 0o777 == 0o755
    assert {path.stat().st_mtime for path in context.rglob("*")} == {images.MODIFIED}


def test_a_program_comes_from_its_go_module_and_the_pin_of_that_changes_the_tag(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (checkout / "images" / "probe" / "Containerfile").write_text("FROM ${BASE}\nCOPY tools/rclone /usr/local/bin/\n")
    (tmp_path / "rclone").write_text("built")
    monkeypatch.setattr(tools, "build", lambda *_: tmp_path)
    context = tmp_path / "context"
    images.lay_out(images.recipe("probe", checkout), context, tmp_path / "log", quiet())
    laid = [str(path.relative_to(context)) for path in context.rglob("*") if path.is_file()]
    assert laid == ["tools/rclone"]
    before = images.recipe("probe", checkout).key
    monkeypatch.setitem(tools.TOOLS, "rclone", dataclasses.replace(tools.TOOLS["rclone"], packages=("./other",)))
    assert images.recipe("probe", checkout).key != before


def test_copies_are_found_in_every_form_that_we_write() -> None:
    text = "COPY one two /d/\n  copy --chown=1:1 \\\n  'a b' \\\n  dir/ /d\n# COPY no /no\nCOPY --from=x y /z\nRUN a"
    assert images.copied(text) == ["one", "two", "a b", "dir"]


@pytest.mark.parametrize(
    ("containerfile", "sentence"),
    [
        ("COPY absent /", r"image probe: .* copies absent, which does not exist"),
        ("COPY ../secret /", r"copies \.\./secret; name a path below the checkout"),
        ("COPY tools/absent /", r"copies tools/absent, which local/tools\.py lacks"),
        ("COPY /etc/shadow /", r"copies /etc/shadow; name a path below the checkout"),
    ],
)
def test_a_recipe_that_cannot_be_is_refused(checkout: Path, containerfile: str, sentence: str) -> None:
    (checkout / "images" / "probe" / "Containerfile").write_text(f"FROM ${{BASE}}\n{containerfile}\n")
    with pytest.raises(Refusal, match=sentence):
        _ = images.recipe("probe", checkout).key


def test_packages_without_a_lock_are_refused(checkout: Path) -> None:
    (checkout / "images" / "probe" / "requirements.txt").unlink()
    with pytest.raises(Refusal, match=r"requirements\.txt must lock them"):
        images.recipe("probe", checkout)


def test_an_absent_image_says_which_and_what_to_run(checkout: Path) -> None:
    with pytest.raises(
        Refusal,
        match=r"^image probe: localhost/atlas-sites/probe:[0-9a-f]{16} has not been built .* run `make images`$",
    ):
        images.archive("probe", checkout=checkout)
    with pytest.raises(Refusal, match=r"image prob: there is no .*/images/prob/Containerfile; known are startd, squid"):
        images.archive("prob", checkout=checkout)


class Pencil:
    """A builder that writes down what it is asked for."""

    def __init__(self, *, fails: bool = False) -> None:
        self.fails = fails
        self.built: list[str] = []

    def build(self, containerfile: Path, context: Path, reference: str, archive: Path, log: Path) -> None:
        archive.write_bytes(b"half")
        if self.fails:
            raise KeyboardInterrupt
        self.built.append(reference)

    def push(self, archive: Path, reference: str, destination: str, *, secure: bool) -> str:
        raise Refusal("what buildah said:\nwriting blob: denied")


@pytest.fixture
def pencil(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> Pencil:
    (checkout / "images" / "probe" / "Containerfile").write_text("FROM ${BASE}\nCOPY code /code\n")
    pencil = Pencil()
    monkeypatch.setattr(builders, "choose", lambda *_, **__: pencil)
    return pencil


def test_a_second_build_builds_nothing(checkout: Path, pencil: Pencil) -> None:
    first = images.build(quiet(), ["probe"], checkout=checkout)
    assert images.build(quiet(), ["probe"], checkout=checkout) == first == {"probe": pencil.built[0]}
    assert len(pencil.built) == 1


def test_the_references_are_written_down_for_the_stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    built = {"probe": "localhost/probe:1"}
    images.record({"squid": "elsewhere", "probe": "older"})
    images.record(built)
    text = (tmp_path / "state" / "atlas-sites" / "images.json").read_text()
    assert json.loads(text) == {"squid": "elsewhere", **built}


def test_an_interrupted_build_leaves_nothing_that_looks_finished(checkout: Path, pencil: Pencil) -> None:
    pencil.fails = True
    with pytest.raises(KeyboardInterrupt):
        images.build(quiet(), ["probe"], checkout=checkout)
    with pytest.raises(Refusal, match="has not been built"):
        images.archive("probe", checkout=checkout)
    pencil.fails = False
    images.build(quiet(), ["probe"], checkout=checkout)
    assert images.archive("probe", checkout=checkout).read_bytes() == b"half"


def test_one_archive_is_kept_for_each_image(checkout: Path, pencil: Pencil) -> None:
    images.build(quiet(), ["probe"], checkout=checkout)
    outdated = images.archive("probe", checkout=checkout)
    (checkout / "code" / "b.py").write_text("")
    images.build(quiet(), ["probe"], checkout=checkout)
    assert not outdated.exists()
    assert images.archive("probe", checkout=checkout).exists()


def test_a_full_disk_is_told_before_a_build_begins(
    checkout: Path, pencil: Pencil, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "BUILD_DISK_BYTES", 2**60)
    with pytest.raises(Refusal, match="GiB free where building takes up to"):
        images.build(quiet(), ["probe"], checkout=checkout)
    assert pencil.built == []


@pytest.mark.parametrize("registry", ["https://ghcr.io/x", "ghcr.io/x:tag@sha256:0", "ghcr.io/Upper", "ghcr.io/x/", ""])
def test_what_is_no_registry_is_refused(checkout: Path, registry: str) -> None:
    with pytest.raises(Refusal, match=r"not of the form host\[:port\]\[/path\]"):
        images.publish(registry, quiet(), ["probe"], checkout=checkout)


@pytest.mark.parametrize(
    ("registry", "scheme"),
    [
        ("localhost:5000", "http"),
        ("127.0.0.1:5000/x", "http"),
        ("[::1]:5000", "http"),
        ("127.evil.example", "https"),
        ("localhost.example:5000", "https"),
        ("registry.example/localhost", "https"),
    ],
)
def test_plain_http_is_spoken_on_the_loopback_alone(
    checkout: Path, pencil: Pencil, monkeypatch: pytest.MonkeyPatch, registry: str, scheme: str
) -> None:
    asked: list[str] = []

    def push(archive: Path, reference: str, destination: str, *, secure: bool) -> str:
        asked.append("https" if secure else "http")
        return "sha256:0"

    monkeypatch.setattr(pencil, "push", push)
    images.build(quiet(), ["probe"], checkout=checkout)
    assert images.publish(registry, quiet(), ["probe"], checkout=checkout) == {"probe": f"{registry}/probe@sha256:0"}
    assert asked == [scheme]


def test_a_refused_push_gives_one_sentence_with_the_reason(checkout: Path, pencil: Pencil) -> None:
    images.build(quiet(), ["probe"], checkout=checkout)
    with pytest.raises(
        Refusal,
        match=r"^registry ghcr\.io/x: did not take image probe \(writing blob: denied\); check the .* login there$",
    ):
        images.publish("ghcr.io/x", quiet(), ["probe"], checkout=checkout)


def test_without_an_engine_only_root_can_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(Refusal, match="start one, or run as root"):
        builders.choose(tmp_path / "log", quiet())


def program(place: Path, script: str) -> None:
    place.write_text(f"#!/bin/sh\n{script}\n")
    place.chmod(0o755)


@pytest.mark.parametrize(
    ("docker", "podman", "chosen"),
    [
        ("exit 0", "exit 0", "docker"),
        ("exit 1", "exit 0", "podman"),  # a client whose engine is not running
        ('test "$1" != pull', "exit 0", "docker"),  # no network, but the base is there
        ('test "$1" = version', "exit 0", "podman"),  # an engine that can have no base
    ],
)
def test_the_first_engine_that_has_the_base_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, docker: str, podman: str, chosen: str
) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    program(tmp_path / "docker", docker)
    program(tmp_path / "podman", podman)
    assert builders.choose(tmp_path / "log", quiet()) == builders.Engine(name=chosen)


def test_an_engine_builds_and_saves_then_pushes_by_tag_and_tells_the_digest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    digests = '["other.example/x@sha256:1", "r.example/x@sha256:2"]'
    program(tmp_path / "docker", f'echo "$@" >> {tmp_path}/said; test "$1" != image || echo \'{digests}\'')
    engine = builders.Engine(name="docker")
    engine.build(Path("F"), Path("context"), "localhost/x:1", Path("a.tar"), tmp_path / "log")
    assert engine.push(Path("a.tar"), "localhost/x:1", "r.example/x:1", secure=True) == "sha256:2"
    assert (tmp_path / "said").read_text().splitlines() == [
        f"build --build-arg=BASE={builders.PUBLIC_BASE} --tag localhost/x:1 --file F context",
        "save --output a.tar localhost/x:1",
        "load --input a.tar",
        "tag localhost/x:1 r.example/x:1",
        "push r.example/x:1",
        "image inspect --format {{json .RepoDigests}} r.example/x:1",
    ]


@pytest.mark.parametrize("containerfile", OURS, ids=lambda path: path.parent.name)
class TestEachContainerfile:
    """What a reviewer would otherwise look for."""

    @staticmethod
    def instructions(containerfile: Path) -> list[str]:
        joined = re.sub(r"^\s*#.*\n", "", containerfile.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
        return [" ".join(line.split()) for line in joined.splitlines() if line.strip()]

    def test_is_built_on_the_base_that_is_given(self, containerfile: Path) -> None:
        first, *more = self.instructions(containerfile)
        assert first == f"ARG BASE={builders.PUBLIC_BASE}"
        stages = [line for line in more if line.startswith(("FROM", "ADD"))]
        assert stages
        assert all(re.fullmatch(r"FROM \$\{BASE\}( AS \w+)?", line) for line in stages)

    def test_ends_as_a_user_that_is_not_root(self, containerfile: Path) -> None:
        users = [line.split()[1] for line in self.instructions(containerfile) if line.startswith("USER ")]
        if containerfile.parent.name not in ROOT:
            assert users, "no USER"
            assert re.fullmatch(r"[1-9][0-9]*:[1-9][0-9]*", users[-1]), "the kubelet verifies numbers, not names"

    def test_installs_only_what_it_names_and_leaves_no_package_lists(self, containerfile: Path) -> None:
        for line in self.instructions(containerfile):
            if "apt-get install" in line:
                assert "--no-install-recommends" in line
                assert "apt-get update" in line
                assert "rm -rf /var/lib/apt/lists/*" in line
            assert not re.search(r"(^RUN|&&|;|\|) *(sudo|pip|pip3|curl|wget|apt) ", line)

    def test_has_tini_as_process_1(self, containerfile: Path) -> None:
        entrypoints = [line for line in self.instructions(containerfile) if line.startswith("ENTRYPOINT")]
        assert len(entrypoints) == 1
        program, *_ = json.loads(entrypoints[0].removeprefix("ENTRYPOINT "))
        script = containerfile.parent / Path(program).name
        if script.exists():
            assert script.read_text().splitlines()[-1].startswith("exec /usr/bin/tini -- ")
        else:
            assert program == "/usr/bin/tini"


def locked(path: Path) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9-]+)==(\S+)", path.read_text(), re.MULTILINE))


def test_services_run_with_the_packages_that_their_tests_ran_with() -> None:
    image = locked(CHECKOUT / "images" / "services" / "requirements.txt")
    tested = locked(CHECKOUT / "requirements" / "dev.txt")
    wanted = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["services"]
    assert {re.split(r"[<>=]", requirement)[0] for requirement in wanted} <= image.keys()
    assert image.items() <= tested.items()
    assert "pulumi" not in image


def test_the_block_for_a_stack_names_the_images_of_a_stack() -> None:
    references = {name: f"ghcr.io/x/{name}@sha256:{'0' * 64}" for name in images.ALL}
    lines = images.block("ghcr.io/x", references).splitlines()
    assert lines[:3] == ["  atlas-sites:images:", "    registry: ghcr.io/x", "    digests:"]
    assert [line.split(":")[0].strip() for line in lines[3:]] == list(images.IN_A_STACK)

"""What `make up`, `down` and their like refuse before they do anything."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from local import __main__ as command_line, commands, node, site, target, tools
from local.paths import state_dir
from local.refusal import Refusal
from local.target import Target

pytestmark = pytest.mark.fast

UID = "4e1cf4f8"


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """State and caches of our own; nothing in them may be built, started or asked for."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(tools, "ensure", lambda *_: pytest.fail("built"))
    monkeypatch.setattr(node, "stop", lambda: pytest.fail("stopped"))


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["up", "--context", "mine"], "CONTEXT is about an existing cluster: add KUBECONFIG"),
        (["up", "--push", "registry.example.org"], "PUSH is about an existing cluster: add KUBECONFIG"),
        (["up", "--kubeconfig", "k"], "add PUSH=<a registry it pulls from>"),
        (["up", "--nodes", "3"], "NODES is 1 or 2, not 3"),
        (["up", "--nodes", "2", "--kubeconfig", "k"], "NODES is about nodes of this machine"),
        (["demo"], "there is no site on this machine: bring it up with `make up`"),
        (["status"], "there is no site on this machine: bring it up with `make up`"),
        (["env"], "there is no site on this machine: bring it up with `make up`"),
    ],
)
def test_what_cannot_be_is_one_sentence_and_an_exit_code(
    words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command_line.main(words) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert sentence in said
    assert said.count("\n") == 1


def test_a_ctrl_c_is_no_error(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(site, "status", interrupted)
    assert command_line.main(["status"]) == 130
    assert capsys.readouterr().err == "stopped; `make status` goes on from here\n"


def test_a_machine_that_cannot_have_a_node_is_told_before_anything_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise Refusal("a node on this machine needs root")

    monkeypatch.setattr(node, "check", refuse)
    with pytest.raises(Refusal, match="needs root"):
        site.up(None, None, None, 1)
    assert Target.recorded() is None


def test_a_site_elsewhere_does_not_get_a_twin_here() -> None:
    Target(kubeconfig="k", cluster=UID).record()
    with pytest.raises(Refusal, match="runs on another cluster: say `make down`"):
        site.up(None, None, None, 1)


def answers(told: dict[str, str]) -> Callable[..., str]:
    """kubectl, by what the last word before the options asks for."""

    def output(words: list[str], **_: object) -> str:
        return next(answer for asked, answer in told.items() if asked in " ".join(words))

    return output


@pytest.mark.parametrize(
    ("known", "definition", "sentence"),
    [
        (Target(kubeconfig="k"), "", "runs on this machine's node: say `make down`"),
        (Target(kubeconfig="k", cluster="another"), "", "runs on another cluster than that of"),
        (None, "customresourcedefinition/startdsets", "has a site already"),
    ],
)
def test_a_cluster_is_not_exchanged_under_a_site_nor_a_site_put_on_another(
    known: Target | None, definition: str, sentence: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if known is not None:
        known.record()
    told = {"config view": "text", "kube-system": UID, "customresourcedefinition": definition}
    monkeypatch.setattr(commands, "output", answers(told))
    with pytest.raises(Refusal, match=sentence):
        target.elsewhere(tmp_path / "theirs", None)
    assert Target.recorded() == known
    assert not (state_dir() / "kubeconfig").exists()


def test_a_cluster_that_can_be_used_is_remembered_by_its_uid_and_a_private_copy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    told = {"config view": "text", "kube-system": UID, "customresourcedefinition": ""}
    monkeypatch.setattr(commands, "output", answers(told))
    chosen = target.elsewhere(tmp_path / "theirs", "mine")
    assert Target.recorded() == chosen
    assert (chosen.cluster, chosen.ours) == (UID, False)
    assert Path(chosen.kubeconfig).read_text() == "text"
    assert Path(chosen.kubeconfig).stat().st_mode & 0o777 == 0o600


def test_the_state_of_another_stack_does_not_go_with_the_dev_site() -> None:
    stacks = state_dir() / "pulumi/backend/.pulumi/stacks/atlas-sites"
    stacks.mkdir(parents=True)
    for name in ("dev", "mine"):
        (stacks / f"{name}.json").write_text(json.dumps({}))
    with pytest.raises(Refusal, match="stack mine has its state and its passphrase beside the dev site's"):
        site.down()
    assert (stacks / "mine.json").exists()

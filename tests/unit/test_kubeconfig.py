"""A kubeconfig is reduced to one cluster, and what is wrong with a file is said in a sentence."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings as runs, strategies as st

from components.cluster import kubeconfig
from components.cluster.kubeconfig import KubeconfigError

pytestmark = pytest.mark.fast

SERVER = "https://192.0.2.1:6443"


def document(**changes: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "here",
        "contexts": [
            {"name": "here", "context": {"cluster": "c1", "user": "u1", "namespace": "n"}},
            {"name": "there", "context": {"cluster": "c2", "user": "u2"}},
        ],
        "clusters": [
            {"name": "c1", "cluster": {"server": SERVER}},
            {"name": "c2", "cluster": {"server": "https://192.0.2.2:6443"}},
        ],
        "users": [{"name": "u1", "user": {"token": "one"}}, {"name": "u2", "user": {"token": "two"}}],
        **changes,
    }


def written(directory: Path, content: object) -> Path:
    file = directory / "config"
    file.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return file


def test_the_current_context_is_meant_unless_another_is_named(tmp_path: Path) -> None:
    file = written(tmp_path, document())
    assert kubeconfig.read(file, None).context == "here"
    assert kubeconfig.read(file, "there").context == "there"


def test_no_other_cluster_or_user_leaves_the_file(tmp_path: Path) -> None:
    content = json.loads(kubeconfig.read(written(tmp_path, document()), None).content)
    assert content == {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "c1", "user": "u1", "namespace": "n"}}],
        "clusters": [{"name": "c1", "cluster": {"server": SERVER}}],
        "users": [{"name": "u1", "user": {"token": "one"}}],
    }


def test_what_is_kept_can_be_read_again_and_is_the_same(tmp_path: Path) -> None:
    once = kubeconfig.read(written(tmp_path, document()), "there")
    assert kubeconfig.read(written(tmp_path, once.content), None) == once


def test_files_beside_it_are_put_in_their_place(tmp_path: Path) -> None:
    (tmp_path / "pki").mkdir()
    for name in ("ca", "cert", "key"):
        (tmp_path / "pki" / name).write_bytes(f"the {name}".encode())
    file = written(
        tmp_path,
        document(
            clusters=[{"name": "c1", "cluster": {"server": SERVER, "certificate-authority": "pki/ca"}}],
            users=[
                {
                    "name": "u1",
                    "user": {"client-certificate": "pki/cert", "client-key": str(tmp_path / "pki" / "key")},
                }
            ],
        ),
    )
    content = json.loads(kubeconfig.read(file, None).content)
    told = {**content["clusters"][0]["cluster"], **content["users"][0]["user"]}
    assert told.pop("server") == SERVER
    assert {key: base64.b64decode(value) for key, value in told.items()} == {
        "certificate-authority-data": b"the ca",
        "client-certificate-data": b"the cert",
        "client-key-data": b"the key",
    }


def test_what_is_inline_wins_over_a_file_as_for_kubectl(tmp_path: Path) -> None:
    cluster = {"server": SERVER, "certificate-authority": "nowhere", "certificate-authority-data": "aW5saW5l"}
    content = json.loads(
        kubeconfig.read(written(tmp_path, document(clusters=[{"name": "c1", "cluster": cluster}])), None).content
    )
    assert content["clusters"][0]["cluster"] == {"server": SERVER, "certificate-authority-data": "aW5saW5l"}


def test_a_token_file_wins_over_a_token_as_for_kubectl(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("fresh\n")
    users = [{"name": "u1", "user": {"token": "stale", "tokenFile": "token"}}]
    content = json.loads(kubeconfig.read(written(tmp_path, document(users=users)), None).content)
    assert content["users"][0]["user"] == {"token": "fresh"}


def test_a_plugin_that_gives_credentials_is_kept(tmp_path: Path) -> None:
    user = {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "gke-gcloud-auth-plugin"}}
    file = written(tmp_path, document(users=[{"name": "u1", "user": user}]))
    assert json.loads(kubeconfig.read(file, None).content)["users"] == [{"name": "u1", "user": user}]


def test_the_access_is_not_printed(tmp_path: Path) -> None:
    assert "one" not in repr(kubeconfig.read(written(tmp_path, document()), None))


@pytest.mark.parametrize(
    ("content", "context", "words"),
    [
        ("{", None, "is not YAML: name the cluster's kubeconfig file"),
        ("[]", None, "is not a kubeconfig file: its kind is not Config"),
        ({"kind": "Pod"}, None, "is not a kubeconfig file: its kind is not Config"),
        (document(**{"current-context": ""}), None, "has no current context: name one of here, there"),
        (document(), "elsewhere", "has no context 'elsewhere'; it has here, there"),
        (document(contexts=[]), None, "has no context 'here'; it has none"),
        (document(contexts={"here": "there"}), None, "has no context 'here'; it has none"),
        (document(contexts=["here", {"name": "here"}]), None, "has no context 'here'; it has none"),
        (document(clusters=[]), None, "has no cluster 'c1'; it has none"),
        (document(users=[{"name": "u2", "user": {}}]), None, "has no user 'u1'; it has u2"),
        (
            document(users=[{"name": "u1", "user": {"client-key": "gone"}}]),
            None,
            "names the client-key gone, which cannot be read (No such file or directory)",
        ),
        (document(users=[{"name": "u1", "user": {"tokenFile": 5}}]), None, "names the tokenFile 5, which cannot be"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(tmp_path: Path, content: object, context: str | None, words: str) -> None:
    file = written(tmp_path, content)
    with pytest.raises(KubeconfigError) as caught:
        kubeconfig.read(file, context)
    assert str(caught.value).startswith(f"{file} ")
    assert words in str(caught.value)


def test_a_file_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(KubeconfigError, match="config does not exist: name the cluster's kubeconfig file"):
        kubeconfig.read(tmp_path / "config", None)


def test_a_directory_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(KubeconfigError, match=r"cannot be read \(Is a directory\)"):
        kubeconfig.read(tmp_path, None)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(alphabet="abc", max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["name", "context", "user"]), inner),
    max_leaves=6,
)


@runs(deadline=None)
@given(st.dictionaries(st.sampled_from(["contexts", "clusters", "users", "current-context"]), values))
def test_nonsense_is_refused_and_never_a_crash(
    tmp_path_factory: pytest.TempPathFactory, sections: dict[str, Any]
) -> None:
    file = written(tmp_path_factory.getbasetemp(), {"kind": "Config", **sections})
    with pytest.raises(KubeconfigError):
        kubeconfig.read(file, None)

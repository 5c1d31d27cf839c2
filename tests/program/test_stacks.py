"""The whole program for each stack of the checkout: what it declares and what it promises."""

import ast
import json
import runpy
import secrets
import subprocess
import sys
from pathlib import Path
from typing import Any

import pulumi
import pytest
import yaml

import settings
from outputs import Outputs, schema
from tests.program import answers
from tests.program.monitor import STACK_TYPE, Monitor, deploy

pytestmark = pytest.mark.fast

CHECKOUT = Path(__file__).parents[2]
KUBECONFIG = {
    "apiVersion": "v1",
    "kind": "Config",
    "current-context": "here",
    "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me"}}],
    "clusters": [{"name": "here", "cluster": {"server": "https://192.0.2.1:6443"}}],
    "users": [{"name": "me", "user": {"token": "not-shown"}}],
}
# What a component is to be called, and what a stack's own children are.
OURS = "atlas-sites:"


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cluster's file and a record of images, as `make up` leaves them."""
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(yaml.safe_dump(KUBECONFIG))
    images = tmp_path / "images.json"
    images.write_text(json.dumps({name: f"localhost/{name}:1" for name in settings.images.IMAGE_NAMES}))
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
    monkeypatch.setenv("ATLAS_SITES_IMAGES", str(images))
    # The engine keeps the first one; here each run would have another.
    monkeypatch.setattr(secrets, "token_urlsafe", lambda _bytes: "t" * 43)
    return kubeconfig


def configuration(stack: str) -> dict[str, Any]:
    values: dict[str, Any] = yaml.safe_load((CHECKOUT / f"Pulumi.{stack}.yaml").read_text())["config"]
    return values


def run(values: dict[str, Any], *, preview: bool = False) -> Monitor:
    """The program, as the engine would run it with these settings."""
    config = {key: value if isinstance(value, str) else json.dumps(value) for key, value in values.items()}
    return deploy(
        lambda: runpy.run_path(str(CHECKOUT / "__main__.py")), config=config, preview=preview, invoke=answers.invoke
    )


@pytest.mark.usefixtures("environment")
def test_the_outputs_are_what_is_promised() -> None:
    stack = run(configuration("dev")).stack
    promised = Outputs.model_validate(stack.outputs)
    assert list(promised.sites) == ["dev"]
    assert stack.outputs_secret == ["sites.dev.cluster.kubeconfig"]


@pytest.mark.usefixtures("environment")
def test_a_preview_of_a_new_stack_declares_all_that_an_up_does() -> None:
    previewed, done = run(configuration("dev"), preview=True), run(configuration("dev"))
    assert {resource.urn for resource in previewed.resources} == {resource.urn for resource in done.resources}


@pytest.mark.usefixtures("environment")
def test_every_component_registers_outputs_and_every_resource_has_its_place_in_the_tree() -> None:
    monitor = run(configuration("dev"))
    for resource in monitor.all():
        if resource.type.startswith(OURS):
            assert resource.outputs, f"{resource.urn} registers no outputs"
        if resource.type not in {STACK_TYPE, "atlas-sites:index:Site"}:
            assert resource.parent != monitor.stack.urn, f"{resource.urn} hangs on the stack"
        assert resource.name == pulumi.get_stack() or resource.type == STACK_TYPE or resource.name.startswith("dev")


@pytest.mark.usefixtures("environment")
def test_every_object_goes_to_the_sites_own_cluster() -> None:
    monitor = run(configuration("dev"))
    provider = monitor.one("pulumi:providers:kubernetes")
    objects = [resource for resource in monitor.all() if resource.type.startswith("kubernetes:")]
    assert objects
    assert {resource.provider.rsplit("::", 1)[0] for resource in objects} == {provider.urn}


def test_two_sites_share_no_name(environment: Path) -> None:
    values = configuration("dev")
    [site] = values["atlas-sites:sites"]
    second = environment.with_name("second")
    second.write_text(environment.read_text())
    values["atlas-sites:portal"]["address"] = "https://portal.example.org"
    values["atlas-sites:sites"] = [site, {**site, "name": "other", "kubeconfig": str(second)}]
    monitor = run(values)
    assert set(monitor.stack.outputs["sites"]) == {"dev", "other"}  # type: ignore[index]
    namespaces = monitor.all("kubernetes:core/v1:Namespace")
    assert len({resource.inputs["metadata"]["name"] for resource in namespaces}) == 4


@pytest.mark.usefixtures("environment")
def test_the_set_of_startds_waits_for_all_that_startds_need_and_outlives_none_of_it() -> None:
    monitor = run(configuration("dev"))
    waits = {
        urn.rsplit("::", 1)[1] for urn in monitor.one("kubernetes:vacuum.atlas-sites.io/v1alpha1:StartdSet").depends_on
    }
    assert waits >= {
        "dev-vacuum-controller", "dev-vacuum-binding", "dev-vacuum-definition", "dev-squid-0", "dev-cvmfs-mounter",
        "dev-credentials-refresher",
    }  # fmt: skip


def test_without_a_kubeconfig_nothing_is_declared(environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    del environment
    monkeypatch.delenv("KUBECONFIG")
    with pytest.raises(pulumi.RunError, match="site dev: no kubeconfig"):
        run(configuration("dev"))


def world(*sites: dict[str, Any]) -> dict[str, Any]:
    """The dev stack with these sites over the one that it has."""
    values = configuration("dev")
    [site] = values["atlas-sites:sites"]
    values["atlas-sites:sites"] = [{**site, **change} for change in sites]
    # Its hub is one of the sites.
    values["atlas-sites:portal"] = {"hub": min(site["name"] for site in sites), "address": "https://portal.example.org"}
    return values


def test_a_site_without_a_kubeconfig_is_told_and_does_not_stop_the_others(environment: Path, tmp_path: Path) -> None:
    lost = tmp_path / "lost"
    monitor = run(world({"name": "lost", "kubeconfig": str(lost)}, {"name": "found", "kubeconfig": str(environment)}))
    assert [message for severity, message in monitor.logs if severity == "ERROR"] == [
        f"site lost: {lost} does not exist: name the cluster's kubeconfig file."
    ]
    names = {
        site: {each.name.replace(site, "") for each in monitor.all() if each.name.startswith(site)}
        for site in ("lost", "found")
    }
    hubs = {name for name in names["found"] if name.startswith("-portal")}
    assert names["lost"] == names["found"] - hubs, "what is not declared would be deleted"
    provider = monitor.one("pulumi:providers:kubernetes", "lost-cluster-kubernetes")
    assert json.loads(provider.inputs["kubeconfig"]) == {"apiVersion": "v1", "kind": "Config"}


def test_where_no_site_has_a_kubeconfig_nothing_is_declared(tmp_path: Path, environment: Path) -> None:
    del environment
    sites = ({"name": name, "kubeconfig": str(tmp_path / name)} for name in ("one", "two"))
    with pytest.raises(pulumi.RunError, match=r"site one: .* does not exist(.|\n)*site two: .* does not exist"):
        run(world(*sites))


@pytest.mark.usefixtures("environment")
def test_one_table_shows_all_sites(tmp_path: Path, environment: Path) -> None:
    second = tmp_path / "second"
    second.write_text(environment.read_text())
    monitor = run(world({"name": "one"}, {"name": "two", "kubeconfig": str(second), "atlasSite": "TWO_PROD"}))
    assert monitor.stack.outputs is not None
    assert str(monitor.stack.outputs["table"]).splitlines() == [
        "SITE   ATLAS SITE        KIND       REGION   NAMESPACE   STARTDS   CORES   MEMORY GIB   POOLS",
        "one    ATLAS-SITES-DEV   existing   -        one         4         4       3            -",
        "two    TWO_PROD          existing   -        two         4         4       3            -",
    ]


@pytest.mark.usefixtures("environment")
def test_a_renamed_site_is_the_same_site_with_the_same_objects() -> None:
    before, after = run(world({"name": "old"})), run(world({"name": "new", "formerNames": ["old"]}))
    site = after.one("atlas-sites:index:Site")
    assert (site.name, site.aliases) == ("new", ["old"])
    assert {resource.name.removeprefix("old"): resource.inputs for resource in before.all() if resource.custom} == {
        resource.name.removeprefix("new"): resource.inputs for resource in after.all() if resource.custom
    }
    for resource in after.all():
        # The engine gives a child its parent's former name only where its own name begins with the parent's.
        assert resource.type == STACK_TYPE or resource.name.startswith("new")


@pytest.mark.usefixtures("environment")
def test_the_order_of_sites_means_nothing(tmp_path: Path, environment: Path) -> None:
    second = tmp_path / "second"
    second.write_text(environment.read_text())
    one, two = {"name": "one"}, {"name": "two", "kubeconfig": str(second)}
    first, other = run(world(one, two)), run(world(two, one))
    assert {resource.urn: resource.inputs for resource in first.all() if resource.custom} == {
        resource.urn: resource.inputs for resource in other.all() if resource.custom
    }


def test_a_stack_of_existing_clusters_imports_no_clouds_sdk() -> None:
    program = "import clusters, sites, outputs, sys; print([m for m in sys.modules if m.startswith('pulumi_')])"
    done = subprocess.run([sys.executable, "-c", program], cwd=CHECKOUT, capture_output=True, text=True, check=True)
    imported = {name.split(".")[0] for name in ast.literal_eval(done.stdout)}
    assert imported == {"pulumi_kubernetes"}


@pytest.mark.parametrize("file", sorted(CHECKOUT.glob("Pulumi.*.yaml")), ids=lambda file: file.name)
def test_no_stack_file_of_the_checkout_holds_one_machines_salt(file: Path) -> None:
    # A literal `pulumi` in a checkout without the environment of `make env` writes one.
    assert yaml.safe_load(file.read_text()).keys() == {"config"}


def test_the_schema_of_the_outputs_is_the_one_that_is_published() -> None:
    assert (CHECKOUT / "docs" / "outputs.schema.json").read_text() == schema(), "run `make docs`"

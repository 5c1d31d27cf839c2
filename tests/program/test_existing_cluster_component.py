"""A cluster that is already there: reached by one kubeconfig, which is secret, and never mistaken for another."""

import pytest

from components.cluster.existing import ExistingCluster, ExistingClusterArgs
from components.cluster.kubeconfig import Kubeconfig
from tests.program import tree
from tests.program.monitor import Monitor, deploy

pytestmark = pytest.mark.fast

PROVIDER = "pulumi:providers:kubernetes"


def declared(content: str = "the access", *, preview: bool = False) -> Monitor:
    kubeconfig = Kubeconfig(content=content, context="mine")
    args = ExistingClusterArgs(identifier="here-cluster", kubeconfig=kubeconfig)
    return deploy(lambda: ExistingCluster("here-cluster", args), preview=preview)


def test_every_part_hangs_on_the_component_and_keeps_to_the_policies() -> None:
    monitor = declared()
    tree.check(monitor)
    assert monitor.one(PROVIDER).name == "here-cluster-kubernetes"


def test_the_kubeconfig_is_secret_in_the_provider_and_in_the_outputs() -> None:
    monitor = declared()
    provider, component = monitor.one(PROVIDER), monitor.one("atlas-sites:cluster:ExistingCluster")
    assert provider.secrets == ["kubeconfig"]
    assert component.outputs_secret == ["kubeconfig"]
    assert component.outputs == {"kubeconfig": "the access", "context": "mine"}


def test_a_renewed_kubeconfig_is_still_the_same_cluster() -> None:
    before, after = (declared(content).one(PROVIDER).inputs for content in ("before", "after"))
    assert before.pop("kubeconfig") != after.pop("kubeconfig")
    assert before == after
    assert before["clusterIdentifier"] == "here-cluster"


def test_a_preview_knows_all_that_an_up_knows() -> None:
    assert declared(preview=True).one(PROVIDER).inputs == declared().one(PROVIDER).inputs


def test_configuration_in_the_cluster_changes_in_place() -> None:
    inputs = declared().one(PROVIDER).inputs
    assert {inputs["enableConfigMapMutable"], inputs["enableSecretMutable"]} <= {True, "true"}

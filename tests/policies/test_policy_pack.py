"""The pack as a whole: what each rule says about itself, what it must agree on with the program, and that it starts."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc  # type: ignore[import-untyped]  # it has no types
import pytest
import yaml
from google.protobuf import empty_pb2, json_format, struct_pb2  # type: ignore[import-untyped]  # it has no types
from pulumi.runtime.proto import analyzer_pb2, analyzer_pb2_grpc
from pulumi_policy import EnforcementLevel, ResourceValidationPolicy
from rules import RULES, clouds, images, keepalive, pods, privilege, spending
from rules.rule import REASONS

import settings
from components import labels, naming, vacuum
from components.cluster import pools
from deploy import cost

pytestmark = pytest.mark.fast

CHECKOUT = Path(__file__).parents[2]
PACK = CHECKOUT / "policies"
MARK = "4dabf18193072939515e22adb298388d"  # the engine's mark of special values
SECRET = "1b47061264138c4ac30d75fd1eb44270"


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_a_rule_tells_its_name_a_sentence_its_weight_the_remedy_and_where_the_reason_is(
    rule: ResourceValidationPolicy,
) -> None:
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", rule.name)
    assert rule.description.endswith(".")
    assert rule.severity is not None
    assert rule.remediation_steps
    assert rule.remediation_steps.endswith(".")
    assert rule.url == f"{REASONS}#{rule.name}"
    assert rule.enforcement_level in (EnforcementLevel.MANDATORY, EnforcementLevel.REMEDIATE)


def test_each_rule_has_a_name_of_its_own() -> None:
    assert len({rule.name for rule in RULES}) == len(RULES)


def test_the_page_of_reasons_has_a_paragraph_for_each_rule_and_for_no_other() -> None:
    page = (CHECKOUT / REASONS).read_text()
    assert re.findall(r"^### (.+)$", page, re.MULTILINE) == [rule.name for rule in RULES]


def test_rules_and_program_agree_on_what_is_written_in_both() -> None:
    assert (pods.NAME, pods.INSTANCE) == (labels.NAME, labels.INSTANCE)
    assert naming.SYSTEM_SUFFIX == privilege.SYSTEM_SUFFIX
    assert settings.images.DEV_STACK == images.DEV_STACK
    assert int(keepalive.IDLE_SECONDS / keepalive.MARGIN) == settings.workload.KEEPALIVE_MAX_SECONDS
    assert pools.JOBS.key == clouds.JOBS_TAINT
    assert clouds.SYSTEM == pools.SYSTEM
    assert labels.cost_tags("here", "jobs1") == {clouds.SITE_TAG: "here", clouds.POOL_TAG: "jobs1"}
    assert spending.NODE_POOLS == vacuum.POOLS
    assert spending.HOURS_PER_MONTH == cost.HOURS
    definition = yaml.safe_load((CHECKOUT / "components" / "startdset_crd.yaml").read_text())
    assert definition["spec"]["names"]["kind"] == pods.STARTD_SET
    assert definition["spec"]["group"] == vacuum.GROUP


@pytest.fixture(scope="module")
def pack() -> Iterator[analyzer_pb2_grpc.AnalyzerStub]:
    """The pack as a language host starts it: from its own directory, with nothing of the program on the path."""
    process = subprocess.Popen(
        [sys.executable, "-u", str(PACK / "__main__.py"), "127.0.0.1:0"],
        cwd=PACK,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    port = process.stdout.readline().strip()
    channel = grpc.insecure_channel(f"127.0.0.1:{port}")
    try:
        yield analyzer_pb2_grpc.AnalyzerStub(channel)
    finally:
        channel.close()
        process.kill()
        process.communicate()


def request(token: str, properties: dict[str, Any]) -> analyzer_pb2.AnalyzeRequest:
    inputs = json_format.ParseDict(properties, struct_pb2.Struct())
    return analyzer_pb2.AnalyzeRequest(
        type=token, name="thing", urn=f"urn:pulumi:dev::atlas-sites::{token}::thing", properties=inputs
    )


def test_the_pack_starts_and_offers_every_rule(pack: analyzer_pb2_grpc.AnalyzerStub) -> None:
    info = pack.GetAnalyzerInfo(empty_pb2.Empty(), timeout=20)
    assert info.name == "atlas-sites"
    assert [policy.name for policy in info.policies] == [rule.name for rule in RULES]


def test_a_violation_stops_an_update_and_tells_the_remedy(pack: analyzer_pb2_grpc.AnalyzerStub) -> None:
    answer = pack.Analyze(request("kubernetes:core/v1:Service", {"spec": {"type": "NodePort"}}), timeout=20)
    (told,) = answer.diagnostics
    assert told.policyName == "no-public-squid"
    assert told.enforcementLevel == analyzer_pb2.MANDATORY
    assert "thing has type NodePort" in told.message
    assert "Use type ClusterIP" in told.message


def test_a_kubeconfig_in_clear_leaves_the_pack_as_a_secret(pack: analyzer_pb2_grpc.AnalyzerStub) -> None:
    answer = pack.Remediate(request("pulumi:providers:kubernetes", {"kubeconfig": "text"}), timeout=20)
    (made,) = answer.remediations
    assert json.loads(json_format.MessageToJson(made.properties)) == {"kubeconfig": {MARK: SECRET, "value": "text"}}


def test_a_secret_kubeconfig_leaves_the_pack_as_it_came(pack: analyzer_pb2_grpc.AnalyzerStub) -> None:
    given = {"kubeconfig": {MARK: SECRET, "value": "text"}}
    answer = pack.Remediate(request("pulumi:providers:kubernetes", given), timeout=20)
    assert not answer.remediations

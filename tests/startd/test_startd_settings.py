"""What the pod template says is checked, and reaches HTCondor's configuration: each side knows the other's names."""

import re
from pathlib import Path

import pytest
from reporter import places
from reporter.fault import Fault
from reporter.leaving import NOTICE_SECONDS
from reporter.settings import OVERHEAD_DISK_MIB, OVERHEAD_MIB, Settings

from components.startds import StartdLimits, StartdsArgs, StartdSize, StartdTimes, VacuumPace, template
from local.paths import CHECKOUT

pytestmark = pytest.mark.fast

CONFIGURATION = (CHECKOUT / "images/startd/condor/startd.conf").read_text()
GIVEN = {
    "COLLECTOR": "cm.pool.svc.cluster.local:9618",
    "TRUST_DOMAIN": "pool.atlas-sites.example",
    "ATLAS_SITE": "DEV-LOCAL",
    "SITE": "dev",
    "POD_NAME": "startds-7",
    "NODE_NAME": "atlas-local",
    "http_proxy": "http://squid.dev.svc.cluster.local:3128",
    "CORES": "8",
    "MEMORY_MIB": "16000",
    "DISK_MIB": "20480",
    "NOCLAIM_SECONDS": "600",
    "DRAIN_SECONDS": "3600",
    "KEEPALIVE_SECONDS": "180",
    "PAYLOAD_CONTAINERS": "none",
}
METHODS = ("IDTOKENS", "SSL")
ARGS = StartdsArgs(
    site="dev",
    namespace="dev",
    image="startd",
    atlas_site="DEV-LOCAL",
    collector=GIVEN["COLLECTOR"],
    trust_domain=GIVEN["TRUST_DOMAIN"],
    credentials="proxy",
    cvmfs_claim="cvmfs",
    repositories=("software.example",),
    proxy=GIVEN["http_proxy"],
    size=StartdSize(cores=1, requested_cores=0.5, memory_mib=1024, disk_mib=2048),
    times=StartdTimes(start=300, no_claim=600, drain=3600, lifetime=7200, keepalive=180),
    limits=StartdLimits(pods=1, cores=1, memory_mib=1024),
    pace=VacuumPace(window_initial=1, window_maximum=1, backoff_base=60, backoff_cap=60, update="OnFinish"),
)


def environment() -> dict[str, str]:
    return Settings.read(GIVEN).environment(
        METHODS,
        Path("/scratch/credentials"),
        user_namespaces=True,
        apptainer=Path("/cvmfs/bin/apptainer"),
        stage_out=False,
    )


def test_htcondor_is_told_all_that_its_configuration_asks_for_and_nothing_else_but_what_every_program_reads() -> None:
    asked = set(re.findall(r"\$ENV\((\w+)\)", CONFIGURATION))
    assert asked == set(environment()) - {"PATH", "CONDOR_CONFIG", "X509_USER_PROXY"}


def test_the_pod_template_gives_all_that_is_read() -> None:
    (startd,) = template(ARGS)["spec"]["containers"]
    named = {entry["name"]: entry.get("value") for entry in startd["env"]}
    assert set(GIVEN) <= set(named)
    Settings.read({name: named[name] or value for name, value in GIVEN.items()})


def test_the_pod_template_hands_on_what_the_pods_annotations_say() -> None:
    pod = template(ARGS)["spec"]
    (startd,) = pod["containers"]
    (lifetime,) = (entry for entry in startd["env"] if entry["name"] == "LIFETIME_SECONDS")
    assert lifetime["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.annotations['vacuum.atlas-sites.io/lifetime']"
    (volume,) = (volume for volume in pod["volumes"] if "downwardAPI" in volume)
    (item,) = volume["downwardAPI"]["items"]
    (mount,) = (mount for mount in startd["volumeMounts"] if mount["name"] == volume["name"])
    assert item["fieldRef"]["fieldPath"] == "metadata.annotations['vacuum.atlas-sites.io/requested']"
    assert Path(mount["mountPath"]) / item["path"] == places.REQUESTED
    assert mount["readOnly"]


@pytest.mark.parametrize(
    ("given", "seconds"), [({}, None), ({"LIFETIME_SECONDS": ""}, None), ({"LIFETIME_SECONDS": "86400"}, 86400)]
)
def test_a_startd_whose_pod_names_no_lifetime_lives_as_long_as_it_has_work(
    given: dict[str, str], seconds: int | None
) -> None:
    assert Settings.read({**GIVEN, **given}).lifetime_seconds == seconds


def test_less_is_offered_than_the_pod_may_use() -> None:
    told = environment()
    assert int(told["OFFERED_MEMORY_MIB"]) == 16000 - OVERHEAD_MIB
    assert int(told["OFFERED_DISK_KIB"]) == (20480 - OVERHEAD_DISK_MIB) * 1024


def test_the_heartbeat_through_the_collector_comes_before_the_keepalive_of_its_connection() -> None:
    told = environment()
    assert (told["KEEPALIVE_SECONDS"], told["HEARTBEAT_SECONDS"]) == ("180", "120")


def test_credentials_are_offered_in_the_order_that_was_found() -> None:
    assert environment()["AUTHENTICATION_METHODS"] == "IDTOKENS, SSL"


@pytest.mark.parametrize("variable", sorted(GIVEN))
def test_a_variable_that_is_missing_is_named(variable: str) -> None:
    with pytest.raises(Fault, match=f"^{variable} is not set: the pod template must set it to "):
        Settings.read({name: value for name, value in GIVEN.items() if name != variable})


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("COLLECTOR", "cm.pool", "host:port"),
        ("CORES", "1.5", "whole number"),
        ("CORES", "0", "whole number"),
        ("NOCLAIM_SECONDS", "-1", "whole number"),
        ("LIFETIME_SECONDS", "1d", "whole number"),
        ("ATLAS_SITE", 'X" && true', "letters"),
        ("NODE_NAME", "a b", "letters"),
        ("http_proxy", "squid:3128", "http://host:port"),
        ("MEMORY_MIB", str(OVERHEAD_MIB), "more than"),
        ("DISK_MIB", str(OVERHEAD_DISK_MIB), "more than"),
        ("PAYLOAD_CONTAINERS", "True", "userNamespaces or none"),
    ],
)
def test_a_variable_that_is_wrong_is_shown(variable: str, value: str, said: str) -> None:
    with pytest.raises(Fault, match=re.escape(variable)) as fault:
        Settings.read({**GIVEN, variable: value})
    assert value in str(fault.value)
    assert said in str(fault.value)


def test_the_payload_gets_the_way_out_and_no_credential() -> None:
    (line,) = re.findall(r"^STARTER_JOB_ENVIRONMENT = (.*)$", CONFIGURATION, re.MULTILINE)
    assert "http_proxy=$ENV(http_proxy)" in line
    assert not re.search("X509|TOKEN|AUTHORITY", line)


def test_nobody_may_command_a_startd_over_the_network() -> None:
    allowed = re.findall(r"^ALLOW_(\w+) =(.*)$", CONFIGURATION, re.MULTILINE)
    assert {"ADMINISTRATOR", "CONFIG", "DAEMON", "WRITE", "READ", "OWNER", "NEGOTIATOR"} <= {who for who, _ in allowed}
    assert all(not hosts.strip() for _, hosts in allowed)
    assert "SEC_ENABLE_REMOTE_ADMINISTRATION = False" in CONFIGURATION


def test_retirement_outlasts_the_time_to_vacate_and_any_drain() -> None:
    def seconds(knob: str) -> int:
        (given,) = re.findall(rf"^{knob} = ([0-9 *]+)$", CONFIGURATION, re.MULTILINE)
        product = 1
        for factor in given.split("*"):
            product *= int(factor)
        return product

    longest_drain = 7 * 24 * 3600  # that the settings allow
    for bound in ("MAXJOBRETIREMENTTIME", "SHUTDOWN_GRACEFUL_TIMEOUT"):
        assert seconds(bound) > longest_drain + seconds("MachineMaxVacateTime")
    assert seconds("MachineMaxVacateTime") == NOTICE_SECONDS

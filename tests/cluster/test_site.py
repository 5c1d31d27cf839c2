"""The dev site as a new user has it after `make up`: each promise of the README, on the real node."""

import json
import os
import re
import shutil
import subprocess
from base64 import b64decode
from pathlib import Path
from typing import Any

import pytest
import yaml

from local import tools
from local.engine import Engine
from local.paths import CHECKOUT, state_dir
from local.progress import Progress
from outputs import Outputs
from tests.cluster.cluster import Cluster
from tests.cluster.conftest import STEPS, Interrupted, git_status

pytestmark = pytest.mark.cluster

SITE = "dev"
SYSTEM = "dev-system"
COMMAND_SECONDS = 1800
UNCHANGED = re.compile(r"Resources:\s+(\d+) unchanged\s")


def shell(command: str, *, check: bool = True, directory: Path = CHECKOUT) -> subprocess.CompletedProcess[str]:
    """A command line as a person types it."""
    done = subprocess.run(
        ["bash", "-c", command], cwd=directory, capture_output=True, text=True, timeout=COMMAND_SECONDS, check=False
    )
    if check and done.returncode != 0:
        pytest.fail(f"{command}: exit code {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
    return done


def as_the_readme_says(command: str) -> subprocess.CompletedProcess[str]:
    """A command of the README's first block, or of one of its others."""
    blocks = re.findall(r"```\n(.*?)```", (CHECKOUT / "README.md").read_text(), re.DOTALL)
    lines = [line.split("#")[0].strip() for block in blocks for line in block.splitlines()]
    assert command in lines, f"the README does not tell to say `{command}`"
    return shell(command)


def pulumi(words: str, *, check: bool = True) -> subprocess.CompletedProcess[str]:
    """A literal `pulumi` command in the environment that the README tells to set."""
    return shell(f'eval "$(make -s env)" && pulumi {words}', check=check)


def startdset(site: Cluster) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(site.kubectl("get", "startdset", "startds", "-n", SITE, "-o", "json"))
    return found


def known_startd(site: Cluster) -> str:
    """The name of a startd that the pool knows, waited for."""
    names: list[str] = []

    def there() -> bool:
        pods = json.loads(site.kubectl("get", "pods", "-n", SITE, "-l", "vacuum.atlas-sites.io/set", "-o", "json"))
        names[:] = [
            pod["metadata"]["name"]
            for pod in pods["items"]
            if "deletionTimestamp" not in pod["metadata"]
            and any(container.get("started") for container in pod["status"].get("containerStatuses", ()))
        ]
        return bool(names)

    site.kubectl("annotate", "startdset", "startds", "-n", SITE, "--overwrite", "vacuum.atlas-sites.io/retry-now=yes")
    site.eventually(there, "the pool knows a startd", SITE)
    return names[0]


def in_startd(site: Cluster, *command: str) -> str:
    """What a command in a startd prints, on both streams; of another startd if the first one ended meanwhile."""
    said = ""
    for _ in range(5):
        said = site.kubectl("exec", "-n", SITE, known_startd(site), "-c", "startd", "--", *command, check=False)
        if not any(gone in said for gone in ("container not found", "NotFound", "completed pod", "exit code 137")):
            break
    return said


def test_each_step_of_make_up_can_be_interrupted(interrupted_ups: list[Interrupted]) -> None:
    for outcome in interrupted_ups:
        assert outcome.exit_code == 130, outcome
        assert "`make up` goes on from here" in outcome.said
        assert "Traceback" not in outcome.said
    # The first two may be through before a signal can reach them, when nothing has to be built.
    assert {outcome.step for outcome in interrupted_ups} >= set(STEPS) - {"tools", "images"}


def test_make_up_again_is_done_with_nothing_to_do(site: Cluster) -> None:
    before = startdset(site)["metadata"]["generation"]
    said = as_the_readme_says("make up")
    assert UNCHANGED.search(said.stdout + said.stderr), said.stdout
    assert startdset(site)["metadata"]["generation"] == before


def test_a_site_whose_state_was_lost_is_taken_over_as_it_is(site: Cluster, tmp_path: Path) -> None:
    def objects() -> dict[str, str]:
        """UIDs of what the stack made in the cluster, by kind and name."""
        kinds = "namespace,customresourcedefinition,clusterrole,clusterrolebinding"
        spaced = "startdset,deployment,daemonset,service,serviceaccount,role,rolebinding,networkpolicy,resourcequota"
        listed = [("get", kinds), *(("get", spaced, "-n", name) for name in (SITE, SYSTEM))]
        items = [item for words in listed for item in json.loads(site.kubectl(*words, "-o", "json"))["items"]]
        return {f"{item['kind']} {item['metadata']['name']}": item["metadata"]["uid"] for item in items}

    saved, lost = tmp_path / "saved.json", tmp_path / "lost.json"
    pulumi(f"stack export --file {saved}")
    state = json.loads(saved.read_text())
    made = len(state["deployment"]["resources"])
    lost.write_text(json.dumps({**state, "deployment": {**state["deployment"], "resources": []}}))
    before = objects()
    pulumi(f"stack import --file {lost}")
    try:
        said = as_the_readme_says("make up")
    except BaseException:
        pulumi(f"stack import --file {saved}")
        raise
    assert re.search(r"Resources:\s+\+ \d+ created", said.stdout + said.stderr), said.stdout
    assert len(json.loads(pulumi("stack export").stdout)["deployment"]["resources"]) == made
    assert objects() == before


@pytest.mark.usefixtures("site")
def test_make_up_changes_no_file_of_the_checkout(checkout_before: str) -> None:
    assert git_status() == checkout_before


@pytest.mark.usefixtures("site")
def test_the_passphrase_is_private_and_lies_outside_the_checkout() -> None:
    passphrase = state_dir() / "pulumi" / "passphrase"
    assert passphrase.stat().st_mode & 0o777 == 0o600
    assert not passphrase.is_relative_to(CHECKOUT)


@pytest.mark.usefixtures("site")
def test_a_preview_by_hand_with_the_policies_finds_nothing_to_change_and_nothing_to_mend() -> None:
    said = pulumi("preview --stack dev --policy-pack policies --non-interactive").stdout
    assert UNCHANGED.search(said), said
    assert "mandatory" not in said
    assert re.search(r"Policies:\n.*atlas-sites", said), said


@pytest.mark.usefixtures("site")
def test_an_up_by_hand_without_a_change_changes_nothing() -> None:
    said = pulumi("up --stack dev --yes --skip-preview --non-interactive").stdout
    assert UNCHANGED.search(said), said


@pytest.mark.usefixtures("site")
def test_the_outputs_are_what_the_schema_promises() -> None:
    found = json.loads(pulumi("stack output --stack dev --json --show-secrets").stdout)
    promised = Outputs.model_validate(found)
    assert promised.sites[SITE].squid.endpoints
    assert yaml.safe_load(promised.sites[SITE].cluster.kubeconfig)["kind"] == "Config"


@pytest.mark.usefixtures("site")
def test_the_kubeconfig_is_secret_in_the_outputs_and_in_the_state() -> None:
    hidden = json.loads(pulumi("stack output --stack dev --json").stdout)
    assert "[secret]" in json.dumps(hidden)
    assert "client-key-data" not in json.dumps(hidden)
    assert "client-key-data" not in pulumi("stack export --stack dev").stdout


def test_no_byte_of_the_credentials_is_in_the_state_even_decrypted_after_a_refresh(site: Cluster) -> None:
    # A refresh reads back all that the stack declares; of these, that is nothing, not even encrypted.
    pulumi("refresh --stack dev --yes --skip-preview --non-interactive")
    state = pulumi("stack export --stack dev --show-secrets").stdout
    inside = json.loads(site.kubectl("get", "secret", "proxy", "-n", SITE, "-o", "json"))["data"]
    assert {"proxy", "token"} <= inside.keys()
    for name in ("proxy", "token"):
        assert inside[name] not in state
        lines = [line for line in b64decode(inside[name]).decode().splitlines() if len(line) > 40]
        assert lines
        assert not any(line in state for line in lines)
    assert "hostkey.pem" not in state
    key = (state_dir() / "certificates" / "hostkey.pem").read_text().splitlines()[1]
    assert key not in state


def test_the_refresher_makes_its_one_secret_by_name_and_no_other(site: Cluster) -> None:
    def allowed(*words: str) -> bool:
        who = f"--as=system:serviceaccount:{SITE}:credentials"
        return site.kubectl("auth", "can-i", *words, "-n", SITE, who, check=False).strip() == "yes"

    assert all(allowed(verb, "secrets/proxy") for verb in ("create", "get", "patch"))
    assert not any(allowed(verb, "secrets/other") for verb in ("create", "get", "patch"))
    assert not any(allowed(verb, "secrets") for verb in ("create", "list", "watch", "delete"))
    site.kubectl("delete", "secret", "proxy", "-n", SITE)
    site.eventually(
        lambda: site.kubectl(
            "get", "secret", "proxy", "-n", SITE, "-o", "jsonpath={.data.proxy}", "--ignore-not-found"
        ),
        "the Secret is made and filled again",
        SITE,
    )


def test_a_refreshed_proxy_stays_through_up_and_refresh(site: Cluster) -> None:
    def proxy() -> str:
        return site.kubectl("get", "secret", "proxy", "-n", SITE, "-o", "jsonpath={.data.proxy}")

    before = proxy()
    assert before
    assert UNCHANGED.search(pulumi("refresh --stack dev --yes --skip-preview --non-interactive").stdout)
    assert UNCHANGED.search(pulumi("up --stack dev --yes --skip-preview --non-interactive").stdout)
    assert proxy() == before


@pytest.mark.parametrize(
    ("what", "extra"),
    [
        ("privileged", '"containers":[{"name":"c","image":"none","securityContext":{"privileged":true}}]'),
        (
            "hostPath",
            '"containers":[{"name":"c","image":"none"}],"volumes":[{"name":"v","hostPath":{"path":"/var/cvmfs"}}]',
        ),
        ("hostNetwork", '"hostNetwork":true,"containers":[{"name":"c","image":"none"}]'),
    ],
)
def test_beside_the_startds_a_pod_with_the_nodes_powers_is_refused(site: Cluster, what: str, extra: str) -> None:
    pod = f'{{"apiVersion":"v1","kind":"Pod","metadata":{{"name":"strong"}},"spec":{{{extra}}}}}'
    said = site.kubectl("create", "-n", SITE, "-f", "-", stdin=pod, check=False)
    assert 'violates PodSecurity "baseline' in said
    assert what.lower() in said.lower()


def test_only_node_agents_are_in_the_privileged_namespace(site: Cluster) -> None:
    pods = json.loads(site.kubectl("get", "pods", "-n", SYSTEM, "-o", "json"))["items"]
    assert {pod["metadata"]["labels"]["app.kubernetes.io/name"] for pod in pods} == {"cvmfs", "node-monitor", "seccomp"}


def test_a_startd_reads_the_software_and_cannot_write_there(site: Cluster) -> None:
    assert {"README", "python"} <= set(in_startd(site, "ls", "/cvmfs/software.atlas-sites.example").split())
    assert "Read-only file system" in in_startd(site, "touch", "/cvmfs/x")


def test_a_startd_has_no_account_with_the_api_server(site: Cluster) -> None:
    assert "No such file or directory" in in_startd(site, "ls", "/var/run/secrets/kubernetes.io")


@pytest.mark.parametrize(
    ("verb", "resource", "allowed"),
    [
        ("create", "pods", True),
        ("update", "startdsets/status", True),
        ("create", "events", True),
        ("get", "secrets", False),
        ("list", "configmaps", False),
        ("create", "pods/exec", False),
        ("create", "startdsets", False),
        ("delete", "startdsets", False),
        ("get", "nodes", False),
    ],
)
def test_the_vacuum_controller_may_do_what_it_does_and_no_more(
    site: Cluster, verb: str, resource: str, *, allowed: bool
) -> None:
    who = f"--as=system:serviceaccount:{SITE}:vacuum"
    name, _, part = resource.partition("/")
    words = ["auth", "can-i", verb, name, f"--subresource={part}", who]
    said = site.kubectl(*words, "-n", SITE, check=False)
    assert ("yes" if allowed else "no") in said.splitlines()
    elsewhere = site.kubectl(*words, "-n", SYSTEM, check=False)
    assert "no" in elsewhere.splitlines()


def test_squids_answer_for_the_declared_hosts_and_no_others(site: Cluster) -> None:
    def ask(url: str) -> str:
        return in_startd(site, "curl", "--silent", "--output", "/dev/null", "--write-out", "%{http_code}", url)

    assert ask("http://origin.pool.svc.cluster.local/software.atlas-sites.example/README") == "200"
    assert ask("http://cm.pool.svc.cluster.local/") == "403"
    assert ask("http://169.254.169.254/latest/meta-data/") == "403"


def test_the_demonstration_runs_twenty_jobs_and_the_pools_history_agrees(site: Cluster) -> None:
    said = as_the_readme_says("make demo").stdout
    found = re.search(r"figure is (\S+)", said)
    assert found
    assert Path(found[1]).read_bytes().startswith(b"\x89PNG")
    attributes = "ClusterId,ProcId,ExitCode,JobStatus,LastRemoteHost,MachineAttrATLAS_SITE0"
    history = json.loads(
        site.kubectl("exec", "-n", "pool", "deployment/cm", "--", "condor_history", "-json", "-attributes", attributes)
    )
    last = max(ad["ClusterId"] for ad in history)
    jobs = [ad for ad in history if ad["ClusterId"] == last]
    assert len(jobs) == 20
    assert all(ad["ExitCode"] == 0 for ad in jobs)
    assert {ad["MachineAttrATLAS_SITE0"] for ad in jobs} == {"ATLAS-SITES-DEV"}
    assert all(f"@{SITE}-" in ad["LastRemoteHost"] or "startds-" in ad["LastRemoteHost"] for ad in jobs)


def test_with_the_queue_empty_the_site_shrinks_and_says_why(site: Cluster) -> None:
    def backs_off() -> bool:
        status = startdset(site)["status"]
        return bool(status["state"] == "BackingOff" and status["startds"]["total"] <= 1)

    def told() -> str:
        # A back-off may be over before it is told of: then there is another one soon.
        said = as_the_readme_says("make status").stdout if backs_off() else ""
        return said if "BackingOff" in said else ""

    said = site.eventually(told, "the set backs off, and `make status` says so", SITE)
    assert re.search(r"back-off\s+until \d\d:\d\d:\d\d UTC", said)
    assert "NoWork" in said
    assert len(said.splitlines()) <= 40


def test_make_report_writes_a_page_of_the_sites_month(site: Cluster) -> None:
    del site
    said = shell('eval "$(make -s env)" && make -s report STACK=dev')
    page = CHECKOUT / said.stdout.splitlines()[-1]
    try:
        text = page.read_text()
    finally:
        page.unlink()
    assert 'id="dev"' in text
    assert "Core-hours by what became of startds" in text


@pytest.fixture
def copy_of_the_checkout(tmp_path: Path) -> Path:
    """The program and its stack, to be spoilt."""
    for name in ("Pulumi.yaml", "Pulumi.dev.yaml", *(file.name for file in CHECKOUT.glob("*.py"))):
        shutil.copy(CHECKOUT / name, tmp_path)
    for name in (".venv", "components", "settings"):
        (tmp_path / name).symlink_to(CHECKOUT / name)
    return tmp_path


def test_a_wrong_key_in_the_stack_file_is_one_sentence(site: Cluster, copy_of_the_checkout: Path) -> None:
    stack = copy_of_the_checkout / "Pulumi.dev.yaml"
    stack.write_text(stack.read_text().replace("quotaMib: 512", "quotaGib: 1"))
    engine = Engine(tools.ensure(Progress(total=0), ("pulumi",)))
    done = subprocess.run(
        [engine.program, "preview", "--cwd", copy_of_the_checkout, "--stack", "dev", "--non-interactive"],
        env={**os.environ, **engine.environment(), "KUBECONFIG": str(site.kubeconfig)},
        capture_output=True,
        text=True,
        timeout=COMMAND_SECONDS,
        check=False,
    )
    said = done.stdout + done.stderr
    assert done.returncode != 0
    assert "sites[0].cvmfs.quotaGib is not a key: did you mean quotaMib" in said
    assert "Traceback" not in said

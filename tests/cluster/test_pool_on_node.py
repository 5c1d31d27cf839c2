"""The dev site's pool on the real node: who joins it, who does not, and what a payload may not do there."""

import json
from base64 import b64decode, b64encode
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from components.startds import StartdLimits, StartdsArgs, StartdSize, StartdTimes, VacuumPace, template
from local import certificates, pool
from local.authority import Authority
from local.pool import token
from local.pool.condor import ADDRESS, STARTD, TRUST_DOMAIN
from local.progress import Progress
from tests.cluster import issuer
from tests.cluster.cluster import BOUND, WAIT_SECONDS, Cluster
from tests.cluster.issuer import Issuer
from tests.cluster.proxies import proxy

pytestmark = pytest.mark.cluster

NAMESPACE = "t-pool"
# Which credential each startd has, and how it is expected to prove who it is.
METHODS = {"by-token": "IDTOKENS", "by-scitoken": "SCITOKENS", "by-proxy": "SSL"}
# All names are right, but nobody whom the pool believes has signed.
FORGED = {"forged-scitoken": "SCITOKENS", "forged-proxy": "SSL"}


def site_proxy() -> str:
    certificate = x509.load_pem_x509_certificate(certificates.certificate_file(certificates.SITE).read_bytes())
    key = serialization.load_pem_private_key(certificates.key_file(certificates.SITE).read_bytes(), password=None)
    assert isinstance(key, rsa.RSAPrivateKey)
    return proxy(certificate, key)


def forged_proxy(directory: Path) -> str:
    """All names are right, but another authority has signed."""
    now = datetime.now(UTC)
    authority = Authority.ensure("dev authority", directory / "key.pem", directory / "certificate.pem", now)
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return proxy(authority.issue(certificates.SITE, key, now), key)


def configuration(methods: str) -> str:
    """What a client in a startd's pod can write for itself: it reads every credential there is."""
    return f"""\
RELEASE_DIR = /usr
LIB = /usr/lib/condor
LIBEXEC = /usr/libexec/condor
LOCAL_DIR = $ENV(PWD)
LOG = $(LOCAL_DIR)
LOCK = $(LOCAL_DIR)
RUN = $(LOCAL_DIR)
SPOOL = $(LOCAL_DIR)
EXECUTE = $(LOCAL_DIR)
DAEMON_LIST = MASTER STARTD
COLLECTOR_HOST = {ADDRESS}
CONDOR_HOST = {ADDRESS}
TRUST_DOMAIN = {TRUST_DOMAIN}
SEC_CLIENT_AUTHENTICATION_METHODS = {methods}
SEC_TOKEN_DIRECTORY = /scratch/credentials/tokens
SCITOKENS_FILE = /scratch/credentials/tokens/token
AUTH_SSL_USE_CLIENT_PROXY_ENV_VAR = True
AUTH_SSL_CLIENT_CAFILE = /scratch/credentials/ca.pem
AUTH_SSL_USE_DEFAULT_CAS = False
DISCARD_SESSION_KEYRING_ON_STARTUP = False
"""


def startd(name: str, image: str) -> dict[str, Any]:
    """A site's startd, by itself, without repositories."""
    spec: dict[str, Any] = template(
        StartdsArgs(
            site="t-pool",
            namespace=NAMESPACE,
            image=image,
            atlas_site="T_POOL",
            collector=ADDRESS,
            trust_domain=TRUST_DOMAIN,
            credentials=name,
            cvmfs_claim="none",
            repositories=(),
            proxy="http://squid.invalid:3128",
            size=StartdSize(cores=1, requested_cores=0.1, memory_mib=512, disk_mib=1024),
            times=StartdTimes(start=WAIT_SECONDS, no_claim=36000, drain=5, lifetime=36000, keepalive=180),
            limits=StartdLimits(pods=1, cores=1, memory_mib=512),
            pace=VacuumPace(window_initial=1, window_maximum=1, backoff_base=1, backoff_cap=1, update="OnFinish"),
        )
    )["spec"]
    del spec["initContainers"]
    spec["volumes"] = [
        {"name": "cvmfs", "emptyDir": {}} if volume["name"] == "cvmfs" else volume for volume in spec["volumes"]
    ]
    # One whose first word to the pool is lost on a busy machine gives up before it says the next one.
    spec["restartPolicy"] = "OnFailure"
    metadata = {"name": name, "namespace": NAMESPACE}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def stranger(image: str) -> dict[str, Any]:
    """Daemons that offer every way to join without saying who they are."""
    script = "cd /scratch; printf '%s' \"$CONFIGURATION\" > pool.conf; exec condor_master -f -t"
    container = {
        "name": "startd",
        "image": image,
        "args": ["sh", "-c", f"mkdir /scratch/credentials; cp /ca/ca.pem /scratch/credentials; {script}"],
        "env": [
            {"name": "CONFIGURATION", "value": configuration("SSL, ANONYMOUS, CLAIMTOBE")},
            {"name": "CONDOR_CONFIG", "value": "/scratch/pool.conf"},
        ],
        "volumeMounts": [{"name": "scratch", "mountPath": "/scratch"}, {"name": "ca", "mountPath": "/ca"}],
    }
    volumes = [{"name": "scratch", "emptyDir": {}}, {"name": "ca", "secret": {"secretName": "by-proxy"}}]
    spec = {
        "automountServiceAccountToken": False,
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 1,
        "securityContext": {"runAsUser": 1000, "runAsGroup": 1000},
        "containers": [container],
        "volumes": volumes,
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "stranger", "namespace": NAMESPACE}, "spec": spec}


def secret(name: str, **texts: str) -> dict[str, Any]:
    data = {key.replace("_", "."): b64encode(text.encode()).decode() for key, text in texts.items()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": NAMESPACE}, "data": data}


def apply(site: Cluster, *items: dict[str, Any]) -> None:
    site.kubectl("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": list(items)}))


def held_token(site: Cluster) -> str:
    data = site.kubectl("-n", "pool", "get", "secret", "startd-token", "-o", "jsonpath={.data.token}")
    return b64decode(data).decode()


def in_pool(site: Cluster, *command: str, stdin: str | None = None) -> str:
    words = ["-i"] if stdin else []
    return site.kubectl("-n", "pool", "exec", *words, "deployment/cm", "--", *command, stdin=stdin)


def known(site: Cluster) -> list[dict[str, Any]]:
    """All that the collector knows, in short."""
    attributes = "Name,MyType,PodName,AuthenticatedIdentity,AuthenticationMethod"
    return list(json.loads(in_pool(site, "condor_status", "-any", "-json", "-attributes", attributes)))


@pytest.fixture(scope="module")
def image(site: Cluster) -> str:
    words = ("-n", "pool", "get", "deployment", "cm", "-o", "jsonpath={.spec.template.spec.containers[0].image}")
    return site.kubectl(*words)


@pytest.fixture(scope="module")
def joined(
    site: Cluster, image: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Mapping[str, dict[str, Any]]]:
    """The machine ads of startds that have a token, a SciToken or a proxy and nothing else; others try as well."""
    site.kubectl("create", "namespace", NAMESPACE)
    site.kubectl("-n", NAMESPACE, "wait", "--for=create", "serviceaccount/default", BOUND)
    authority = site.kubectl("-n", "pool", "get", "configmap", "pool-ca", "-o", r"jsonpath={.data.ca\.pem}")
    believed = Issuer()
    apply(site, *believed.manifests(image))
    site.kubectl("-n", "pool", "wait", "--for=condition=Ready", f"pod/{issuer.NAME}", BOUND)
    items = [
        secret("by-token", token=held_token(site), ca_pem=authority),
        secret("by-scitoken", token=believed.token(), ca_pem=authority),
        secret("by-proxy", proxy=site_proxy(), ca_pem=authority),
        secret("forged-scitoken", token=Issuer().token(), ca_pem=authority),
        secret("forged-proxy", proxy=forged_proxy(tmp_path_factory.mktemp("forged")), ca_pem=authority),
        *(startd(name, image) for name in (*METHODS, *FORGED)),
        stranger(image),
    ]
    apply(site, *items)
    try:

        def machines() -> dict[str, dict[str, Any]]:
            found = {str(ad.get("PodName")): ad for ad in known(site) if ad["MyType"] == "Machine"}
            return found if METHODS.keys() <= found.keys() else {}

        yield site.eventually(machines, "the startds join", NAMESPACE)
    finally:
        site.kubectl("-n", "pool", "delete", "pod,service,configmap,secret", "-l", f"app={issuer.NAME}", BOUND)
        site.kubectl("delete", "namespace", NAMESPACE, BOUND)


@pytest.mark.parametrize(("name", "method"), METHODS.items())
def test_a_startd_joins_with_a_token_alone_a_scitoken_alone_and_a_proxy_alone(
    joined: Mapping[str, dict[str, Any]], name: str, method: str
) -> None:
    assert joined[name]["AuthenticationMethod"] == method
    assert joined[name]["AuthenticatedIdentity"] == STARTD


def test_daemons_that_do_not_say_who_they_are_are_refused(site: Cluster, joined: Mapping[str, dict[str, Any]]) -> None:
    def refusal() -> str:
        log = site.kubectl("-n", NAMESPACE, "logs", "stranger", check=False)
        return "\n".join(line for line in log.splitlines() if "DENIED" in line)

    said = site.eventually(refusal, "the stranger is told that it is refused", NAMESPACE)
    assert "unauthenticated@unmapped" in said
    assert not [ad for ad in known(site) if "stranger" in str(ad.get("Name"))]


@pytest.mark.parametrize(("name", "method"), FORGED.items())
def test_a_scitoken_or_a_proxy_that_somebody_else_has_signed_is_refused(
    site: Cluster, joined: Mapping[str, dict[str, Any]], name: str, method: str
) -> None:
    def refusal() -> str:
        words = ("-n", NAMESPACE, "exec", name, "--", "cat", "/scratch/log/MasterLog")
        log = site.kubectl(*words, check=False)
        # One that has given up, as it does after some minutes, shows the end of that log.
        log += site.kubectl("-n", NAMESPACE, "logs", name, check=False)
        return "\n".join(line for line in log.splitlines() if f"Failed to authenticate using {method}" in line)

    site.eventually(refusal, f"the daemons of {name} are refused", NAMESPACE)
    assert name not in {ad.get("PodName") for ad in known(site)}


def payload(methods: str) -> str:
    """Tries what a payload must not, with the credentials of its startd."""
    ad = 'MyType = "Scheduler"\nName = "intruder"\nMachine = "intruder"\nScheddIpAddr = "<192.0.2.1:1>"\n'
    return "\n".join(
        (
            "#!/bin/sh",
            f"printf '%s' '{configuration(methods)}' > pool.conf",
            "export PWD CONDOR_CONFIG=$PWD/pool.conf X509_USER_PROXY=/scratch/credentials/proxy",
            "printf 'executable = /bin/true\\ntransfer_executable = false\\nqueue\\n' > job.sub",
            f"printf '%s' '{ad}' > schedd.ad",
            "echo submit: $(condor_submit -remote schedd@cm.pool.svc.cluster.local job.sub 2>&1)",
            "echo reconfig: $(condor_reconfig -daemon collector 2>&1)",
            "echo reconfig: $(condor_reconfig -all -daemon schedd 2>&1)",
            "echo advertise: $(condor_advertise -debug -tcp UPDATE_SCHEDD_AD schedd.ad 2>&1)",
            "echo status: $(condor_status -schedd -af Name)",
        )
    )


def run(site: Cluster, name: str, script: str) -> str:
    """The output of a job that the pool runs on the startd of that name."""
    description = f"""\
executable = job.sh
output = output
error = error
log = log
should_transfer_files = YES
when_to_transfer_output = ON_EXIT
request_memory = 64
request_disk = 1MB
requirements = PodName == "{name}"
queue
"""
    written = " && ".join(
        f"echo {b64encode(text.encode()).decode()} | base64 -d > {file}"
        for file, text in {"job.sh": script, "job.sub": description}.items()
    )
    submit = f"cd $(mktemp -d) && {written} && chmod +x job.sh && pwd && condor_submit -terse job.sub"
    directory, cluster = in_pool(site, "sh", "-s", stdin=submit).split("\n", 1)
    ended = ("condor_history", cluster.split(".")[0], "-af", "ExitCode")
    assert site.eventually(lambda: in_pool(site, *ended), f"a job on {name} ends", NAMESPACE).strip() == "0"
    return in_pool(site, "cat", f"{directory}/output")


@pytest.mark.parametrize(("name", "method"), METHODS.items())
def test_a_payload_may_look_but_neither_submit_nor_reconfigure_nor_advertise_a_schedd(
    site: Cluster, joined: Mapping[str, dict[str, Any]], name: str, method: str
) -> None:
    said = [line.partition(": ") for line in run(site, name, payload(method)).splitlines()]
    assert [what for what, _, _ in said] == ["submit", "reconfig", "reconfig", "advertise", "status"]
    refusal = f'Received "DENIED" from server for user {STARTD} using method {method}'
    assert [what for what, _, answer in said if refusal in answer] == ["submit", "reconfig", "reconfig", "advertise"]
    assert said[-1][2] == "schedd@cm.pool.svc.cluster.local"


def test_the_token_is_for_startds_alone_and_for_a_week_at_most(site: Cluster) -> None:
    said = token.claims(held_token(site))
    assert said["sub"] == STARTD
    assert set(said["scope"].split()) == {"condor:/ADVERTISE_STARTD", "condor:/ADVERTISE_MASTER", "condor:/READ"}
    assert said["exp"] - said["iat"] <= 7 * 24 * 3600


def test_deployed_again_nothing_changes(site: Cluster, image: str) -> None:
    def versions() -> str:
        kinds = ["deployment/cm", "service/cm", "configmap/cm", "configmap/pool-ca"]
        kinds += [f"secret/{name}" for name in ("cm-certificate", "signing-key", "startd-token")]
        return site.kubectl(
            "-n", "pool", "get", *kinds, "-o", "jsonpath={.items[*].metadata.uid}{.items[*].spec}{.items[*].data}"
        )

    before = versions()
    pool.deploy(site.kubeconfig, {"startd": image}, Progress(total=1))
    assert versions() == before

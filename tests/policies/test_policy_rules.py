"""Each rule by cases: what passes, what fails and how it is said, what it is not about, what it cannot know yet."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from pulumi_policy import ResourceValidationArgs, Secret
from pulumi_policy.secret import secrets_preserving_proxy
from rules.secrets import CREDENTIALS

from tests.clouds import schema
from tests.policies.ask import BY_NAME, UNKNOWN, Answer, about, ask, options
from tests.policies.case import Case
from tests.policies.cloud_cases import AMAZON_CLUSTER, AZURE_CLUSTER, CLOUD_CASES, GOOGLE_CLUSTER

pytestmark = pytest.mark.fast

DEPLOYMENT = "kubernetes:apps/v1:Deployment"
DAEMON_SET = "kubernetes:apps/v1:DaemonSet"
STARTD_SET = "kubernetes:vacuum.atlas-sites.io/v1alpha1:StartdSet"
CRON_JOB = "kubernetes:batch/v1:CronJob"
POD = "kubernetes:core/v1:Pod"
VOLUME = "kubernetes:core/v1:PersistentVolume"
NAMESPACE = "kubernetes:core/v1:Namespace"
SERVICE = "kubernetes:core/v1:Service"
INGRESS = "kubernetes:networking.k8s.io/v1:Ingress"
ROLE = "kubernetes:rbac.authorization.k8s.io/v1:Role"
BINDING = "kubernetes:rbac.authorization.k8s.io/v1:RoleBinding"
SECRET = "kubernetes:core/v1:Secret"
CONFIG_MAP = "kubernetes:core/v1:ConfigMap"
PROVIDER = "pulumi:providers:kubernetes"
DIGEST = f"registry.example.org/atlas/squid@sha256:{'0' * 64}"
BOUNDED = {"cpu": "1", "memory": "1Gi"}
KEY = "-----BEGIN RSA PRIVATE KEY-----\nnot one\n-----END RSA PRIVATE KEY-----"
AZURE_SECRET = f"aB3{'8'}Q~{'x' * 34}"
GOOGLE_TOKEN = f"ya29.{'x' * 40}"
AMAZON_KEY = f"AKIA{'A2' * 8}"
TOKEN = "eyJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJwb29sIn0.c2lnbmF0dXJlLW9mLW5vdGhpbmc"


def container(**changes: Any) -> dict[str, Any]:
    return {"name": "squid", "image": DIGEST, "resources": {"requests": BOUNDED, "limits": BOUNDED}, **changes}


def workload(
    *containers: dict[str, Any], component: str = "squid", namespace: str = "here", **spec: Any
) -> dict[str, Any]:
    """The properties of a Deployment or of what else has a template at the same place."""
    return {
        "metadata": {"name": component, "namespace": namespace},
        "spec": {"template": pod(*containers, component=component, **spec)},
    }


def pod(*containers: dict[str, Any], component: str = "squid", **spec: Any) -> dict[str, Any]:
    labels = {"app.kubernetes.io/name": component, "app.kubernetes.io/instance": "here"}
    return {"metadata": {"labels": labels}, "spec": {"containers": list(containers), **spec}}


def agent(*containers: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return workload(*containers, component="cvmfs", namespace="here-system", **spec)


def volume(path: str) -> dict[str, Any]:
    return {"metadata": {"name": "here-cvmfs"}, "spec": {"hostPath": {"path": path}}}


def startd(
    seconds: object = "180", *, sysctl: str | None = "180", memory: dict[str, Any] | None = None
) -> dict[str, Any]:
    told = [] if seconds is None else [{"name": "KEEPALIVE_SECONDS", "value": seconds}]
    names = () if sysctl is None else ("net.ipv4.tcp_keepalive_time", "net.ipv4.tcp_keepalive_intvl")
    kernel = [{"name": name, "value": sysctl} for name in names]
    return workload(container(name="startd", env=told), component="startd", securityContext={"sysctls": kernel})


def role(**permission: list[str]) -> dict[str, Any]:
    permissions = {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"], **permission}
    return {"metadata": {"name": "vacuum"}, "rules": [permissions]}


def binding(name: str, *subjects: str) -> dict[str, Any]:
    return {"roleRef": {"kind": "Role", "name": name}, "subjects": [{"kind": "Group", "name": who} for who in subjects]}


def namespace(name: str, level: str | None) -> dict[str, Any]:
    labels = {} if level is None else {"pod-security.kubernetes.io/enforce": level}
    return {"metadata": {"name": name, "labels": labels}}


PRIVILEGED = container(name="mounter", securityContext={"privileged": True})
OUTWARD = container(volumeMounts=[{"name": "m", "mountPath": "/cvmfs", "mountPropagation": "Bidirectional"}])
INWARD = container(volumeMounts=[{"name": "m", "mountPath": "/cvmfs", "mountPropagation": "HostToContainer"}])
NODE_VOLUME = [{"name": "mounts", "hostPath": {"path": "/var/cvmfs"}}]
PROFILE_VOLUME = [{"name": "profiles", "hostPath": {"path": "/var/lib/kubelet/seccomp/atlas-sites"}}]
ROOT_VOLUME = [{"name": "root", "hostPath": {"path": "/"}}]
CLAIM_VOLUME = [{"name": "cvmfs", "persistentVolumeClaim": {"claimName": "cvmfs"}}]


CASES = {
    **CLOUD_CASES,
    "privilege-only-for-node-agents": Case(
        passing=[
            (DEPLOYMENT, workload(container())),
            (DEPLOYMENT, workload(container(securityContext={"privileged": False, "capabilities": {"drop": ["ALL"]}}))),
            (DEPLOYMENT, workload(container(), namespace=UNKNOWN)),
            (DAEMON_SET, agent(PRIVILEGED, hostNetwork=True)),
            (STARTD_SET, startd()),
        ],
        failing=[
            (
                DEPLOYMENT,
                workload(PRIVILEGED),
                "squid of site here, which is no node agent in <site>-system, is privileged in container mounter",
            ),
            (DAEMON_SET, workload(PRIVILEGED, component="cvmfs"), "cvmfs of site here"),
            (DAEMON_SET, workload(PRIVILEGED, component="cvmfs", namespace="there-system"), "is privileged"),
            (DEPLOYMENT, workload(PRIVILEGED, namespace="here-system"), "is privileged"),
            (DEPLOYMENT, {"spec": {"template": {"spec": {"containers": [PRIVILEGED]}}}}, "A pod without a component"),
            (POD, {**pod(PRIVILEGED), "metadata": {"namespace": "here"}}, "is privileged"),
            (CRON_JOB, {"spec": {"jobTemplate": {"spec": {"template": pod(PRIVILEGED)}}}}, "is privileged"),
            (STARTD_SET, workload(container(), initContainers=[PRIVILEGED]), "is privileged in container mounter"),
            ("kubernetes:apps/v1:DeploymentPatch", workload(PRIVILEGED), "is privileged"),
            (DEPLOYMENT, workload(container(), hostPID=True), "has hostPID"),
            (DEPLOYMENT, workload(container(), securityContext={"runAsUser": 0}), "runs as root"),
            (DEPLOYMENT, workload(container(securityContext={"runAsUser": 0})), "runs as root in container squid"),
            (DEPLOYMENT, workload(container(securityContext={"allowPrivilegeEscalation": True})), "may gain privilege"),
            (DEPLOYMENT, workload(container(securityContext={"capabilities": {"add": ["SYS_ADMIN"]}})), "SYS_ADMIN"),
            (DEPLOYMENT, workload(container(ports=[{"containerPort": 1, "hostPort": 1}])), "a port of its node"),
        ],
        not_applicable=[(SERVICE, {"spec": {}}), (PROVIDER, {"kubeconfig": "x"}), ("atlas-sites:index:Site", {})],
        unknown=[
            (DAEMON_SET, {**agent(PRIVILEGED), "metadata": {"namespace": UNKNOWN}}),
            (DEPLOYMENT, workload(container(securityContext={"privileged": UNKNOWN}))),
        ],
    ),
    "mounts-reach-nodes-only-from-node-agents": Case(
        passing=[(DAEMON_SET, agent(OUTWARD)), (STARTD_SET, workload(INWARD)), (DEPLOYMENT, workload(container()))],
        failing=[(STARTD_SET, workload(OUTWARD), "hands mounts at /cvmfs to its node")],
        not_applicable=[(SERVICE, {"spec": {}})],
        unknown=[(DAEMON_SET, {**agent(OUTWARD), "metadata": {"namespace": UNKNOWN}})],
    ),
    "node-paths-only-for-node-agents": Case(
        passing=[
            (DAEMON_SET, agent(container(), volumes=NODE_VOLUME)),
            (
                DAEMON_SET,
                workload(container(), component="seccomp", namespace="here-system", volumes=PROFILE_VOLUME),
            ),
            (STARTD_SET, workload(container(), volumes=CLAIM_VOLUME)),
            (DEPLOYMENT, workload(container(), namespace=UNKNOWN)),
            (VOLUME, volume("/var/cvmfs")),
            (VOLUME, volume("/cvmfs")),
            (VOLUME, {"spec": {"csi": {"driver": "cvmfs.csi.cern.ch"}}}),
        ],
        failing=[
            (
                STARTD_SET,
                workload(container(), volumes=NODE_VOLUME),
                "squid of site here mounts /var/cvmfs of its node",
            ),
            (DAEMON_SET, agent(container(), volumes=ROOT_VOLUME), "cvmfs of site here mounts / of its node"),
            (DAEMON_SET, agent(container(), volumes=PROFILE_VOLUME), "cvmfs of site here mounts /var/lib/kubelet"),
            (VOLUME, volume("/etc"), "the path /etc of each node"),
            (VOLUME, {"spec": {"local": {"path": "/mnt"}}}, "the path /mnt"),
        ],
        not_applicable=[(SERVICE, {"spec": {}}), ("kubernetes:core/v1:PersistentVolumeClaim", {"spec": {}})],
        unknown=[
            (DAEMON_SET, {**agent(container(), volumes=NODE_VOLUME), "metadata": {"namespace": UNKNOWN}}),
            (VOLUME, volume(UNKNOWN)),
        ],
    ),
    "namespaces-enforce-pod-security": Case(
        passing=[
            (NAMESPACE, namespace("here", "baseline")),
            (NAMESPACE, namespace(UNKNOWN, "restricted")),
            (NAMESPACE, namespace("here-system", "privileged")),
        ],
        failing=[
            (NAMESPACE, namespace("here", "privileged"), "Namespace here enforces privileged"),
            (NAMESPACE, namespace("here", None), "Namespace here enforces no level"),
            (NAMESPACE, {}, "Namespace without a name"),
        ],
        not_applicable=[(POD, pod(container()))],
        unknown=[(NAMESPACE, namespace(UNKNOWN, "privileged")), (NAMESPACE, namespace("here", UNKNOWN))],
    ),
    "no-public-squid": Case(
        passing=[(SERVICE, {"spec": {"type": "ClusterIP"}}), (SERVICE, {"spec": {"ports": [{"port": 3128}]}})],
        failing=[
            (SERVICE, {"spec": {"type": "LoadBalancer"}}, "type LoadBalancer"),
            (SERVICE, {"spec": {"type": "NodePort"}}, "type NodePort"),
            (SERVICE, {"spec": {"externalIPs": ["192.0.2.1"]}}, "192.0.2.1"),
            (INGRESS, {"spec": {}}, "Ingress thing opens"),
            ("kubernetes:gateway.networking.k8s.io/v1:HTTPRoute", {"spec": {}}, "HTTPRoute"),
        ],
        not_applicable=[(DEPLOYMENT, workload(container()))],
        unknown=[(SERVICE, {"spec": {"type": UNKNOWN}})],
    ),
    "rbac-without-wildcards": Case(
        passing=[
            (ROLE, role()),
            (ROLE, {"metadata": {"name": "nothing"}}),
            (BINDING, binding("vacuum")),
            ("kubernetes:rbac.authorization.k8s.io/v1:ClusterRole", role(verbs=["create"])),
        ],
        failing=[
            (ROLE, role(verbs=["*"]), "a wildcard in verbs"),
            (ROLE, role(resources=["pods", "*/scale"]), "a wildcard in resources"),
            (ROLE, role(apiGroups=["*"]), "a wildcard in apiGroups"),
            (ROLE, role(nonResourceURLs=["/metrics/*"]), "a wildcard in nonResourceURLs"),
            (ROLE, role(verbs=["escalate"]), "allows to escalate"),
            (ROLE, {"aggregationRule": {"clusterRoleSelectors": [{}]}}, "permissions of other roles"),
            (BINDING, binding("cluster-admin"), "the role cluster-admin"),
            (BINDING, binding("vacuum", "system:serviceaccounts:here"), "who are many"),
        ],
        not_applicable=[(SERVICE, {"spec": {}})],
        unknown=[(ROLE, role(verbs=[UNKNOWN])), (BINDING, binding(UNKNOWN))],
    ),
    "secrets-are-read-by-name": Case(
        passing=[
            (ROLE, role()),
            (ROLE, role(resources=["secrets"], verbs=["get", "patch"], resourceNames=["proxy"])),
            (ROLE, role(resources=["secrets"], verbs=["create"])),
        ],
        failing=[(ROLE, role(resources=["pods", "secrets"], verbs=["get", "list"]), "to get, list every Secret")],
        not_applicable=[(BINDING, binding("vacuum"))],
        unknown=[(ROLE, role(resources=[UNKNOWN]))],
    ),
    "limits-and-requests-set": Case(
        passing=[
            (DEPLOYMENT, workload(container())),
            (
                DEPLOYMENT,
                workload(container(resources={"requests": BOUNDED, "limits": {"cpu": UNKNOWN, "memory": "1"}})),
            ),
            (
                STARTD_SET,
                workload(container(resources={"requests": BOUNDED, "limits": {**BOUNDED, "ephemeral-storage": "1Gi"}})),
            ),
        ],
        failing=[
            (
                DAEMON_SET,
                workload(container(resources={"requests": BOUNDED})),
                "squid of thing has no limits of cpu and memory",
            ),
            (
                DEPLOYMENT,
                workload(container(resources={"limits": BOUNDED, "requests": {"cpu": "1"}})),
                "no requests of memory",
            ),
            (
                DEPLOYMENT,
                workload(container(), initContainers=[container(name="first", resources={})]),
                "Container first",
            ),
            (DEPLOYMENT, workload({"name": "bare", "image": DIGEST}), "Container bare"),
            (STARTD_SET, workload(container()), "no limits of ephemeral-storage"),
        ],
        not_applicable=[(SERVICE, {"spec": {}})],
        unknown=[(DEPLOYMENT, workload(container(resources=UNKNOWN)))],
    ),
    "scratch-is-bounded": Case(
        passing=[
            (DEPLOYMENT, workload(container(), volumes=[{"name": "cache", "emptyDir": {"sizeLimit": "1Gi"}}])),
            (DEPLOYMENT, workload(container(), volumes=CLAIM_VOLUME)),
        ],
        failing=[
            (DEPLOYMENT, workload(container(), volumes=[{"name": "cache", "emptyDir": {}}]), "Volume cache of thing")
        ],
        not_applicable=[(SERVICE, {"spec": {}})],
        unknown=[(DEPLOYMENT, workload(container(), volumes=[{"name": "cache", "emptyDir": {"sizeLimit": UNKNOWN}}]))],
    ),
    "secrets-are-secret": Case(
        passing=[
            (
                DEPLOYMENT,
                workload(container(env=[{"name": "SECRET", "value": "proxy"}, {"name": "POD", "valueFrom": {}}])),
            ),
            (CONFIG_MAP, {"data": {"ca.pem": "-----BEGIN CERTIFICATE-----\n", "squid.conf": "http_port 3128"}}),
            (CONFIG_MAP, {}),
            # What looks a little like a cloud's key: a digest, a name, a word.
            (CONFIG_MAP, {"data": {"a": "0" * 64, "b": "AKIA", "c": "ya29.", "d": "Q~"}}),
        ],
        failing=[
            (CONFIG_MAP, {"data": {"hostkey": KEY}}, "holds a private key in clear: key hostkey"),
            (CONFIG_MAP, {"metadata": {"annotations": {"note": TOKEN}}}, "a token in clear: annotation note"),
            (DEPLOYMENT, workload(container(env=[{"name": "T", "value": TOKEN}])), "variable T of container squid"),
            (STARTD_SET, workload(container(args=["--token", TOKEN])), "args of container squid"),
            (POD, pod(container(command=["sh", "-c", f"echo {TOKEN}"])), "command of container squid"),
            (CONFIG_MAP, {"data": {"a": AZURE_SECRET}}, "holds a client secret of Azure in clear: key a"),
            (CONFIG_MAP, {"data": {"g": GOOGLE_TOKEN}}, "holds an access token of Google in clear: key g"),
            (
                DEPLOYMENT,
                workload(container(env=[{"name": "K", "value": AMAZON_KEY}])),
                "an access key of AWS in clear",
            ),
        ],
        not_applicable=[
            (SECRET, {"data": {"hostkey": KEY}}),
            (PROVIDER, {"kubeconfig": KEY}),
            ("pulumi:providers:azure-native", {"clientSecret": AZURE_SECRET}),
            (SERVICE, {"spec": {}}),
        ],
        unknown=[(CONFIG_MAP, {"data": {"hostkey": UNKNOWN}})],
    ),
    "keepalive-below-idle-timeout": Case(
        passing=[(STARTD_SET, startd()), (STARTD_SET, startd("200", sysctl="30"))],
        failing=[
            (
                STARTD_SET,
                startd("201"),
                "thing sets KEEPALIVE_SECONDS to 201; the idle time-out of 240 s allows at most 200",
            ),
            (STARTD_SET, startd("0"), "KEEPALIVE_SECONDS to 0"),
            (STARTD_SET, startd("3m"), "KEEPALIVE_SECONDS to 3m"),
            (STARTD_SET, startd(None), "does not set KEEPALIVE_SECONDS"),
            (STARTD_SET, startd(sysctl="7200"), "net.ipv4.tcp_keepalive_time to 7200"),
            (STARTD_SET, startd(sysctl="7200"), "net.ipv4.tcp_keepalive_intvl to 7200"),
            (STARTD_SET, startd(sysctl=None), "does not set net.ipv4.tcp_keepalive_time"),
            (STARTD_SET, workload(), "does not set KEEPALIVE_SECONDS"),
        ],
        not_applicable=[(DEPLOYMENT, workload(container()))],
        unknown=[(STARTD_SET, startd(UNKNOWN))],
    ),
    "images-by-digest": Case(
        passing=[(DEPLOYMENT, workload(container()))],
        failing=[
            (
                DEPLOYMENT,
                workload(container(image="squid:latest")),
                "Container squid of thing has the image squid:latest",
            ),
            (STARTD_SET, workload(container(image="localhost/startd")), "localhost/startd"),
            (DEPLOYMENT, workload(container(image=f"squid@sha256:{'0' * 63}")), "has the image"),
            (DEPLOYMENT, workload(container(), initContainers=[container(name="first", image="bash:5")]), "bash:5"),
        ],
        not_applicable=[(SERVICE, {"spec": {}})],
        unknown=[(DEPLOYMENT, workload(container(image=UNKNOWN)))],
    ),
}


def test_every_rule_of_the_pack_has_cases_of_all_four_sorts() -> None:
    assert set(CASES) == set(BY_NAME)
    for name, case in CASES.items():
        # Whether a resource is protected is an option, which is known, and not a property.
        known = name == "protected-clusters"
        assert all((case.passing or known, case.failing, case.not_applicable, case.unknown or known))


@pytest.mark.parametrize("token", [AZURE_CLUSTER, GOOGLE_CLUSTER, AMAZON_CLUSTER])
def test_a_protected_cluster_passes(token: str) -> None:
    assert ask(BY_NAME["protected-clusters"], about(token, {}, protect=True)) == Answer()


@pytest.mark.parametrize("name", ["allowed-regions", "allowed-sizes", "monthly-cost-ceiling"])
def test_what_nobody_limits_is_allowed(name: str) -> None:
    for token, props, _ in CASES[name].failing:
        assert ask(BY_NAME[name], about(token, props)) == Answer()


@pytest.mark.parametrize(("name", "given"), [(name, given) for name, case in CASES.items() for given in case.passing])
def test_what_is_right_passes(name: str, given: tuple[str, Mapping[str, Any]]) -> None:
    assert ask(BY_NAME[name], about(*given, config=CASES[name].config)) == Answer()


@pytest.mark.parametrize(("name", "given"), [(name, given) for name, case in CASES.items() for given in case.failing])
def test_what_is_wrong_is_said_with_its_remedy(name: str, given: tuple[str, Mapping[str, Any], str]) -> None:
    token, props, words = given
    answer = ask(BY_NAME[name], about(token, props, config=CASES[name].config))
    assert not answer.unknown
    assert any(words in sentence for sentence in answer.violations)
    assert all(sentence.endswith(str(BY_NAME[name].remediation_steps)) for sentence in answer.violations)


@pytest.mark.parametrize(
    ("name", "given"), [(name, given) for name, case in CASES.items() for given in case.not_applicable]
)
def test_what_a_rule_is_not_about_it_leaves_alone(name: str, given: tuple[str, Mapping[str, Any]]) -> None:
    assert ask(BY_NAME[name], about(*given)) == Answer(not_applicable=True)


@pytest.mark.parametrize(("name", "given"), [(name, given) for name, case in CASES.items() for given in case.unknown])
def test_what_a_preview_cannot_know_is_neither_right_nor_wrong(name: str, given: tuple[str, Mapping[str, Any]]) -> None:
    assert ask(BY_NAME[name], about(*given, config=CASES[name].config)) == Answer(unknown=True)


def test_the_dev_stack_may_run_images_that_were_built_here() -> None:
    local = workload(container(image="localhost/squid:dev"))
    assert ask(BY_NAME["images-by-digest"], about(DEPLOYMENT, local, stack="dev")) == Answer(not_applicable=True)


@pytest.mark.parametrize(("idle", "good"), [(217.0, True), (216.0, True), (215.0, False)])
def test_the_idle_time_out_of_another_network_can_be_told(idle: float, *, good: bool) -> None:
    args = about(STARTD_SET, startd(), config={"idleTimeoutSeconds": idle})
    assert (ask(BY_NAME["keepalive-below-idle-timeout"], args) == Answer()) is good


def remediated(token: str, props: dict[str, Any]) -> Mapping[str, Any]:
    args = ResourceValidationArgs(
        resource_type=token, props=secrets_preserving_proxy(props), urn="", name="thing", opts=options(), provider=None
    )
    change = BY_NAME["secrets-are-secret"].remediate(args)
    assert change is not None

    async def awaited() -> Mapping[str, Any]:
        return await change

    return asyncio.run(awaited())


def test_a_kubeconfig_in_clear_is_made_secret() -> None:
    changed = remediated(PROVIDER, {"kubeconfig": "text", "clusterIdentifier": "here"})
    assert changed["clusterIdentifier"] == "here"
    assert isinstance(changed["kubeconfig"], Secret)
    assert changed["kubeconfig"].value == "text"


@pytest.mark.parametrize(
    ("cloud", "key"), [(cloud, key) for cloud, keys in CREDENTIALS.items() for key in keys if cloud != PROVIDER]
)
def test_the_credentials_of_a_cloud_in_clear_are_made_secret(cloud: str, key: str) -> None:
    assert key in schema.configuration(cloud.rsplit(":", 1)[1]).inputs, "the SDK knows it by that name"
    changed = remediated(cloud, {key: "text", "region": "somewhere"})
    assert isinstance(changed[key], Secret)
    assert changed["region"] == "somewhere"
    assert remediated(cloud, {key: Secret("text")}) == {}
    assert remediated(cloud, {key: Secret(UNKNOWN)}) == {}


def test_the_data_of_a_secret_in_clear_is_made_secret() -> None:
    changed = remediated(SECRET, {"stringData": {"token": "text"}, "data": Secret({"hostkey": "text"})})
    assert isinstance(changed["stringData"], Secret)


@pytest.mark.parametrize(
    ("token", "props"),
    [
        (PROVIDER, {"kubeconfig": Secret("text")}),
        (PROVIDER, {"clusterIdentifier": "here"}),
        (SECRET, {"data": {"hostkey": Secret("text")}}),
        (SECRET, {"data": {}}),
        (SECRET, {"metadata": {"name": "proxy"}}),
    ],
)
def test_what_is_secret_already_is_not_touched(token: str, props: dict[str, Any]) -> None:
    assert remediated(token, props) == {}

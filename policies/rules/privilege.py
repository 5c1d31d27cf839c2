"""Privilege over nodes: only agents of the node have it, each only what it needs, in a namespace of their own."""

from collections.abc import Iterator, Mapping
from typing import Any

from pulumi_policy import ResourceValidationArgs, Severity

from rules import pods
from rules.pods import Pod, pod_of
from rules.rule import at, items, kind, rule

ENFORCE = "pod-security.kubernetes.io/enforce"
SYSTEM_SUFFIX = "-system"
# The components that work on nodes, and the paths of a node that each may mount.
NODE_AGENTS: Mapping[str, frozenset[str]] = {
    "cvmfs": frozenset({"/var/cvmfs", "/var/cvmfs-cache", "/dev/fuse"}),
    "node-monitor": frozenset({"/dev/kmsg", "/var/cvmfs", "/cvmfs"}),
    "seccomp": frozenset({"/var/lib/kubelet/seccomp/atlas-sites"}),
}
# What a claim may stand for: the repositories, where the agent mounts them or a node's own client does.
SHARED_PATHS = frozenset({"/var/cvmfs", "/cvmfs"})
VOLUME = "PersistentVolume"


def _is_node_agent(pod: Pod) -> bool:
    return pod.component in NODE_AGENTS and pod.namespace == f"{pod.site}{SYSTEM_SUFFIX}"


def _who(pod: Pod) -> str:
    return f"{pod.component or 'A pod without a component'} of site {pod.site or 'unknown'}"


def _only_by_agents(signs: Iterator[str], pod: Pod) -> Iterator[str]:
    """The signs, unless the pod may show them; where it runs matters only then."""
    found = list(signs)
    if found and not _is_node_agent(pod):
        yield from (f"{_who(pod)}, which is no node agent in <site>{SYSTEM_SUFFIX}, {sign}" for sign in found)


def _privileges(pod: Pod) -> Iterator[str]:
    for key in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.spec.get(key):
            yield f"has {key}"
    if at(pod.spec, "securityContext").get("runAsUser") == 0:
        yield "runs as root"
    for container in pod.containers():
        context = at(container, "securityContext")
        where = f"in container {container['name']}"
        if context.get("privileged"):
            yield f"is privileged {where}"
        if context.get("allowPrivilegeEscalation"):
            yield f"may gain privilege {where}"
        if context.get("runAsUser") == 0:
            yield f"runs as root {where}"
        if added := list(items(at(context, "capabilities"), "add")):
            yield f"adds capabilities {where}: {', '.join(added)}"
        if any(port.get("hostPort") for port in items(container, "ports")):
            yield f"takes a port of its node {where}"


def _check_privilege(args: ResourceValidationArgs) -> Iterator[str]:
    pod = pod_of(args)
    return _only_by_agents(_privileges(pod), pod)


def _outward_mounts(pod: Pod) -> Iterator[str]:
    for container in pod.containers():
        for mount in items(container, "volumeMounts"):
            if mount.get("mountPropagation") == "Bidirectional":
                yield f"hands mounts at {mount['mountPath']} to its node"


def _check_propagation(args: ResourceValidationArgs) -> Iterator[str]:
    pod = pod_of(args)
    return _only_by_agents(_outward_mounts(pod), pod)


def _paths(spec: Mapping[str, Any]) -> Iterator[str]:
    """The paths of a node that a volume gives to who mounts it."""
    for source in ("hostPath", "local"):
        if source in spec:
            yield spec[source]["path"]


def _check_host_paths(args: ResourceValidationArgs) -> Iterator[str]:
    if kind(args) == VOLUME:
        for path in _paths(at(args.props, "spec")):
            if path not in SHARED_PATHS:
                yield f"A volume for claims is the path {path} of each node"
        return
    pod = pod_of(args)
    paths = [path for volume in items(pod.spec, "volumes") for path in _paths(volume)]
    if not paths:
        return
    agent = _is_node_agent(pod)
    for path in paths:
        if not agent or path not in NODE_AGENTS[str(pod.component)]:
            yield f"{_who(pod)} mounts {path} of its node"


def _check_namespace(args: ResourceValidationArgs) -> Iterator[str]:
    level = at(args.props, "metadata", "labels").get(ENFORCE)
    if level in ("baseline", "restricted"):
        return
    name = at(args.props, "metadata").get("name", "")
    if not name.endswith(SYSTEM_SUFFIX):
        yield f"Namespace {name or 'without a name'} enforces {level or 'no level'}"


RULES = (
    rule(
        name="privilege-only-for-node-agents",
        description=(
            "Only node agents in the system namespace of their site are privileged, run as root, "
            "add capabilities or share the namespaces and ports of their node."
        ),
        severity=Severity.CRITICAL,
        remedy="Take the privilege away, or make the component a node agent (rules/privilege.py, NODE_AGENTS).",
        kinds=pods.KINDS,
        check=_check_privilege,
    ),
    rule(
        name="mounts-reach-nodes-only-from-node-agents",
        description="Only node agents mount with propagation Bidirectional.",
        severity=Severity.CRITICAL,
        remedy="Mount with HostToContainer, which shows what others mount.",
        kinds=pods.KINDS,
        check=_check_propagation,
    ),
    rule(
        name="node-paths-only-for-node-agents",
        description="Nothing of a node is mounted but what each node agent needs, and repositories, by a claim.",
        severity=Severity.CRITICAL,
        remedy="Use an emptyDir, or the claim cvmfs for software.",
        kinds=pods.KINDS | {VOLUME},
        check=_check_host_paths,
    ),
    rule(
        name="namespaces-enforce-pod-security",
        description="Every namespace but the system one of a site enforces pod security level baseline or restricted.",
        severity=Severity.HIGH,
        remedy=f"Set the label {ENFORCE}: baseline.",
        kinds={"Namespace"},
        check=_check_namespace,
    ),
)

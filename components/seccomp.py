"""The seccomp profile with which payloads may start containers of their own, brought to every node.

A pilot starts its payload with Apptainer, which makes a user namespace and mounts in it. The runtime's default profile
forbids that to whoever has no capabilities, as a startd. Ours is that default and nothing but the calls which a user
namespace takes; what the kernel itself asks privilege for outside of one, it still does.

The kubelet reads profiles from a directory of the node, so an agent in the system namespace writes it there. The file's
name holds a digest of what is in it: startds of an old template and of a new one find each its own.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pulumi
from pulumi_kubernetes.core import v1 as core

from components import agent, naming, pods

NAME = "seccomp"
# The kubelet looks for profiles below its own directory, /var/lib/kubelet wherever we make nodes.
PROFILES = "/var/lib/kubelet/seccomp"
DIRECTORY = "atlas-sites"
# default.json of the Go module github.com/moby/profiles/seccomp v0.3.0 (Apache-2.0), as it is: Docker's default, which
# containerd's and CRI-O's follow.
SOURCE = Path(__file__).with_name("seccomp_default.json")
ALLOW = "SCMP_ACT_ALLOW"
# Of the nodes that sites have; the names are moby's, and those of libseccomp.
ARCHITECTURES = frozenset({"amd64", "x86", "x32", "arm64", "arm"})
FAMILIES = frozenset({"SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64"})
# What Apptainer, and any other runtime without privilege, calls to make a container: namespaces, mounts in them by the
# old calls and by the new ones, the change of root, and a host name.
FREED = frozenset({
    "clone", "clone3", "setns", "unshare",
    "fsconfig", "fsmount", "fsopen", "fspick", "mount", "mount_setattr", "move_mount", "open_tree", "umount", "umount2",
    "chroot", "pivot_root",
    "setdomainname", "sethostname",
})  # fmt: skip
# In one step: a kubelet that reads a file half written refuses the pod. Again and again: who cleans the directory up
# would stop every new startd on the node.
WRITE = """\
set -eu
while :; do
  if [ "$(cat "$FILE" 2>/dev/null || :)" != "$PROFILE" ]; then
    printf '%s' "$PROFILE" > "$FILE.new"
    sync "$FILE.new"
    mv "$FILE.new" "$FILE"
    echo "wrote $FILE"
  fi
  sleep 30
done
"""
WRITTEN = '[ "$(cat "$FILE")" = "$PROFILE" ]'


@dataclass(frozen=True, kw_only=True)
class SeccompArgs:
    """Where the profile is brought from.

    Attributes:
        site: the site's name.
        system: the privileged namespace.
        image: of the services; any with a shell would do.
    """

    site: str
    system: pulumi.Input[str]
    image: str


class Seccomp(pulumi.ComponentResource):
    """An agent on every node that puts the profile where the kubelet looks for it.

    Attributes:
        profile: its name for a pod's `localhostProfile`.
    """

    profile: str

    def __init__(self, name: str, args: SeccompArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("atlas-sites:index:Seccomp", name, None, opts)
        own = pulumi.ResourceOptions(parent=self)
        self.profile = profile_name()
        described = agent.AgentArgs(
            site=args.site,
            namespace=args.system,
            name=NAME,
            container=_writer(args),
            volumes=[agent.of_node("profiles", f"{PROFILES}/{DIRECTORY}")],
        )
        agent.daemon_set(f"{name}-writer", described, agent.account(f"{name}-account", described, own), [], own)
        self.register_outputs({"profile": self.profile})


def profile() -> dict[str, Any]:
    """The profile, as the runtime reads it."""
    source = json.loads(SOURCE.read_text())
    rules = [_rule(rule, names) for rule in source["syscalls"] if _applies(rule) and (names := _others(rule))]
    return {
        "defaultAction": source["defaultAction"],
        "defaultErrnoRet": source["defaultErrnoRet"],
        "architectures": [
            each
            for family in source["archMap"]
            if family["architecture"] in FAMILIES
            for each in (family["architecture"], *family["subArchitectures"])
        ],
        "syscalls": [*rules, {"names": sorted(FREED), "action": ALLOW}],
    }


def profile_text() -> str:
    """What is in the file."""
    return json.dumps(profile(), separators=(",", ":"))


def profile_name() -> str:
    """Where it is, below the kubelet's directory of profiles."""
    return f"{DIRECTORY}/user-namespaces-{naming.checksum(profile_text())}.json"


def _applies(rule: Mapping[str, Any]) -> bool:
    """Whether a rule is for a container without capabilities on one of our architectures, and a kernel of today."""
    includes, excludes = rule.get("includes", {}), rule.get("excludes", {})
    if includes.get("caps"):
        return False
    if includes.get("arches") and ARCHITECTURES.isdisjoint(includes["arches"]):
        return False
    return ARCHITECTURES.isdisjoint(excludes.get("arches", ()))


def _others(rule: Mapping[str, Any]) -> list[str]:
    """The calls of a rule that are not freed altogether."""
    return [name for name in rule["names"] if name not in FREED]


def _rule(rule: Mapping[str, Any], names: list[str]) -> dict[str, Any]:
    return {
        "names": names,
        "action": rule["action"],
        **({"args": rule["args"]} if rule.get("args") else {}),
        **({"errnoRet": rule["errnoRet"]} if "errnoRet" in rule else {}),
    }


def _writer(args: SeccompArgs) -> core.ContainerArgs:
    return core.ContainerArgs(
        name=NAME,
        image=args.image,
        args=["sh", "-c", WRITE],
        env=[
            core.EnvVarArgs(name="FILE", value=f"/profiles/{profile_name().removeprefix(f'{DIRECTORY}/')}"),
            core.EnvVarArgs(name="PROFILE", value=profile_text()),
        ],
        # The directory is root's, so the writer is too; it has no capability, and sees no other path of the node.
        security_context=core.SecurityContextArgs(
            run_as_user=0,
            run_as_group=0,
            allow_privilege_escalation=False,
            read_only_root_filesystem=True,
            capabilities=core.CapabilitiesArgs(drop=["ALL"]),
            seccomp_profile=core.SeccompProfileArgs(type="RuntimeDefault"),
        ),
        resources=pods.resources(cores="5m", most_cores="100m", memory="16Mi"),
        volume_mounts=[core.VolumeMountArgs(name="profiles", mount_path="/profiles")],
        startup_probe=_written(period=1, failures=60),
        readiness_probe=_written(period=60, failures=1),
    )


def _written(*, period: int, failures: int) -> core.ProbeArgs:
    return core.ProbeArgs(
        exec_=core.ExecActionArgs(command=["sh", "-c", WRITTEN]),
        period_seconds=period,
        timeout_seconds=10,
        failure_threshold=failures,
    )

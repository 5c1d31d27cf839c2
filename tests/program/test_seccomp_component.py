"""The seccomp profile: the runtime's default and what user namespaces take, brought by an agent that can do no more."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from components import seccomp
from components.seccomp import Seccomp, SeccompArgs
from tests.program import tree
from tests.program.monitor import Monitor, deploy

pytestmark = pytest.mark.fast


def declared() -> Monitor:
    image = f"registry.example.org/atlas/services@sha256:{'0' * 64}"
    return deploy(lambda: Seccomp("here-seccomp", SeccompArgs(site="here", system="here-system", image=image)))


def allowed() -> set[str]:
    """Whatever is allowed without a condition."""
    rules = seccomp.profile()["syscalls"]
    return {name for rule in rules if rule["action"] == seccomp.ALLOW and "args" not in rule for name in rule["names"]}


def default() -> list[dict[str, Any]]:
    rules: list[dict[str, Any]] = json.loads(seccomp.SOURCE.read_text())["syscalls"]
    return rules


def test_it_allows_what_the_default_does_and_what_user_namespaces_take_and_nothing_else() -> None:
    plain = {name for rule in default() if not {"args", "includes", "excludes"} & set(rule) for name in rule["names"]}
    ours = {name for rule in default() if rule.get("includes", {}).get("minKernel") for name in rule["names"]}
    for_architectures = {"arch_prctl", "modify_ldt", "arm_fadvise64_64", "arm_sync_file_range", "sync_file_range2",
                         "breakpoint", "cacheflush", "set_tls"}  # fmt: skip
    assert allowed() == plain | ours | for_architectures | seccomp.FREED


def test_what_takes_privilege_in_the_whole_machine_stays_forbidden() -> None:
    assert allowed().isdisjoint(
        {"bpf", "perf_event_open", "reboot", "init_module", "kexec_load", "keyctl", "add_key", "open_by_handle_at",
         "quotactl", "swapon", "syslog", "settimeofday", "userfaultfd", "io_uring_setup", "personality", "socket"}
    )  # fmt: skip


def test_conditions_on_arguments_are_the_defaults_own() -> None:
    conditional = [rule for rule in seccomp.profile()["syscalls"] if "args" in rule]
    theirs = [
        {key: rule[key] for key in ("names", "action", "args")}
        for rule in default()
        if rule.get("args") and not {"includes", "excludes"} & set(rule)
    ]
    assert conditional == theirs
    assert {name for rule in conditional for name in rule["names"]} == {"socket", "personality"}


def test_it_holds_nothing_that_only_one_runtime_understands() -> None:
    profile = seccomp.profile()
    assert set(profile) == {"defaultAction", "defaultErrnoRet", "architectures", "syscalls"}
    assert profile["defaultAction"] == "SCMP_ACT_ERRNO"
    assert {"SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64"} <= set(profile["architectures"])
    assert {key for rule in profile["syscalls"] for key in rule} <= {"names", "action", "args", "errnoRet"}


def test_a_profile_that_changes_gets_another_name(monkeypatch: pytest.MonkeyPatch) -> None:
    before = seccomp.profile_name()
    monkeypatch.setattr(seccomp, "FREED", seccomp.FREED - {"chroot"})
    assert seccomp.profile_name() != before


def test_every_part_hangs_on_the_component_and_keeps_to_the_policies() -> None:
    tree.check(declared())


def test_the_agent_is_on_every_node_and_has_one_directory_and_no_capability() -> None:
    pod = declared().one("kubernetes:apps/v1:DaemonSet").inputs["spec"]["template"]["spec"]
    assert pod["tolerations"] == [{"operator": "Exists"}]
    assert pod["automountServiceAccountToken"] is False
    assert [volume["hostPath"]["path"] for volume in pod["volumes"]] == ["/var/lib/kubelet/seccomp/atlas-sites"]
    [container] = pod["containers"]
    context = container["securityContext"]
    assert context["capabilities"] == {"drop": ["ALL"]}
    assert (context["allowPrivilegeEscalation"], context["readOnlyRootFilesystem"]) == (False, True)
    assert "privileged" not in context


def test_what_the_agent_writes_is_what_startds_name() -> None:
    monitor = declared()
    pod = monitor.one("kubernetes:apps/v1:DaemonSet").inputs["spec"]["template"]["spec"]
    told = {variable["name"]: variable["value"] for variable in pod["containers"][0]["env"]}
    component = monitor.one("atlas-sites:index:Seccomp")
    assert component.outputs == {"profile": seccomp.profile_name()}
    assert told["FILE"] == f"/profiles/{seccomp.profile_name().removeprefix('atlas-sites/')}"
    assert json.loads(told["PROFILE"]) == seccomp.profile()


def write(file: Path, profile: str) -> None:
    """One turn of the agent's loop, which ends with its sleep."""
    stop = file.parent / "bin" / "sleep"
    stop.parent.mkdir(exist_ok=True)
    stop.write_text("#!/bin/sh\nexit 9\n")
    stop.chmod(0o700)
    told = {"PATH": f"{stop.parent}:{os.environ['PATH']}", "FILE": str(file), "PROFILE": profile}
    done = subprocess.run(["sh", "-c", seccomp.WRITE], env=told, check=False, timeout=60)
    assert done.returncode == 9


def is_written(file: Path, profile: str) -> bool:
    """What the probes of the agent say."""
    told = {**os.environ, "FILE": str(file), "PROFILE": profile}
    return subprocess.run(["sh", "-c", seccomp.WRITTEN], env=told, check=False, timeout=60).returncode == 0


def test_the_agent_puts_a_whole_profile_in_place_and_leaves_one_that_is_there(tmp_path: Path) -> None:
    file, text = tmp_path / "profile.json", seccomp.profile_text()
    assert not is_written(file, text)
    write(file, text)
    first = file.stat()
    assert file.read_text() == text
    assert is_written(file, text)
    assert [each.name for each in tmp_path.iterdir() if each.is_file()] == ["profile.json"]
    write(file, text)
    assert file.stat().st_ino == first.st_ino


@pytest.mark.parametrize("left", ["", "{}"])
def test_the_agent_mends_a_profile_that_is_gone_or_spoilt(tmp_path: Path, left: str) -> None:
    file = tmp_path / "profile.json"
    if left:
        file.write_text(left)
    assert not is_written(file, seccomp.profile_text())
    write(file, seccomp.profile_text())
    assert is_written(file, seccomp.profile_text())

"""Lines of real kernels, and what they make of a node."""

import json
import re
from pathlib import Path

import pytest

from services.nodehealth import kmsg
from services.nodehealth.model import KERNEL_HUNG, KERNEL_MEMORY, LOCAL_DISK, OURS
from services.nodehealth.rules import DIRECTORY, Line, duration, judge, read, remember

pytestmark = pytest.mark.fast

RULES = read()
NOW, QUIET = 1_000_000.0, 1800.0
FOREVER = 10**9

# The first is of the talk; the others as kernels from 3.10 to 6.18 print them.
SLUB = "SLUB: Unable to allocate memory on node -1 (gfp=0x20)"
LINES = {
    SLUB: "SlubAllocationFailure",
    "SLUB: Unable to allocate memory on node -1, gfp=0x6000c0(GFP_KERNEL)": "SlubAllocationFailure",
    "SLUB: Unable to allocate memory on node -1": "SlubAllocationFailure",
    "SLUB: Unable to allocate memory on CPU 3 (of node 0) on node -1, gfp=0x820(GFP_ATOMIC)": "SlubAllocationFailure",
    "swapper/0: page allocation failure: order:0, mode:0x20(GFP_ATOMIC), nodemask=(null)": "PageAllocationFailure",
    "kworker/u8:2: page allocation failure: order:1, mode:0x204020": "PageAllocationFailure",
    "Memory cgroup out of memory: Killed process 31423 (python3) total-vm:2187648kB, anon-rss:2031616kB, "
    "file-rss:4096kB, shmem-rss:0kB, UID:1000 pgtables:4120kB oom_score_adj:968": "OOMKilling",
    "INFO: task jbd2/nvme0n1p1-:421 blocked for more than 120 seconds.": "TaskHung",
    "watchdog: BUG: soft lockup - CPU#1 stuck for 23s! [athena.py:20481]": "SoftLockup",
    "rcu: INFO: rcu_sched self-detected stall on CPU": "RcuStall",
    "rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:": "RcuStall",
    "unregister_netdevice: waiting for eth0 to become free. Usage count = 1": "UnregisterNetDevice",
    "BUG: unable to handle kernel NULL pointer dereference at 0000000000000008": "KernelOops",
    "BUG: kernel NULL pointer dereference, address: 0000000000000010": "KernelOops",
    "Oops: 0002 [#1] SMP PTI": "KernelOops",
    "divide error: 0000 [#1] SMP": "KernelOops",
    "EXT4-fs error (device nvme0n1p1): ext4_find_entry:1455: inode #2: comm kubelet: reading directory lblock 0":
        "Ext4Error",
    "EXT4-fs (sdb1): Remounting filesystem read-only": "FilesystemIsReadOnly",
    "XFS (nvme1n1): xfs_do_force_shutdown(0x8) called. Shutting down filesystem": "XfsHasShutDown",
    "XFS (nvme0n1): Filesystem has been shut down due to log error (0x2).": "XfsHasShutDown",
    "Buffer I/O error on dev sdb1, logical block 15, lost async page write": "IOError",
    "blk_update_request: I/O error, dev sda, sector 2048 op 0x0:(READ) flags 0x80700": "IOError",
    "I/O error, dev nvme1n1, sector 4096 op 0x1:(WRITE) flags 0x800 phys_seg 1 prio class 2": "IOError",
    "nvme nvme1: I/O 12 QID 3 timeout, aborting": "NvmeTimeout",
    "nvme nvme0: Disabling device after reset failure: -19": "DiskIsGone",
    "EDAC MC0: 1 CE memory read error on CPU_SrcID#0_Ha#0_Chan#1_DIMM#0": "MemoryReadError",
}  # fmt: skip
# Of the same kernels, and nothing to worry about.
HARMLESS = [
    "SLUB: HWalign=64, Order=0-3, MinObjects=0, CPUs=2, Nodes=1",
    "EXT4-fs (vda): mounted filesystem 00000000-0000-0000-0000-000000000000 r/w without journal. Quota mode: none.",
    "SGI XFS with ACLs, security attributes, no debug enabled",
    "XFS (nvme0n1): Ending clean mount",
    "[Firmware Bug]: TSC doesn't count with P0 frequency!",
    "nvme nvme0: 4/0/0 default/read/poll queues",
    "cgroup: fork rejected by pids controller in /kubepods/burstable/pod1",
    "device veth1a2b3c entered promiscuous mode",
]


def reasons(text: str) -> set[str]:
    line = Line(at=NOW, text=text)
    return {rule.reason for rule in RULES.rules if rule.count == 1 and rule.matches(line)}


def true(lines: list[Line], *, now: float = NOW, quiet: float = QUIET) -> dict[str, str]:
    found = judge(RULES, lines, now=now, quiet=quiet)
    return {kind: condition.reason for kind, condition in found.items() if condition.true}


@pytest.mark.parametrize(("text", "reason"), LINES.items())
def test_a_line_of_a_real_kernel_is_known_for_what_it_is(text: str, reason: str) -> None:
    assert reasons(text) == {reason}


@pytest.mark.parametrize("text", HARMLESS)
def test_a_harmless_line_means_nothing(text: str) -> None:
    assert not reasons(text)


def test_each_rule_has_a_line_that_it_is_for() -> None:
    assert [
        rule.reason for rule in RULES.rules if not any(rule.matches(Line(at=NOW, text=text)) for text in LINES)
    ] == []


def test_every_condition_of_the_rules_is_one_that_is_acted_on_and_said_to_be_well_in_one_way() -> None:
    assert RULES.well.keys() < OURS
    for file in DIRECTORY.glob("*.json"):
        for each in json.loads(file.read_text())["conditions"]:
            well = RULES.well[each["type"]]
            assert (well.reason, well.message) == (each["reason"], each["message"])


def test_the_files_are_what_node_problem_detector_reads() -> None:
    for file in DIRECTORY.glob("*.json"):
        content = json.loads(file.read_text())
        assert {"plugin", "source", "conditions", "rules"} <= content.keys()
        for rule in content["rules"]:
            assert rule["type"] in {"permanent", "temporary"}
            assert ("condition" in rule) == (rule["type"] == "permanent")
            # Go's regular expressions know no look-around and no references.
            pattern = rule.get("pattern") or next(word for word in rule["args"] if word.startswith("--pattern="))
            assert not re.search(r"\(\?[=!<]|\\[1-9]", pattern)


def test_three_slub_errors_within_twenty_minutes_are_a_problem_of_kernel_memory_and_two_are_not() -> None:
    lines = [Line(at=NOW - 600 + 300 * number, text=SLUB) for number in range(3)]
    assert true(lines) == {KERNEL_MEMORY: "SlubAllocationFailure"}
    assert true(lines[1:]) == {}
    assert true([Line(at=NOW - 4000, text=SLUB), *lines[1:]]) == {}


def test_the_problem_is_over_when_no_such_line_has_come_for_long_enough_and_lasts_while_they_come() -> None:
    lines = [Line(at=NOW + number, text=SLUB) for number in range(3)]
    assert true(lines, now=NOW + 1 + QUIET)
    assert not true(lines, now=NOW + 2 + QUIET)
    later = [*lines, Line(at=NOW + 1700, text=SLUB)]
    assert true(later, now=NOW + 3000)


def test_what_only_a_reboot_mends_is_never_over() -> None:
    line = Line(at=NOW, text="EXT4-fs (sdb1): Remounting filesystem read-only")
    assert true([line], now=NOW + FOREVER) == {LOCAL_DISK: "FilesystemIsReadOnly"}
    assert true([Line(at=NOW, text="Oops: 0002 [#1] SMP PTI")], now=NOW + FOREVER) == {KERNEL_HUNG: "KernelOops"}


def test_what_is_forgotten_makes_no_difference() -> None:
    texts = [*LINES, *HARMLESS]
    lines = [Line(at=NOW - 10_000 + 7 * number, text=texts[number % len(texts)]) for number in range(1400)]
    kept = remember(RULES, lines, now=NOW, quiet=QUIET)
    assert len(kept) < len(lines) / 2
    assert judge(RULES, kept, now=NOW, quiet=QUIET) == judge(RULES, lines, now=NOW, quiet=QUIET)


def test_a_file_that_cannot_be_used_is_named_with_what_is_wrong(tmp_path: Path) -> None:
    file = tmp_path / "wrong.json"
    rule = {"type": "permanent", "condition": "Unheard", "reason": "R", "pattern": "x"}
    for content in ("{", json.dumps({"conditions": [], "rules": [rule]}), json.dumps({"rules": []})):
        file.write_text(content)
        with pytest.raises(ValueError, match=r"wrong\.json cannot be used"):
            read([file])


def test_durations_are_written_as_in_go() -> None:
    assert (duration("20m"), duration("1h5m"), duration("90s")) == (1200, 3900, 90)
    with pytest.raises(ValueError, match="'5' is no duration"):
        duration("5")


def test_a_record_of_the_device_has_its_time_and_text() -> None:
    record = f"4,1071,5140900,-;{SLUB}\n SUBSYSTEM=memory\n"
    assert kmsg.parse(record, booted=1000.0) == Line(at=1005.1409, text=SLUB)
    assert kmsg.parse(r"6,1,0,c;a\x09b", booted=0.0) == Line(at=0.0, text="a\tb")
    assert kmsg.parse("no record", booted=0.0) is None

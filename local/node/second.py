"""A second node on this machine: a machine made of namespaces, with network, mounts and a control group of its own.

Network and mounts are there as long as a process is in them, so that none of it outlives the node, however that ends.
What lies in places that no flag moves lies in a directory of the node's, which its processes see there.
"""

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from local.node import host, processes
from local.node.images import PAUSE
from local.node.layout import BRIDGE, CVMFS, NETWORK, PROFILES, SHARED_PLACES, Layout
from local.node.processes import Daemon, Process
from local.refusal import Refusal

# Of the pair that leads from one node to the other: a port of the bridge between them, and what the node has.
PORT, UPLINK = "atlas2", "eth0"


def namespaces() -> Daemon:
    """What holds the namespaces open; when it ends the machine is off."""
    return Daemon(
        name="namespaces",
        command=("/usr/bin/unshare", "--net", "--mount", "--propagation=private", "--", str(PAUSE), "-P"),
    )


def within(machine: Process, daemon: Daemon) -> Daemon:
    """A daemon that runs on that machine; on the next one, as after a reboot, it is another."""
    return replace(daemon, command=(*_enter(machine), *daemon.command))


def machine(layout: Layout) -> Process | None:
    """The machine if it is on, and all of it was set up."""
    process = processes.recorded(layout.processes / namespaces().name)
    return process if process is not None and _booted(layout, process).exists() else None


def boot(layout: Layout, first: Layout, environment: Mapping[str, str]) -> Process:
    """Switches the machine on, off before if only part of it runs.

    Args:
        layout: of the node.
        first: of the node that it joins.
        environment: of its processes.

    Raises:
        Refusal: it does not start.
    """
    power_off(layout)
    host.remove_device(PORT)
    # What a machine forgets when it is off.
    for place in (layout.run, _own(layout, Path("/run"))):
        shutil.rmtree(place, ignore_errors=True)
    layout.run.mkdir(mode=0o700)
    for directory in (layout.processes, layout.logs, layout.profiles.parent):
        directory.mkdir(parents=True, exist_ok=True)
    processes.start(namespaces(), layout.processes, layout.logs / "namespaces.log", dict(environment))
    process = processes.recorded(layout.processes / namespaces().name)
    if process is None:
        raise Refusal(f"starting {layout.name}: its namespaces did not last; see {layout.logs / 'namespaces.log'}")
    _mounts(layout, first, process)
    _network(layout, first, process)
    host.control_group(layout)
    host.profiles(layout)
    _booted(layout, process).touch()
    return process


def power_off(layout: Layout) -> None:
    """Ends all that runs on the machine at once, as a power cut does; nothing where nothing runs."""
    processes.kill(processes.all_recorded(layout.processes))
    host.end_containers(layout)


def _mounts(layout: Layout, first: Layout, machine: Process) -> None:
    inside = _enter(machine)
    # The namespace began as a copy of ours: what belongs to the first node would be held by it.
    present = host.mounts(Path(f"/proc/{machine.pid}/mountinfo").read_text())
    host.unmount(host.below([first.root, first.run, *SHARED_PLACES], present), within=inside)
    for place in SHARED_PLACES:
        for directory in (place, _own(layout, place)):
            directory.mkdir(parents=True, exist_ok=True)
        host.mount("--bind", _own(layout, place), place, within=inside)
    _own(layout, PROFILES).mkdir(exist_ok=True)
    host.mount("--make-rshared", CVMFS, within=inside)


def _network(layout: Layout, first: Layout, machine: Process) -> None:
    inside = _enter(machine)
    host.network(first, layout)
    host.bridge(layout, within=inside)
    host.ip("link", "add", PORT, "type", "veth", "peer", "name", UPLINK, "netns", str(machine.pid))
    host.ip("link", "set", PORT, "master", NETWORK, "up")
    for device in ("lo", UPLINK):
        host.ip("link", "set", device, "up", within=inside)
    way = ("via", str(first.address), "dev", UPLINK, "onlink", "src", str(layout.address))
    host.ip("route", "add", "default", *way, within=inside)
    for device in (BRIDGE, UPLINK):
        host.forward(device, within=inside)


def _enter(machine: Process) -> tuple[str, ...]:
    return ("/usr/bin/nsenter", f"--target={machine.pid}", "--net", "--mount", "--")


def _own(layout: Layout, place: Path) -> Path:
    """What the node's processes see at a place."""
    return layout.root / "places" / place.relative_to("/")


def _booted(layout: Layout, machine: Process) -> Path:
    return layout.run / f"booted-{machine.pid}-{machine.started}"

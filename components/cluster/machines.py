"""Machine types of the clouds, as data: what a node of each has, how large its local disk is, what it costs.

The tables are machines_<cloud>.json beside this module: each says where its figures are from, of which day they are,
and of which region the prices. A type that is not in a table cannot be used until somebody adds its line.
"""

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Cloud = Literal["azure", "gcp", "aws"]


@dataclass(frozen=True, kw_only=True)
class Machine:
    """One machine type.

    Attributes:
        cores: virtual ones, as the cloud counts them.
        memory_mib: of the machine; what pods may have of it is less.
        disk_gib: local disk that the kubelet, images and emptyDir can have together; 0 where there is none.
        price_per_hour: list price on demand, in USD; None if the table does not say.
        spot_price_per_hour: recent price of a spot machine, in USD; None if the table does not say.
        ssds: GKE: numbers of local SSDs that may be chosen; empty where the type fixes it.
        ssd_gib: GKE: of one local SSD; `disk_gib` is then for the fixed number, or 0.
        temporary_gib: Azure: of the formatted temporary disk, for kubelet_disk_type Temporary; 0 where it is raw NVMe.
        address_pods: AWS: pods for which a node has addresses, by AWS's own reckoning.
    """

    cores: int
    memory_mib: int
    disk_gib: int
    price_per_hour: float | None = None
    spot_price_per_hour: float | None = None
    ssds: tuple[int, ...] = ()
    ssd_gib: int = 0
    temporary_gib: int = 0
    address_pods: int = 0

    def price(self, *, spot: bool) -> float | None:
        """Of one hour, in USD."""
        return self.spot_price_per_hour if spot else self.price_per_hour


@dataclass(frozen=True, kw_only=True)
class Room:
    """What all pods of ours on one node may request together."""

    cores: float
    memory_mib: int
    disk_mib: int
    pods: int


@functools.cache
def machines(cloud: Cloud) -> Mapping[str, Machine]:
    """The machine types of a cloud, by name."""
    table = json.loads(Path(__file__).with_name(f"machines_{cloud}.json").read_text())
    return {name: Machine(**{**line, "ssds": tuple(line.get("ssds", ()))}) for name, line in table["machines"].items()}

"""What a stack may say of a site on a cluster that is already there."""

from typing import Annotated, Literal

from pydantic import Field

from settings.values import Closed, FilePath, LabelKey, LabelValue, ObjectName
from settings.workload import AnySite, Nodes


class Taint(Closed):
    """What keeps pods off a node that do not tolerate it."""

    key: LabelKey
    value: LabelValue = ""
    effect: Literal["NoSchedule", "NoExecute"]


class NodePool(Closed):
    """Nodes of one shape, of which an autoscaler may make more: how the vacuum controller knows what it may ask for."""

    name: ObjectName
    selector: Annotated[dict[LabelKey, LabelValue], Field(min_length=1)]
    max: Annotated[int, Field(ge=0, le=100_000)]
    cores: Annotated[float, Field(gt=0, le=1024)]
    memory_mib: Annotated[int, Field(ge=256)]
    disk_mib: Annotated[int, Field(ge=1024)]
    # The kubelet's default.
    pods: Annotated[int, Field(ge=1, le=1000)] = 110
    taints: tuple[Taint, ...] = ()
    price_per_hour: Annotated[float, Field(gt=0)] | None = None


class ForeignNodes(Nodes):
    """The same, where nodes are not ours: they are taken out of use only where the stack says so."""

    mode: Literal["cordon", "report", "none"] = "report"


class ExistingSite(AnySite):
    """A site on a cluster that is already there."""

    kind: Literal["existing"]
    nodes: ForeignNodes = ForeignNodes()
    kubeconfig: FilePath | None = None
    context: str | None = None
    # None is unknown, an empty list no autoscaler.
    pools: tuple[NodePool, ...] | None = None

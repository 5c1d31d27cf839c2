"""The pods that an object describes, whatever its kind."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pulumi_policy import ResourceValidationArgs

from rules.rule import at, items, kind

NAME = "app.kubernetes.io/name"
INSTANCE = "app.kubernetes.io/instance"
STARTD_SET = "StartdSet"
# Where the template of a pod is in an object of each kind.
TEMPLATES: Mapping[str, tuple[str, ...]] = {
    "Pod": (),
    "PodTemplate": ("template",),
    "Deployment": ("spec", "template"),
    "DaemonSet": ("spec", "template"),
    "StatefulSet": ("spec", "template"),
    "ReplicaSet": ("spec", "template"),
    "ReplicationController": ("spec", "template"),
    "Job": ("spec", "template"),
    "CronJob": ("spec", "jobTemplate", "spec", "template"),
    STARTD_SET: ("spec", "template"),
}
KINDS = frozenset(TEMPLATES)


@dataclass(frozen=True, kw_only=True)
class Pod:
    """A pod, or the template of many."""

    kind: str
    metadata: Mapping[str, Any]
    template: Mapping[str, Any]

    @property
    def namespace(self) -> str:
        """Where the object is, which a preview may not know."""
        return str(self.metadata.get("namespace", "default"))

    @property
    def site(self) -> str | None:
        """The site it says it belongs to."""
        return at(self.template, "metadata", "labels").get(INSTANCE)

    @property
    def component(self) -> str | None:
        """The component it says it is of."""
        return at(self.template, "metadata", "labels").get(NAME)

    @property
    def spec(self) -> Mapping[str, Any]:
        """What runs in it."""
        return at(self.template, "spec")

    def containers(self) -> Iterator[Mapping[str, Any]]:
        """All containers, those that only prepare included."""
        for section in ("initContainers", "containers", "ephemeralContainers"):
            yield from items(self.spec, section)


def pod_of(args: ResourceValidationArgs) -> Pod:
    """The pod that an object of one of `KINDS` describes."""
    found = kind(args)
    assert found is not None  # noqa: S101  a rule about pods is asked about these kinds alone
    return Pod(kind=found, metadata=at(args.props, "metadata"), template=at(args.props, *TEMPLATES[found]))


def environment(container: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Each variable that is written out, with its value."""
    for variable in items(container, "env"):
        if "value" in variable:
            yield variable["name"], str(variable["value"])

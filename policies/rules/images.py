"""Images: the same bytes today and tomorrow, on every node."""

import re
from collections.abc import Iterator

from pulumi_policy import ResourceValidationArgs, Severity

from rules import pods
from rules.pods import pod_of
from rules.rule import rule, stack

DEV_STACK = "dev"
_BY_DIGEST = re.compile(r"\S+@sha256:[0-9a-f]{64}")


def _check(args: ResourceValidationArgs) -> Iterator[str]:
    if stack(args) == DEV_STACK:
        args.not_applicable(f"stack {DEV_STACK} runs what was built on this machine")
    for container in pod_of(args).containers():
        if _BY_DIGEST.fullmatch(container["image"]) is None:
            yield f"Container {container['name']} of {args.name} has the image {container['image']}"


RULES = (
    rule(
        name="images-by-digest",
        description=f"Outside stack {DEV_STACK} every image is named by its digest, since a tag can be moved.",
        severity=Severity.HIGH,
        remedy="Paste the images block that `make images PUSH=<registry>` prints.",
        kinds=pods.KINDS,
        check=_check,
    ),
)

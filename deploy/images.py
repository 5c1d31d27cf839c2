"""The images that a block of a stack's settings names."""

import re
from collections.abc import Mapping

_REGISTRY = re.compile(r"^ +registry: (\S+)$", re.MULTILINE)
_DIGEST = re.compile(r"^ +([a-z]+): (sha256:[0-9a-f]{64})(?: +#.*)?$", re.MULTILINE)


def references(block: str) -> Mapping[str, str]:
    """Image to full reference by digest, of the block that `make images PUSH=<registry>` prints.

    Raises:
        ValueError: it is no such block.
    """
    registry, digests = _REGISTRY.search(block), _DIGEST.findall(block)
    if registry is None or not digests:
        raise ValueError("no images: block, as `make images PUSH=<registry>` prints it")
    return {name: f"{registry[1]}/{name}@{digest}" for name, digest in digests}

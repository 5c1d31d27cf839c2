"""What a service is told by its environment, which its Deployment sets."""

import re
from collections.abc import Mapping


def needed(environment: Mapping[str, str], variable: str, pattern: str, example: str) -> str:
    """The text of a variable, which is empty where it is not set.

    Args:
        environment: to read.
        variable: its name.
        pattern: that the whole text must match.
        example: of such a text.

    Raises:
        ValueError: one sentence; it does not.
    """
    text = environment.get(variable, "")
    if not re.fullmatch(pattern, text):
        raise ValueError(f"{variable} is {text!r}; it must be as in {example}")
    return text

"""The pod's last word, as services/vacuum reads it: `CODE text`, then one line of JSON, 4 KiB at most."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from reporter.codes import Code

PLACE = Path("/dev/termination-log")
SENTENCE_CHARACTERS = 600  # with the JSON far below what Kubernetes keeps


@dataclass(frozen=True, kw_only=True)
class Message:
    """What became of a startd.

    Attributes:
        reason: one word for tables, as in NeverClaimed.
        sentence: for people.
        facts: numbers and names, by their key in the JSON.
    """

    code: Code
    reason: str
    sentence: str
    facts: Mapping[str, object] = field(default_factory=dict)

    def text(self) -> str:
        """As it is written."""
        sentence = " ".join(self.sentence.split())[:SENTENCE_CHARACTERS]
        said = {"v": 1, "code": int(self.code), "reason": self.reason, **self.facts}
        return f"{int(self.code)} {sentence}\n{json.dumps(said, separators=(',', ':'))}\n"


def write(message: Message, place: Path = PLACE) -> None:
    """Replaces what was said before.

    In one write to the file that is there: the kubelet mounts it, so it cannot be exchanged for another.
    """
    try:
        with place.open("r+b", buffering=0) as file:
            file.truncate(file.write(message.text().encode()))
    except OSError as error:
        # The kubelet then takes the end of the standard output for the message, if the exit code means failure.
        print(f"{place}: {error.strerror}", flush=True)

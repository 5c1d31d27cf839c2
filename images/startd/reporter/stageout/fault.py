"""What ends a stage-out before all is there."""

from enum import IntEnum


class Exit(IntEnum):
    """What whoever called learns from the exit code; docs/runbooks/stage-out.md tells what to do."""

    DONE = 0
    # As argparse has it: what was asked for makes no sense, or the site offers no stage-out.
    WRONG = 2
    # Other content has the name. Trying again does not help.
    TAKEN = 3
    # The storage does not take what the site says of itself. Trying again does not help.
    DENIED = 4
    # Not reached, or not to the end. Trying again goes on with what is missing.
    UNFINISHED = 5


class Fault(Exception):
    """One sentence for people, one code for programs."""

    def __init__(self, code: Exit, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code

"""rclone, which speaks to the storage: it copies in blocks whose MD5 the storage checks, and asks what is there.

A blob appears when all its blocks are there and not before. What rclone is killed amid leaves blocks that nobody sees,
and that Azure forgets after a week.
"""

import json
import os
import re
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from stageout.fault import Exit, Fault
from stageout.place import Place

PROGRAM = "/usr/local/bin/rclone"
LOOK_SECONDS = 300.0
FLAGS = (
    "--config=",  # no file: all it is told is in its environment
    "--contimeout=15s",
    "--timeout=60s",  # without a byte
    # Azure's SDK asks three times more, within half a minute; what that does not help is for our caller to decide.
    "--retries=1",
    "--low-level-retries=1",
    "--files-from-raw=-",
    "--no-traverse",  # asks for these names alone, however many others there are, and needs no right to list
)
# 4 MiB for each of 4 blocks of 4 files: payloads' memory is not ours.
BLOCKS_AT_ONCE = 4
DENIED = re.compile(r"RESPONSE 40[13]|AuthenticationFailed|Authoriz|failed to acquire a token|AADSTS")


@dataclass(frozen=True)
class Held:
    """What the storage says it has under a name; without an MD5 nobody knows what that is."""

    size: int
    md5: str | None


@dataclass(frozen=True, kw_only=True)
class Rclone:
    """Asks and copies below one directory of a place."""

    place: Place
    directory: str
    program: str = PROGRAM

    def look(self, names: Iterable[str]) -> dict[str, Held]:
        """What is there of these names.

        Raises:
            Fault: nobody can say.
        """
        words = ["lsjson", "--hash", "--hash-type=MD5", "--no-modtime", "--no-mimetype", self._target]
        done = self._run(words, names, LOOK_SECONDS)
        if done.returncode != 0:
            raise fault(self.place, done.stderr)
        return {each["Path"]: Held(each["Size"], each.get("Hashes", {}).get("md5")) for each in json.loads(done.stdout)}

    def copy(self, directory: Path, names: Iterable[str], *, overwrite: bool) -> Fault | None:
        """Copies files of a local directory that are not there yet; why it did not get all of them there, if so.

        Without an MD5 it takes what is there and as large for the same, so look afterwards. It takes as long as bytes
        move: only what stands still is bounded.
        """
        careful = [] if overwrite else ["--immutable"]
        done = self._run(["copy", "--copy-links", "--checksum", *careful, str(directory), self._target], names, None)
        return fault(self.place, done.stderr) if done.returncode else None

    @property
    def _target(self) -> str:
        return f"out:{self.place.container}/{self.directory}"

    def _run(self, words: list[str], names: Iterable[str], seconds: float | None) -> subprocess.CompletedProcess[str]:
        environment = {
            **os.environ,
            "RCLONE_CONFIG_OUT_TYPE": "azureblob",
            # It would ask whether the container exists, and make it, for which nobody here has the right.
            "RCLONE_CONFIG_OUT_NO_CHECK_CONTAINER": "true",
            "RCLONE_CONFIG_OUT_UPLOAD_CONCURRENCY": str(BLOCKS_AT_ONCE),
            **self.place.secrets,
        }
        try:
            # In a session of its own: a signal to the payload's processes would have it tidy up, which it does by
            # making the blob, empty, and deleting it. When we are told to stop it is killed instead.
            return subprocess.run(
                [self.program, *FLAGS, *words],
                input="".join(f"{name}\n" for name in names),
                env=environment,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=seconds,
                start_new_session=True,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise Fault(
                Exit.UNFINISHED, f"{self.place.endpoint} gave no answer within {seconds:.0f} s: try again"
            ) from None
        except OSError as error:
            raise Fault(Exit.WRONG, f"{self.program}: {error.strerror}; rebuild the image startd") from None


def fault(place: Place, said: str) -> Fault:
    """What rclone's messages come to, without what would let others in."""
    container = f"{place.endpoint}/{place.container}"
    why = reason(said)
    if "ContainerNotFound" in said or "directory not found" in said:
        return Fault(Exit.DENIED, f"there is no container {container}: make it, or correct the stack")
    if DENIED.search(said):
        return Fault(
            Exit.DENIED,
            f"{container} does not let this site in ({why}): see that its SAS is right and has not expired, or that "
            "its identity may write there",
        )
    return Fault(Exit.UNFINISHED, f"{container} could not be reached, or not to the end ({why}): try again")


def reason(said: str) -> str:
    """The last thing that went wrong: the storage's own code where there is one."""
    codes = re.findall(r"^ERROR CODE: (\w+)$", said, re.MULTILINE)
    if codes:
        return str(codes[-1])
    lines = re.findall(r"(?:ERROR|CRITICAL|NOTICE|Failed to)[ :]+(.+)", said) or said.split("\n")[-1:]
    return re.sub(r"\b(sig|se|sp|st|sv|sr)=[^&\s\"]+", r"\1=…", str(lines[-1]).strip())[:300] or "it did not say why"

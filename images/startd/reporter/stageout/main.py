"""stage-out DIRECTORY FILE…: each file is there under its own name, with the MD5 that it has here, or you are told.

A second call copies what is missing and nothing else. Nothing there is overwritten, and nothing here is removed.

One line of JSON for each file that is there and right: file, url, bytes, md5.
"""

import argparse
import hashlib
import json
import re
import signal
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from types import FrameType

from stageout.fault import Exit, Fault
from stageout.place import OFFERED, Place
from stageout.rclone import PROGRAM, Held, Rclone

# What is a name in each storage, in a URL, and in a list of rclone's.
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+=@~-]{0,254}")
READ_AT_ONCE = 2
TRIES = 3
PAUSE_SECONDS = 5.0


@dataclass(frozen=True, kw_only=True)
class File:
    """What is to be there.

    Attributes:
        md5: hexadecimal; computed meanwhile.
    """

    path: Path
    size: int
    md5: Future[str]

    def is_there(self, held: Held | None) -> bool:
        """Whether that is this file, as far as anybody can know."""
        return held is not None and held.size == self.size and (self.size == 0 or held.md5 == self.md5.result())


def stage_out(rclone: Rclone, files: Sequence[File]) -> Iterable[tuple[File, Fault | None]]:
    """Copies what is missing; each file, with why it is not there if so.

    Raises:
        Fault: nobody can say what is there.
    """
    names = [file.path.name for file in files]
    missing = sorted(files, key=lambda file: file.path)
    for attempt in range(TRIES):
        if attempt:
            time.sleep(PAUSE_SECONDS)
        why: Fault | None = None
        for directory, some in groupby(missing, key=lambda file: file.path.parent):
            # Again only what was looked for and is not there: nothing of others is overwritten.
            why = rclone.copy(directory, [file.path.name for file in some], overwrite=attempt > 0) or why
        there = rclone.look(names)
        missing = [file for file in missing if _missing(file, there.get(file.path.name))]
        if not missing or (why is not None and why.code is not Exit.UNFINISHED):
            break
    return [(file, _wrong(rclone, file, there, why)) for file in files]


def _missing(file: File, held: Held | None) -> bool:
    """Whether there is nothing: rclone may leave an empty blob when it gives up on an upload and may not delete."""
    return held is None or held.size == 0 < file.size


def _wrong(rclone: Rclone, file: File, there: Mapping[str, Held], why: Fault | None) -> Fault | None:
    held = there.get(file.path.name)
    if file.is_there(held):
        return None
    if held is None or held.size == 0:
        return why or Fault(Exit.UNFINISHED, f"{file.path} is not there after it was copied: try again")
    url = rclone.place.url(f"{rclone.directory}/{file.path.name}")
    return Fault(
        Exit.TAKEN,
        f"{url} holds other content ({held.size} bytes, MD5 {held.md5 or 'unknown'}) than {file.path} ({file.size} "
        f"bytes, MD5 {file.md5.result()}): choose another name; neither was touched",
    )


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _directory(text: str) -> str:
    directory = text.strip("/")
    if not all(NAME.fullmatch(part) for part in directory.split("/")):
        raise Fault(Exit.WRONG, f"{text!r} is no directory of a container: write it as in mc/run-7")
    return directory


def _files(paths: Sequence[Path], pool: ThreadPoolExecutor) -> list[File]:
    names = [path.name for path in paths]
    for path in paths:
        if not NAME.fullmatch(path.name):
            raise Fault(Exit.WRONG, f"{path}: its name may have letters, digits and . _ + = @ ~ - alone: rename it")
        if names.count(path.name) > 1:
            raise Fault(Exit.WRONG, f"two files are called {path.name}: rename one, or give it a directory of its own")
        if not path.is_file():
            raise Fault(Exit.WRONG, f"{path} is no file: give files that are there")
    try:
        return [File(path=path.absolute(), size=path.stat().st_size, md5=pool.submit(_md5, path)) for path in paths]
    except OSError as error:
        raise Fault(Exit.WRONG, f"{error.filename}: {error.strerror}; give files that can be read") from None


def _stop(number: int, _frame: FrameType | None) -> None:
    print("stage-out: stopped: another call goes on with what is missing", file=sys.stderr)
    # Whoever waits for rclone kills it on the way out.
    sys.exit(128 + number)


def main(words: Sequence[str], offered: Path = OFFERED, program: str = PROGRAM) -> Exit:
    """The program; its exit code.

    Args:
        words: of its command line.
        offered: what the site says of its storage.
        program: rclone.
    """
    parser = argparse.ArgumentParser(prog="stage-out", description=__doc__)
    parser.add_argument("directory", metavar="DIRECTORY", help="of the container, as in mc/run-7")
    parser.add_argument("files", metavar="FILE", nargs="+", type=Path)
    asked = parser.parse_args(words)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, _stop)
    worst = Exit.DONE
    pool = ThreadPoolExecutor(READ_AT_ONCE)
    try:
        rclone = Rclone(place=Place.read(offered), directory=_directory(asked.directory), program=program)
        for file, wrong in stage_out(rclone, _files(asked.files, pool)):
            if wrong is None:
                url = rclone.place.url(f"{rclone.directory}/{file.path.name}")
                told = {"file": str(file.path), "url": url, "bytes": file.size, "md5": file.md5.result()}
                print(json.dumps(told), flush=True)
            else:
                worst = max(worst, wrong.code)
                print(f"stage-out: {wrong}", file=sys.stderr, flush=True)
    except Fault as wrong:
        worst = wrong.code
        print(f"stage-out: {wrong}", file=sys.stderr, flush=True)
    except OSError as error:
        worst = Exit.WRONG
        print(f"stage-out: {error.filename}: {error.strerror}; give files that can be read", file=sys.stderr)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    return worst

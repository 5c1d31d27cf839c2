"""stage-out as a process of this machine: as bin/stage-out, but for where it is told what the site offers."""

from local.paths import CHECKOUT

SOURCES = CHECKOUT / "images/startd/reporter"
# Its arguments: the directory of what is offered, rclone, and what is asked for.
PROGRAM = """
import sys
from pathlib import Path
from stageout import main
sys.exit(main.main(sys.argv[3:], Path(sys.argv[1]), sys.argv[2]))
"""

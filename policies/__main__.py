"""Builds the policy pack: this starts a server for the engine and does not return."""  # noqa: INP001  run, not imported

from pulumi_policy import EnforcementLevel, PolicyPack
from rules import RULES

PolicyPack("atlas-sites", policies=[*RULES], enforcement_level=EnforcementLevel.MANDATORY)

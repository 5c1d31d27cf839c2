"""Records of a stack's sites, in the words of CRIC, where ATLAS keeps what it knows of sites and of their queues.

    pulumi stack output --json | python examples/cric.py

CRIC has no interface by which a site writes; a record is what its administrator enters there, or what a comparison with
`https://atlas-cric.cern.ch/api/atlas/pandaqueue/query/?json` is made against.
"""

import json
import sys
from collections.abc import Mapping
from typing import Any

# What this program was written for; a later version may have other names and types.
SCHEMA_VERSION = 1
SOFTWARE = "atlas.cern.ch"


def records(outputs: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """ATLAS site name to the fields of its queue that a deployment decides.

    Sizes are of one worker: corecount in cores, maxrss and maxwdir in MB, which CRIC means as MiB. `nodes` is the most
    workers at once. A site by itself neither names its region's country nor its storage: those are left out.

    Args:
        outputs: of a stack, as docs/outputs.schema.json describes them; no secret is looked at.

    Raises:
        ValueError: they are of another version.
    """
    if outputs.get("schemaVersion") != SCHEMA_VERSION:
        raise ValueError(f"outputs of version {outputs.get('schemaVersion')}; this program reads {SCHEMA_VERSION}")
    return {site["atlasSite"]: _record(site) for site in outputs["sites"].values()}


def _record(site: Mapping[str, Any]) -> dict[str, Any]:
    startds, cluster = site["startds"], site["cluster"]
    return {
        "name": site["atlasSite"],
        "atlas_site": site["atlasSite"],
        "nickname": site["name"],
        "resource_type": "cloud" if cluster["region"] else "GRID",
        "region": cluster["region"],
        "is_cvmfs": SOFTWARE in site["cvmfs"]["repositories"],
        "corecount": startds["size"]["cores"],
        "maxrss": startds["size"]["memoryMib"],
        "maxwdir": startds["size"]["diskMib"],
        "nodes": startds["pods"],
        "localqueue": f"{site['namespace']}/{startds['startdSet']}",
    }


if __name__ == "__main__":
    try:
        print(json.dumps(records(json.load(sys.stdin)), indent=2))
    except (ValueError, KeyError) as error:
        sys.exit(f"error: no outputs that can be read: {error}")

"""One job of the demonstration: events by Pythia 8, jets by FastJet, a histogram of the leading jet's pT as JSON.

Runs in a startd's pod on the system's Python: `payload.py SEED EVENTS CARD_URL`. Software comes from CVMFS, the card by
HTTP through the site's squid (http_proxy), and the result goes to histogram.json in the job's directory.
"""

import json
import os
import re
import socket
import sys
import time
import urllib.request
from bisect import bisect_right
from importlib import import_module
from pathlib import Path
from typing import Any

SOFTWARE = Path("/cvmfs/software.atlas-sites.example")
RESULT = Path("histogram.json")
EDGES_GEV = (100, 120, 140, 160, 180, 200, 225, 250, 280, 315, 355, 400, 460, 530, 620, 750, 1000)
RADIUS = 0.4
LOWEST_JET_GEV = 20.0
LARGEST_JET_RAPIDITY = 4.5
FETCH_SECONDS = 20.0
FETCHES = 3


def fetch(url: str) -> str:
    """The text at `url`, through the proxy that `http_proxy` names and no other way."""
    proxy = os.environ.get("http_proxy")
    if not proxy:
        sys.exit("http_proxy is not set: a payload has no way out but the site's squid")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({"http": proxy}))
    for attempt in range(1, FETCHES + 1):
        try:
            with opener.open(url, timeout=FETCH_SECONDS) as answer:
                return str(answer.read().decode())
        except OSError as error:
            if attempt == FETCHES:
                sys.exit(f"{url} through {proxy}: {error}")
            time.sleep(attempt)
    raise AssertionError("unreachable")


def generate(card: str, seed: int, events: int) -> dict[str, Any]:
    """The histogram of `events` events; the first edge belongs to its bin, the last one does not."""
    os.environ["PYTHIA8DATA"] = str(SOFTWARE / "share/Pythia8/xmldoc")
    sys.path.insert(0, str(SOFTWARE / "python"))
    fastjet, pythia8mc = import_module("fastjet._swig"), import_module("pythia8mc")

    pythia = pythia8mc.Pythia("", False)  # noqa: FBT003  no keyword in the wrapped constructor
    settings = [*card.splitlines(), "Print:quiet = on", "Random:setSeed = on", f"Random:seed = {seed}"]
    for setting in settings:
        if not pythia.readString(setting):
            sys.exit(f"Pythia does not know the setting {setting!r}")
    if not pythia.init():
        sys.exit("Pythia cannot begin with these settings")
    jets = fastjet.JetDefinition(fastjet.antikt_algorithm, RADIUS)
    counts, below, above, without, done = [0] * (len(EDGES_GEV) - 1), 0, 0, 0, 0
    while done < events:
        if not pythia.next():
            continue
        done += 1
        particles = [
            fastjet.PseudoJet(p.px(), p.py(), p.pz(), p.e()) for p in pythia.event if p.isFinal() and p.isVisible()
        ]
        clusters = fastjet.ClusterSequence(particles, jets)
        found = [jet.pt() for jet in clusters.inclusive_jets(LOWEST_JET_GEV) if abs(jet.rap()) < LARGEST_JET_RAPIDITY]
        if not found:
            without += 1
        elif (index := bisect_right(EDGES_GEV, max(found)) - 1) < 0:
            below += 1
        elif index >= len(counts):
            above += 1
        else:
            counts[index] += 1
    info = pythia.infoPython()
    return {
        "events": events,
        "edgesGeV": list(EDGES_GEV),
        "counts": counts,
        "below": below,
        "above": above,
        "without": without,
        "sigmaMb": info.sigmaGen(),
        "sigmaErrorMb": info.sigmaErr(),
    }


def where() -> dict[str, str]:
    """The site, as the startd tells the pool, the pod and the node."""
    ad = Path(os.environ.get("_CONDOR_MACHINE_AD", ".machine.ad"))
    text = ad.read_text() if ad.is_file() else ""
    site = re.search(r'^ATLAS_SITE\s*=\s*"([^"]*)"', text, re.MULTILINE)
    return {
        "site": site[1] if site else os.environ.get("ATLAS_SITE", "unknown"),
        "pod": socket.gethostname(),
        "node": os.environ.get("NODE_NAME", "unknown"),
    }


def main() -> None:
    """Writes the result under a name that appears only when it is complete."""
    seed, events, url = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    began = time.monotonic()
    result = {"v": 1, "seed": seed, **generate(fetch(url), seed, events), "where": where()}
    result["seconds"] = round(time.monotonic() - began, 3)
    half_made = RESULT.with_suffix(".part")
    half_made.write_text(json.dumps(result) + "\n")
    half_made.replace(RESULT)


if __name__ == "__main__":
    main()

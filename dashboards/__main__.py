"""Writes dashboards/grafana anew: what the stack hands to Grafana, so that a preview needs no library of it."""

from pathlib import Path

from dashboards.build import built

FILES = Path(__file__).with_name("grafana")

if __name__ == "__main__":
    FILES.mkdir(exist_ok=True)
    wanted = built()
    for file in FILES.glob("*.json"):
        if file.name not in wanted:
            file.unlink()
    for name, text in wanted.items():
        (FILES / name).write_text(text)

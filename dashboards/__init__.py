"""Dashboards of a site, and its alert rules. `make docs` writes dashboards/grafana from what is here."""

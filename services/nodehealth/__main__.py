"""`python3 -m services.nodehealth` is the controller, with `monitor` what runs on each node."""

from services.nodehealth.main import main

main()

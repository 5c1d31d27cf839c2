"""`python3 -m services.portal`."""

from services.portal.main import main

main()

"""`python3 -m services.accounting`."""

from services.accounting.main import main

main()

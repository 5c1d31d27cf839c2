"""`python3 -m services.vacuum`."""

from services.vacuum.main import main

main()

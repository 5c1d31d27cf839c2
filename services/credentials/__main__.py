"""`python3 -m services.credentials`."""

from services.credentials.main import main

main()

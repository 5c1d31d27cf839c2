"""`python3 -m services.pusher`."""

from services.pusher.main import main

main()

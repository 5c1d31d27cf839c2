"""A discrete-event simulator: our `decide` and the rules of its peers side by side in the same world.

    python -m benchmarks.vacuum_simulator [--scale N] [scenario ...]

Simulated time only, and the same seed gives the same tables. `scenarios` says what happens to a site, `world` makes it
happen, `ours` and `peers` are the controllers, `ledger` keeps the account, `report` and `plot` show it.
"""

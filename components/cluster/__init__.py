"""Where a site runs: one module for each kind of cluster, all with the same public outputs."""

"""What a site costs and what it does with it: one ledger, fed by the clouds' bills and by the startds themselves."""

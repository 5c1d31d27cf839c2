"""A month of a stack's sites as one HTML page: `make report STACK=… MONTH=…`."""

"""What Pulumi declares: one noun a module, each a component that knows neither settings nor stacks."""

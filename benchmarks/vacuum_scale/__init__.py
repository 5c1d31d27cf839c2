"""Thousands of startds on a real control plane with fake nodes: the vacuum controller beside others."""

"""Nodes that spoil work: a monitor on each tells what is wrong, and one controller takes the bad ones out of use."""

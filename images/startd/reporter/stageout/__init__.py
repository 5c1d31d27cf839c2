"""Brings what a payload made out of the site, into a container of Azure Blob."""

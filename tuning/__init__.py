"""Searches and studies over raymd's runs: entry points for a checkout."""

"""Frozen values: what every source decodes to and every output is made from."""

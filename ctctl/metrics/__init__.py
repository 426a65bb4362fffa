"""Prometheus metrics: what the tables hold now (``tables``), and serving a registry (``serve``)."""

"""Prometheus metrics: what GC did (``gc``), what the tables hold now (``tables``), and serving them (``serve``)."""

from ctctl.gc.metrics import GcMetrics
from ctctl.metrics.serve import serving

__all__ = ["GcMetrics", "serving"]

"""Prometheus metrics: what GC did (``gc``), what the tables hold now (``tables``), and serving them (``serve``)."""

from ctctl.ops.metrics.gc import GcMetrics
from ctctl.ops.metrics.serve import serving

__all__ = ["GcMetrics", "serving"]

"""Prediction: how tables and the GC interval develop under a workload (``fluid``), and sizes (``sizing``)."""

"""Garbage collection: three engines with one result, and what keeps them running.

``interval``, ``classes`` and ``keys`` are pure. ``tables`` opens what is to be collected and knows
whose it is, ``batch``, ``walk`` and ``perkey`` are the engines, ``run`` is the use case around them.
"""

"""Garbage collection: three engines with one result, and what keeps them running.

In the kernel: ``bpf/gc.bpf.c``; with a journal ``bpf/writer.bpf.c``, which is the writer's
(``ctctl/tables/writer``). ``run`` is the use case, ``keep_running`` repeats it by the rule of ``interval`` and
``schedule``. ``batch``, ``walk`` and ``perkey`` are the engines, told by a ``job``; ``deleters`` hold them to the
``limit``, ``tally`` counts. ``orphans`` and ``backends`` choose otherwise; ``preview`` and ``explain`` only look.
``report`` is what a run says, ``show`` how it looks, ``audit`` the log, ``schema`` all of it as JSON.
"""

"""What happens to a flow, live: through our own hooks or by probes on any datapath.

In the kernel: ``bpf/probe.bpf.c`` and ``bpf/proberet.bpf.c``; our own hooks tell through ``ctctl/events``. ``live``
listens to those, ``probe`` and the ``probe_*`` beside it trace anybody's programs, ``story`` and the ``story_*``
read what others told. ``show``, ``show_probe`` and ``show_story`` are how each looks, ``picture`` and ``svg`` draw,
``schema`` is the JSON.
"""

"""The doctor: facts about the tables once (``facts``), then one small function a check (``checks_*``).

No kernel part of its own: it reads through ``ctctl/tables``. ``diagnose`` asks every check, a ``finding`` is what
one says, ``table`` what checks share; ``show`` is how it looks.
"""

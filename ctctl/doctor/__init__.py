"""The doctor: facts about the tables once (``facts``), then one small function a check (``checks_*``)."""

"""Packets that are made up: conversations, scenarios and captures through the datapath's programs on private maps."""

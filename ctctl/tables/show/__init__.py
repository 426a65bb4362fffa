"""How the records of tables look: the Cilium CLI's lines, JSON records, table rows."""

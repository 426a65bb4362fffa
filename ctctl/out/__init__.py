"""How things are written: formats, charts, safe text. Knows no kernel and no feature."""

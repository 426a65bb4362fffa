"""Maps, programs, links and objects of this kernel."""

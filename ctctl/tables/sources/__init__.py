"""Where records come from: live maps, snapshots, dumps, archives, nf_conntrack."""

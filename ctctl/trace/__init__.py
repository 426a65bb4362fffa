"""What happens to a flow, live: through our own hooks or by probes on any datapath."""

"""The tables beside conntrack: SNAT, load balancer, identities, endpoints."""

"""Reading the tables of every node of a Kubernetes cluster, through its API. Nothing is ever changed there."""

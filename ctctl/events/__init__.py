"""What the hooks of a node of ours tell: decoded, streamed, filtered, and in words."""

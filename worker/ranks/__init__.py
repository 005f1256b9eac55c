"""One job in several processes: on several cards, and on several nodes."""

"""Does this machine fit: facts gathered at the edge (`probes`), judged by pure functions (`checks`)."""

"""Trading: the layout of events, the market that makes them, strategies that act on them."""

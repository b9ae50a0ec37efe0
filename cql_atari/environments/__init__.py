"""The games, and the protocol by which agents are evaluated in them."""

"""The hub: pure nouns of a change's way (one module per word), and `hub.edge`, where they meet the world."""

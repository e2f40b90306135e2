"""`hub demo`: a small business in three systems, and the hub's main job on it."""

"""The main job end to end on made-up characters: train, prove, upgrade a live gallery."""

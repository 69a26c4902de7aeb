"""The train state, its jitted update, packing, and checkpoints."""

"""State, step, loop, optimizers, schedules, sharding, checkpoints."""

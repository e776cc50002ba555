"""What a compiler makes of a training step on hardware that is not there.

`target` describes TPU slices and GPU nodes, `compile` compiles the step of a config for one of
them, `hlo` reads the result, `ideal` says what the traffic should be. Nothing runs, nothing is
allocated.
"""

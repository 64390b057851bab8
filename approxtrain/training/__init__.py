"""Training: from a configuration to steps, rows and checkpoints; and what was trained, loaded again.

`loop.Run` is the run. From there down: `dispatch` picks the step that is due, `step` is one step, `batch` its images.
"""

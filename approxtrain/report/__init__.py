"""Tables, figures and one page from archives of runs: what the paper says, what we measured, and whether they agree.

`output.write` is the way in. Nothing here imports jax, and matplotlib is imported when something is drawn.
"""

"""Reproducing the paper's tables and figures: which runs they need, what is there already, how long the rest takes.

`budget`    how long and on what a run trains, and its configuration
`plan`      targets → runs, each of one seed, with its identity
`store`     the folder of archives and run folders, and what it holds of a run
`estimate`  seconds that a run will take, from measured steps
`measure`   a few steps of a network, where no run tells (imports jax)
`execute`   one run, from nothing, from its checkpoint, or from its folder to its archive (imports jax)
"""

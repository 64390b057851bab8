"""Reproducing the paper's tables and figures: which runs they need, what is there already, how long the rest takes.

`experiments`  the paper's tables and figures as data
`budget`       how long and on what a run trains, and its configuration
`planning`     targets → runs, each of one seed, with its identity
`run_store`    the folder of archives and run folders, and what it holds of a run
`estimate`     seconds that a run will take, from measured steps
`execute`      a few steps to estimate from; and one run, from nothing or its checkpoint to its archive (imports jax)
"""

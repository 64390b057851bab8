"""Reproducing the paper's tables and figures: which runs they need, what is there already, how long the rest takes.

`experiments`  the paper's tables and figures as data
`planning`     targets and a budget → runs, each of one seed, with its identity
`estimate`     seconds that a run will take, from measured steps
`execute`      what a folder holds of a run, and one run from nothing or its checkpoint to its archive
"""

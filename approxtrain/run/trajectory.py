"""The number of the trajectories that this program computes.

Two runs of one configuration on the same images take the same steps, up to rounding, if this number is the same. It is
part of a run's identity (`archive.identity`), by which `reproduce` knows what it need not run again; the commit is
recorded, but most commits change no trajectory.

Raise it by hand when the losses of tests/approxtrain/test_golden.py change by more than their tolerance, and when the
default of a key of the configuration changes.
"""

TRAJECTORY = 1

UNKNOWN = 0
"""Of runs that do not state theirs, or that programs of different numbers went on with: equal to no program's."""

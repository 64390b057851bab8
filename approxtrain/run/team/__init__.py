"""Several processes that train one run, on one machine or many, by jax's own distributed runtime.

join.py    who belongs to it: given on the command line, or found by jax; the start of the runtime
team.py    what its processes agree on: values of the first one, and the step at which all of them stop
watch.py   the parent of each process, which says in a sentence how it ended, whatever ended it
"""

from approxtrain.run.team.team import ALONE as ALONE
from approxtrain.run.team.team import Team as Team

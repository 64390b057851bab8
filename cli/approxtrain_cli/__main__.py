"""`python -m approxtrain_cli` is the program `approxtrain`."""

import traceback

from approxtrain.run.team import watch
from approxtrain_cli.main import main
from approxtrain_cli.member import leave

try:
    main()
except SystemExit as end:
    leave(end.code if isinstance(end.code, int) else int(end.code is not None))
    raise
except BaseException:
    if not watch.is_member():
        raise
    traceback.print_exc()
    leave(1)

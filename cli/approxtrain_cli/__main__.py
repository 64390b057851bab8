"""`python -m approxtrain_cli` is the program `approxtrain`."""

from approxtrain_cli.main import main

main()

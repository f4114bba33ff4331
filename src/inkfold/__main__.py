"""`python -m inkfold` is the command `inkfold`."""

import sys

from inkfold.cli.main import main

sys.exit(main())

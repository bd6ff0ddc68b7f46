"""``python -m memfast`` is the command ``memfast``."""

import sys

from memfast.cli import main

sys.exit(main())

"""`python -m sentidistill_jax.cli VERB`, where the console script is not on the path."""

import sys

from sentidistill_jax.cli.main import main

sys.exit(main())

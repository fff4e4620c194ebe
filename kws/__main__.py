"""`python -m kws`, which `torchrun -m kws` needs, is `kws`."""

import sys

from kws.cli import main

sys.exit(main())

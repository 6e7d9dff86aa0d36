"""Runs the driver: `python -m dedup_job`."""

import sys

from dedup_job.main import main

sys.exit(main())

"""`python -m trainers.organ_net`: see `trainers.organ_net.training`."""

import sys

import tyro

from core.errors import AsapError
from trainers.organ_net.training import OrganTraining, train_organ_net

if __name__ == "__main__":
    try:
        sys.stdout.write(f"{train_organ_net(tyro.cli(OrganTraining, description=OrganTraining.__doc__))}\n")
    except AsapError as error:
        sys.exit(str(error))

"""A run that workers of other hosts may join needs nothing of Launchpad or TensorFlow."""

import subprocess
import sys

import pytest

from kipper.launch.link.certificates import make_certificates
from kipper.launch.link.transports.addresses import free_port

pytestmark = pytest.mark.processes


def test_a_run_that_listens_with_grpc_tls_loads_neither(tmp_path):
    make_certificates(str(tmp_path / "certificates"))
    flags = [
        "distill",
        f"--workdir={tmp_path / 'run'}",
        "--dataset=digits",
        "--steps=1",
        "--train_limit=40",
        "--test_limit=20",
        "--target_batch_size=20",
        "--num_workers=1",
        f"--port={free_port()}",
        "--transport=grpc_tls",
        f"--certificates={tmp_path / 'certificates'}",
    ]
    program = (
        f"import sys; from kipper.launch.main import run; assert run({flags!r}) == 0; "
        "found = {'tensorflow', 'launchpad', 'courier', 'reverb', 'ray'} & set(sys.modules); "
        "assert not found, found"
    )
    subprocess.run([sys.executable, "-c", program], check=True, stdout=subprocess.DEVNULL)

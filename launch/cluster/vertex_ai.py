"""Launches the Launchpad program on Vertex AI by Launchpad's own means.

Launchpad, xmanager and Google Cloud report little when something is missing, so their requirements
are checked beforehand.
"""

import importlib.metadata
import importlib.util
import pathlib
import shutil
import tempfile

import kipper
from kipper.common.errors import UserError
from kipper.common.settings import RunSettings
from kipper.launch.local_program import check_launchpad
from kipper.server.algorithms import algorithm_of

_ROOMS = ("common", "workers", "server", "launch")


def launch_on_vertex_ai(settings: RunSettings) -> None:
    """Builds an image with this environment's packages, and starts the program in it.

    The workdir must be a path in the containers that outlasts them, such as a mounted bucket.

    Raises:
        UserError: Launchpad or xmanager is not installed.
    """
    check_launchpad("--lp_launch_type=vertex_ai")
    if importlib.util.find_spec("xmanager") is None:
        raise UserError(
            "--lp_launch_type=vertex_ai needs xmanager, which is not installed; it comes with "
            "pip install 'dm-launchpad[xmanager]'."
        )
    import launchpad as lp
    from launchpad.nodes.python.xm_docker import DockerConfig

    from kipper.launch.program import make_program

    program = make_program(
        settings, with_evaluator=algorithm_of(settings.compute).holds_out_validation
    )
    with tempfile.TemporaryDirectory() as folder:
        config = DockerConfig(
            code_directory=_copy_of_kipper(folder), docker_requirements=_requirements(folder)
        )
        resources = dict.fromkeys(program.groups, config)
        lp.launch(program, launch_type="vertex_ai", xm_resources=resources)


def _copy_of_kipper(folder: str) -> str:
    """A folder that holds the package `kipper` and nothing else."""
    source = pathlib.Path(str(kipper.__file__)).parent
    target = pathlib.Path(folder) / "code" / "kipper"
    target.mkdir(parents=True)
    for path in source.glob("__*__.py"):
        shutil.copy(path, target)
    for room in _ROOMS:
        shutil.copytree(source / room, target / room, ignore=shutil.ignore_patterns("__pycache__"))
    return str(target.parent)


def _requirements(folder: str) -> str:
    """A requirements file of the packages and versions installed here."""
    path = pathlib.Path(folder) / "requirements.txt"
    installed = {
        f"{distribution.name}=={distribution.version}\n"
        for distribution in importlib.metadata.distributions()
        if distribution.name not in ("kipper", "pip")
    }
    path.write_text("".join(sorted(installed)))
    return str(path)

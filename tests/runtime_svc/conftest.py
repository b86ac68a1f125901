import pytest

from runtime_svc.engine import Engine
from runtime_svc.random_checkpoint import Shape, write_random_checkpoint


@pytest.fixture(scope="session")
def random_directory(tmp_path_factory):
    return write_random_checkpoint(tmp_path_factory.mktemp("random") / "small", Shape(), seed=5)


@pytest.fixture(scope="session")
def engine(random_directory):
    """A small random model: its text is noise, its work is real."""
    return Engine.load(random_directory)

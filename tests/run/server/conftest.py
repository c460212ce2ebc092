"""One tiny model and a scheduler for it, fresh for every test."""

import contextlib
import sys
from pathlib import Path

import pytest
from tiny import write_model

import lrc
from lrc.run.server.options import ServeOptions
from lrc.run.server.scheduler import Scheduler

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def loaded(tmp_path_factory):
    return lrc.load(write_model(tmp_path_factory.mktemp("serve") / "tiny"))


@pytest.fixture
def scheduler_for(loaded):
    """Makes schedulers with options, and stops them in the end."""
    with contextlib.ExitStack() as stack:

        def make(**options):
            made = Scheduler(loaded, ServeOptions(**options), threads=1)
            stack.callback(made.stop)
            return made

        yield make


@pytest.fixture
def app_for(loaded, scheduler_for):
    """Makes applications with options."""
    pytest.importorskip("starlette", reason="needs the extra serve")
    from lrc.run.server.http import Application

    def make(hosts=("localhost",), **options):
        scheduler = scheduler_for(**options)
        return Application(loaded, scheduler, ServeOptions(**options), "tiny", hosts).asgi()

    return make

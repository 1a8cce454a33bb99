"""The composition root: a service that fails takes no other one with it."""

import asyncio
from datetime import UTC, datetime, timedelta

import psycopg
from pydantic import SecretStr

from api.run import open_core, serve
from domain.aggregates.job import Waiting
from services.settings import Settings
from tests.histories import Story, Views
from tests.services.beside import until
from tests.spec import start


async def test_leases_run_out_though_files_cannot_be_swept(dsn: str, nats_url: str) -> None:
    settings = Settings(postgres_dsn=SecretStr(dsn), nats_url=SecretStr(nats_url), lease_s=1.0)
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("drop table file_sweeps")
    async with open_core(settings, "test") as core:
        story = Story(core.ledger, lambda: datetime.now(UTC) - timedelta(hours=1))
        job_id = await asyncio.to_thread(story.submit, 1)
        await asyncio.to_thread(story.tell, job_id, start(1))
        await asyncio.to_thread(Views(core.database, core.ledger).catch_up)
        stop = asyncio.Event()
        serving = asyncio.create_task(serve(["reaper"], core, stop, None, lambda: None))
        try:
            await until(lambda: isinstance(core.ledger.generation(job_id).job, Waiting))
        finally:
            stop.set()
            await serving

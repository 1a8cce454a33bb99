"""`python -m benchmarks.procrastinate_worker DSN JOBS_AT_ONCE`: the peer of `no-op-jobs`, run as it is documented."""

import asyncio
import logging
import sys

from procrastinate import App, PsycopgConnector


def app_of(dsn: str) -> App:
    """Procrastinate on this database, with one task that does nothing."""
    app = App(connector=PsycopgConnector(conninfo=dsn))

    @app.task(name="render")
    async def render(prompt: str, quantity: int) -> None:
        """Nothing, as the engine of the other side."""

    return app


async def work(dsn: str, jobs_at_once: int) -> None:
    """Until SIGTERM."""
    app = app_of(dsn)
    async with app.open_async():
        await app.run_worker_async(concurrency=jobs_at_once)


if __name__ == "__main__":
    logging.getLogger("procrastinate").setLevel(logging.ERROR)
    asyncio.run(work(sys.argv[1], int(sys.argv[2])))

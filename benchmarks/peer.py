"""A peer: Procrastinate, a well-kept job queue on PostgreSQL, doing nothing as fast as it can."""

import asyncio
import time

import psycopg
from procrastinate import App, PsycopgConnector
from psycopg import sql

from database.access import Access, connect, psycopg_url

JOBS = 2_000
SCHEMA = "peer"


def rate(ways: Access) -> float:
    """Jobs a second, the better of one worker and of two, ten at a time each, on this server."""
    with connect(ways.owner) as connection:
        connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(SCHEMA)))
    try:
        return max(asyncio.run(_run(ways, workers)) for workers in (1, 2))
    finally:
        with connect(ways.owner) as connection:
            connection.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(SCHEMA)))


async def _run(ways: Access, workers: int) -> float:
    url = psycopg_url(ways.owner)
    apps = [
        App(
            connector=PsycopgConnector(conninfo=url, kwargs={"options": f"-c search_path={SCHEMA}"})
        )
        for _ in range(workers)
    ]
    for app in apps:
        app.task(name="nothing")(_nothing)
        await app.open_async()
    try:
        if workers == 1:
            await apps[0].schema_manager.apply_schema_async()
        await apps[0].configure_task("nothing").batch_defer_async(*[{} for _ in range(JOBS)])
        begun = time.monotonic()
        await asyncio.gather(
            *(app.run_worker_async(concurrency=10, wait=False, listen_notify=False) for app in apps)
        )
        took = time.monotonic() - begun
    finally:
        for app in apps:
            await app.close_async()
    _assert_done(url, JOBS * workers)
    return JOBS / took


def _nothing() -> None:
    """Do nothing."""


def _assert_done(url: str, number: int) -> None:
    with psycopg.connect(url, options=f"-c search_path={SCHEMA}") as connection:
        [(done,)] = connection.execute(
            "SELECT count(*) FROM procrastinate_jobs WHERE status = 'succeeded'"
        ).fetchall()
    assert done == number, done

"""The composition root: the only place where real clients are made and handed to those who need them."""

from __future__ import annotations

import os
import random
import secrets
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import httpx

from app.adapters.documents import DocumentSources, FetchedDocuments
from app.adapters.images import WebImages
from app.adapters.model import ModelConfig, OpenAIModel
from app.adapters.progress import UpstreamProgress
from app.adapters.reader import ChildReader
from app.adapters.secrets import Seal, WeakKeyError
from app.adapters.shops import Shops
from app.connections import Connections, open_connections
from app.db.documents import DocumentStore
from app.db.drafts import PostgresDrafts, PostgresImages
from app.db.effects import PostgresEffects
from app.db.merchants import Merchants
from app.db.orders import PostgresOrders
from app.db.people import People
from app.db.runs import PostgresRuns
from app.db.session import Database, PoolSize
from app.settings import Settings, SettingsError
from pipeline import flow
from pipeline.clock import Clock, SystemClock
from pipeline.contract import Stage
from pipeline.effects import Ledger
from pipeline.queue.bull import Bull
from pipeline.queue.heartbeat import Heartbeat
from pipeline.queue.job import RateLimit
from pipeline.reconciler import Reconciler
from pipeline.runner import Runner
from pipeline.stages.ai_enrichment import AiEnrichment
from pipeline.stages.ai_parsing import AiParsing
from pipeline.stages.background_image_processing import BackgroundImageProcessing
from pipeline.stages.data_normalization import DataNormalization
from pipeline.stages.database_save import DatabaseSave
from pipeline.stages.image_attachment import ImageAttachment
from pipeline.stages.merchant_config import MerchantConfig
from pipeline.stages.product_draft_creation import ProductDraftCreation
from pipeline.stages.shopify_payload import ShopifyPayload
from pipeline.stages.shopify_sync import ShopifySync
from pipeline.stages.status_update import StatusUpdate
from pipeline.worker import Observe, Worker, WorkerConfig


@dataclass(frozen=True, slots=True)
class Core:
    """What every part of the service needs: the two stores, and what stands directly on them."""

    settings: Settings
    clock: Clock
    database: Database
    connections: Connections
    bull: Bull
    runs: PostgresRuns
    merchants: Merchants
    people: People
    name: str


@asynccontextmanager
async def open_core(settings: Settings, clock: Clock | None = None) -> AsyncIterator[Core]:
    """Open the pool and the three connections for as long as the block runs."""
    clock = clock or SystemClock()
    redis_url, database_url = _addresses(settings)
    # Unique per process, not only per host: a restarted container keeps its name and gets pid 1 again.
    name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
    database = Database(database_url, PoolSize(settings.database_pool_size))
    try:
        async with open_connections(
            redis_url, clock, connect_timeout_s=settings.redis_connect_timeout_seconds, name=f"po:{name}"
        ) as connections:
            yield Core(
                settings=settings,
                clock=clock,
                database=database,
                connections=connections,
                bull=Bull(connections.commands, prefix=settings.queue_prefix, leases=connections.leases, clock=clock),
                runs=PostgresRuns(database, max_stalls=settings.max_stalls),
                merchants=Merchants(database, _seal(settings), api_version=settings.shopify_api_version),
                people=People(database),
                name=name,
            )
    finally:
        await database.close()


@asynccontextmanager
async def open_worker(
    core: Core,
    *,
    reach: Callable[[str], None] = lambda _gap: None,
    observe: Observe = lambda _queue, _outcome, _seconds: None,
) -> AsyncIterator[Worker]:
    """Build one worker on the core. `reach` is called in each gap between two writes; tests die there."""
    settings = core.settings
    async with AsyncExitStack() as stack:
        stages = await _stages(core, stack, reach)
        heartbeat = Heartbeat(core.bull, core.clock, every_s=settings.heartbeat_seconds, lease_s=settings.lease_seconds)
        runner = Runner(
            bull=core.bull,
            runs=core.runs,
            stages=stages,
            heartbeat=heartbeat,
            progress=UpstreamProgress(core.connections.commands, core.database),
            clock=core.clock,
            random=random.random,
            worker=core.name,
            reach=reach,
        )
        reconciler = Reconciler(
            core.bull,
            core.runs,
            core.clock,
            every_s=settings.reconcile_seconds,
            quiet_s=settings.lease_seconds + settings.stalled_seconds,
        )
        yield Worker(
            bull=core.bull,
            events=core.connections.events,
            runner=runner,
            heartbeat=heartbeat,
            reconciler=reconciler,
            pauses=core.runs,
            clock=core.clock,
            random=random.random,
            observe=observe,
            config=WorkerConfig(
                name=core.name,
                stages=settings.stage_names,
                lease_s=settings.lease_seconds,
                guard_s=settings.guard_seconds,
                stalled_s=settings.stalled_seconds,
                retry_delay_s=settings.retry_delay_seconds,
                grace_s=settings.shutdown_grace_seconds,
                limits={name: RateLimit(*limit) for name, limit in settings.rate_limits.items()},
            ),
        )


async def _stages(core: Core, stack: AsyncExitStack, reach: Callable[[str], None]) -> Mapping[str, Stage]:
    settings = core.settings
    shop_http = await stack.enter_async_context(httpx.AsyncClient(timeout=30, trust_env=False))
    orders = PostgresOrders(core.database)
    documents = FetchedDocuments(DocumentStore(core.database), _document_sources(settings), core.clock)
    stack.push_async_callback(documents.aclose)
    model = OpenAIModel(_model_config(settings), core.clock)
    stack.push_async_callback(model.aclose)
    shops = Shops(shop_http, core.merchants.credentials, core.clock)
    ledger = Ledger(PostgresEffects(core.database), reach)
    reader = ChildReader()
    if flow.FIRST in settings.stage_names:  # no child process where nothing is read
        await stack.enter_async_context(reader)
    stages: tuple[Stage, ...] = (
        AiParsing(documents, reader, model),
        DatabaseSave(orders, orders),
        DataNormalization(),
        MerchantConfig(),
        AiEnrichment(model),
        ShopifyPayload(orders),
        ProductDraftCreation(),
        ImageAttachment(orders),
        ShopifySync(shops, PostgresDrafts(core.database), orders, orders, ledger, core.clock),
        StatusUpdate(),
        BackgroundImageProcessing(
            shops, PostgresImages(core.database), WebImages(settings.image_host_map), ledger, core.clock
        ),
    )
    return dict(zip(flow.NAMES, stages, strict=True))


def _addresses(settings: Settings) -> tuple[str, str]:
    missing = [name for name in ("redis_url", "database_url") if getattr(settings, name) is None]
    if settings.redis_url is None or settings.database_url is None:
        raise SettingsError(f"{' and '.join(missing).upper()} must be set; `python3 run.py serve` brings its own")
    return settings.redis_url.get_secret_value(), settings.database_url.get_secret_value()


def _document_sources(settings: Settings) -> DocumentSources:
    key = settings.supabase_service_role_key
    return DocumentSources(
        supabase_url=settings.supabase_url,
        supabase_key="" if key is None else key.get_secret_value(),
        hosts=settings.document_hosts,
        folder=settings.document_folder,
        trusted_bases=settings.trusted_bases,
    )


def _model_config(settings: Settings) -> ModelConfig:
    key = settings.openai_api_key
    return ModelConfig(
        "" if key is None else key.get_secret_value(),
        settings.openai_base_url,
        settings.openai_model,
        settings.model_timeout_seconds,
    )


def _seal(settings: Settings) -> Seal | None:
    if settings.secret_key is None:
        return None
    try:
        return Seal(settings.secret_key.get_secret_value())
    except WeakKeyError as error:
        raise SettingsError(str(error)) from None

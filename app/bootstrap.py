"""The worker's composition root: the stages with what they stand on, and the roles of one process.

`app.core` opens the stores; this opens vendors and child processes. Nowhere else are real clients made.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, aclosing, asynccontextmanager

import httpx

from app.adapters.documents import DocumentSources, FetchedDocuments
from app.adapters.images import WebImages
from app.adapters.model import ModelConfig, OpenAIModel
from app.adapters.progress import UpstreamProgress
from app.adapters.reader import ChildReader
from app.adapters.shopify.tokens import ShopTokens
from app.adapters.shops import Shops
from app.core import Core
from app.db.creations import PostgresCreations
from app.db.documents import DocumentStore
from app.db.drafts import PostgresDrafts, PostgresImages
from app.db.effects import PostgresEffects
from app.db.orders import PostgresOrders
from app.db.plans import PostgresPlans
from app.settings import Settings
from app.tls import tls
from app.token_keeper import TokenKeeper
from pipeline import flow
from pipeline.claimer import Observe
from pipeline.contract import Stage
from pipeline.effects import Ledger
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
from pipeline.worker import Worker, WorkerConfig


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


@asynccontextmanager
async def open_shops(core: Core) -> AsyncIterator[Shops]:
    """The merchants' shops, over connections of their own, within the limits that all replicas share."""
    async with (
        httpx.AsyncClient(timeout=30, trust_env=False, verify=tls()) as http,
        aclosing(tokens_of(core, http)) as tokens,
    ):
        yield Shops(http, tokens.credentials, core.clock, core.shop_limits, renew=tokens.credentials)


async def _stages(core: Core, stack: AsyncExitStack, reach: Callable[[str], None]) -> Mapping[str, Stage]:
    settings = core.settings
    orders = PostgresOrders(core.database)
    documents = FetchedDocuments(DocumentStore(core.database), _document_sources(settings), core.clock)
    stack.push_async_callback(documents.aclose)
    model = OpenAIModel(_model_config(settings), core.clock)
    stack.push_async_callback(model.aclose)
    shops = await stack.enter_async_context(open_shops(core))
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
        ShopifySync(
            shops,
            PostgresDrafts(core.database),
            orders,
            orders,
            ledger,
            core.clock,
            PostgresPlans(core.database),
            PostgresCreations(core.database),
        ),
        StatusUpdate(),
        BackgroundImageProcessing(
            shops, PostgresImages(core.database), WebImages(settings.image_host_map, core.clock), ledger, core.clock
        ),
    )
    return dict(zip(flow.NAMES, stages, strict=True))


def tokens_of(core: Core, http: httpx.AsyncClient) -> ShopTokens:
    """What opens the shops, for as long as `http` is open."""
    return ShopTokens(core.grants, http, core.clock, api_version=core.settings.shopify_api_version, name=core.name)


@asynccontextmanager
async def open_token_keeper(core: Core) -> AsyncIterator[TokenKeeper]:
    """What keeps quiet shops connected."""
    async with httpx.AsyncClient(timeout=30, trust_env=False, verify=tls()) as http:
        tokens = tokens_of(core, http)
        try:
            yield TokenKeeper(core.grants, core.merchants, tokens, core.clock)
        finally:
            await tokens.aclose()


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

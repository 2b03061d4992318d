"""`merchants ...`: who may be sent orders for, and what opens their shops.

A secret is never an argument: others on the machine can read those. It comes from stdin, from a file, or is asked for.
"""

from __future__ import annotations

import getpass
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import BaseModel, ConfigDict, ValidationError

from app.cli_running import AsJson, who, with_core
from app.cli_tables import Screen
from app.db.errors import ConflictError, InvalidError

if TYPE_CHECKING:
    from app.core import Core
    from app.db.grants import Access
    from pipeline.domain.merchant import Merchant

app = typer.Typer(no_args_is_help=True, help="Who may be sent orders for.")


class Given(BaseModel):
    """What opens a shop, as Shopify answers it, or as its Dev Dashboard shows it."""

    model_config = ConfigDict(extra="ignore", hide_input_in_errors=True, str_strip_whitespace=True)

    access_token: str = ""
    refresh_token: str = ""
    expires_in: float = 0
    client_id: str = ""
    client_secret: str = ""


@app.command("add")
def add(
    merchant_id: Annotated[str, typer.Argument(metavar="ID", help="Upstream's Merchant.id.")],
    shop: Annotated[str, typer.Option(help="The shop's domain, like acme.myshopify.com.")],
    name: Annotated[str, typer.Option(help="As people call it.")] = "",
    rules: Annotated[Path | None, typer.Option(help="A JSON file with the merchant's settings.", exists=True)] = None,
    token_stdin: Annotated[
        bool, typer.Option("--token-stdin", help="Read the shop's access token, one line, from stdin.")
    ] = False,
    credentials: Annotated[
        str,
        typer.Option(metavar="FILE", help="JSON with what opens the shop, - for stdin; docs/shops.md has the forms."),
    ] = "",
    ask: Annotated[bool, typer.Option("--ask", help="Ask for it here, without showing it.")] = False,
    endpoint: Annotated[str, typer.Option(help="The GraphQL address, where it is not Shopify's own.")] = "",
    check: Annotated[bool, typer.Option(help="Look at the shop afterwards.")] = True,
) -> None:
    """Store a merchant, or change one, and look at the shop. Exits with 1 if orders would not get into it."""

    async def work(core: Core) -> int:
        wanted = _merchant(merchant_id, name, shop, rules)
        access = _access(token_stdin=token_stdin, credentials=credentials, ask=ask)
        stored = await core.merchants.add(wanted, endpoint=endpoint, access=access)
        if access is not None:
            await _go_on(core, stored.id)  # what the old access was parked for
        Screen().say(f"merchant {stored.id}, shop {stored.shop_domain}, settings version {stored.settings_version}")
        return await _look(core, stored) if check else 0

    with_core(work)


@app.command("check")
def check_shop(merchant_id: Annotated[str, typer.Argument(metavar="ID")]) -> None:
    """Look at a merchant's shop: token, scopes, location, version. Exits with 1 if orders would not get into it."""

    async def work(core: Core) -> int:
        return await _look(core, await core.merchants.get(merchant_id))

    with_core(work)


@app.command("unpark")
def unpark(merchant_id: Annotated[str, typer.Argument(metavar="ID", help="The merchant's id.")]) -> None:
    """The shop is put right: let its runs go on at once."""

    async def work(core: Core) -> None:
        await core.merchants.get(merchant_id)
        if not await _let_go(core, merchant_id):
            raise ConflictError(f"nothing holds the runs of {merchant_id} up")
        Screen().say(f"the shop of {merchant_id} is called again, and its runs go on")

    with_core(work)


@app.command("list")
def list_all(as_json: AsJson = False) -> None:
    """List the merchants, how their shops are connected, and what is wrong with any."""

    async def work(core: Core) -> None:
        known = await core.merchants.list_all()
        states = await core.grants.states()
        if not as_json:
            Screen().merchants(known, states)
            return
        rows = []
        for one in known:
            state = states.get(one.id)
            connection = None if state is None else {"kind": state.kind, "expires_at": state.expires_at}
            trouble = "" if state is None else state.trouble
            rows.append({**one.model_dump(mode="json"), "connection": connection, "trouble": trouble})
        Screen().json(rows)

    with_core(work)


@app.command("reseal")
def reseal() -> None:
    """Seal every secret anew with the first key of SECRET_KEY, so that the others may be taken out of it."""

    async def work(core: Core) -> None:
        Screen().say(f"secrets sealed anew: {await core.grants.reseal()}; the older keys may leave SECRET_KEY now")

    with_core(work)


@app.command("erase")
def erase(
    merchant_id: Annotated[str, typer.Argument(metavar="ID")],
    yes: Annotated[bool, typer.Option("--yes", help="Yes, all of it, and for good.")] = False,
) -> None:
    """Erase a merchant: every order, document, product, secret and job. The shop itself is not touched."""

    async def work(core: Core) -> None:
        from app.erasing import StillBusyError, erase_merchant

        merchant = await core.merchants.get(merchant_id)
        if not yes:
            raise InvalidError(f"this erases all that is known of {merchant.shop_domain}, for good: add --yes")
        try:
            erased = await erase_merchant(
                core.database,
                core.bull,
                core.connections.commands,
                merchant_id,
                who=who(),
                cause="merchants erase",
            )
        except StillBusyError:
            raise ConflictError("its orders are stopped, and one is still being worked on: again in a minute") from None
        Screen().say(f"erased: {', '.join(f'{count} {table}' for table, count in sorted((erased or {}).items()))}")

    with_core(work)


async def _let_go(core: Core, merchant_id: str) -> bool:
    """A person has put a shop right: its runs need not wait until they ask again. False if nothing held them up."""
    from app.letting_go import let_go

    return await let_go(core.shop_limits, core.database, core.bull, merchant_id, who())


async def _go_on(core: Core, merchant_id: str) -> None:
    from app.letting_go import go_on

    await go_on(core.database, core.bull, merchant_id)


async def _look(core: Core, merchant: Merchant) -> int:
    from app.connecting import examine_shop

    checks = await examine_shop(core, merchant)
    Screen().checks(checks)
    failed = any(one.level == "fail" for one in checks)
    reached = any(one.what == "domain" for one in checks)
    if reached and not failed and await _let_go(core, merchant.id):
        Screen().say("the shop was parked, and is no more: its orders go on")
    if failed:
        Screen().say("orders cannot get into this shop yet: put that right and run `merchants check`", "red")
    elif any(one.level == "warn" for one in checks):
        Screen().say("orders can get into this shop, within what is said above", "yellow")
    else:
        Screen().say("the shop is ready for orders", "green")
    return int(failed)


def _merchant(merchant_id: str, name: str, shop: str, rules: Path | None) -> Merchant:
    from pipeline.domain.merchant import Merchant, MerchantSettings

    try:
        chosen = MerchantSettings.model_validate_json(rules.read_bytes() if rules else b"{}")
    except ValidationError as error:
        problem = error.errors()[0]
        raise InvalidError(f"{rules}: {'.'.join(map(str, problem['loc']))}: {problem['msg']}") from None
    return Merchant(id=merchant_id, name=name or merchant_id, shop_domain=shop, settings=chosen)


def _access(*, token_stdin: bool, credentials: str, ask: bool) -> Access | None:
    if sum((token_stdin, bool(credentials), ask)) > 1:
        raise InvalidError("give what opens the shop in one way: --token-stdin, --credentials or --ask")
    if token_stdin:
        return _chosen(Given(access_token=sys.stdin.readline()))
    if ask:
        return _chosen(_asked())
    if not credentials:
        return None
    try:
        text = sys.stdin.read() if credentials == "-" else Path(credentials).read_text(encoding="utf-8")
        return _chosen(Given.model_validate_json(text))
    except OSError as error:
        raise InvalidError(f"{credentials}: {error.strerror}") from None
    except (ValidationError, UnicodeDecodeError):
        raise InvalidError(f"{credentials}: this is not JSON with the credentials of a shop") from None


def _asked() -> Given:
    token = getpass.getpass("access token (empty for an app's client id and secret): ").strip()
    if token:
        return Given(access_token=token)
    return Given(client_id=input("client id: "), client_secret=getpass.getpass("client secret: "))


def _chosen(given: Given) -> Access:
    """The kind of access that what was given makes possible."""
    from app.db.grants import ClientCredentials, OfflineToken, StaticToken

    if given.refresh_token:
        return OfflineToken(
            given.refresh_token, given.access_token, given.expires_in, given.client_id, given.client_secret
        )
    if given.access_token:
        return StaticToken(given.access_token, given.client_secret)
    if given.client_id and given.client_secret:
        return ClientCredentials(given.client_id, given.client_secret)
    needed = "an access_token, a refresh_token, or a client_id and client_secret"
    raise InvalidError(f"nothing given opens a shop: {needed}")

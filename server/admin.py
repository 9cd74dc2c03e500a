"""What only an operator may do: look at the settings, empty the cache, end requests."""

from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, StrictBool

from .. import __version__
from ..engine.errors import BadRequestError
from .fields import ListOf, Text
from .responses import ANSWERS_OF_ERRORS
from .service import ServiceOfApp

ADMIN_PATHS = frozenset({"/server_info", "/reset_prefix_cache", "/abort_requests"})
_ID_PREFIXES = ("", "cmpl-", "chatcmpl-")

router = APIRouter(responses=ANSWERS_OF_ERRORS)


class ServerInfo(BaseModel):
    """Answer of GET /server_info. Of keys only the number is told."""

    version: str
    model: str
    served_model_names: list[str]
    max_model_len: int
    settings: dict[str, Any]
    engine: dict[str, Any]


class CacheReset(BaseModel):
    """Answer of POST /reset_prefix_cache."""

    blocks_forgotten: int


class AbortBody(BaseModel):
    """Body of POST /abort_requests: ids as answers bear them, with or without `cmpl-`, or all."""

    model_config = ConfigDict(extra="forbid")

    request_ids: ListOf[Text] | None = None
    all: StrictBool = False


class Aborted(BaseModel):
    """Answer of POST /abort_requests: how many choices were ended."""

    aborted: int


@router.get("/server_info")
async def server_info(request: Request, service: ServiceOfApp) -> ServerInfo:
    """Version, model, and every setting as it is in force."""
    engine = service.engine
    settings = engine.settings.model_dump(mode="json")
    for name, number in request.app.state.keys.numbers.items():
        settings[name] = f"{number} key(s)"
    return ServerInfo(
        version=__version__,
        model=engine.info.path,
        served_model_names=list(engine.info.served_names),
        max_model_len=engine.info.max_model_len,
        settings=settings,
        engine=engine.config_values(),
    )


@router.post("/reset_prefix_cache")
async def reset_prefix_cache(service: ServiceOfApp) -> CacheReset:
    """Forget all cached prefixes. Requests that run keep their blocks, but nobody shares them."""
    return CacheReset(blocks_forgotten=await service.engine.reset_prefix_cache())


@router.post("/abort_requests")
async def abort_requests(body: AbortBody, service: ServiceOfApp) -> Aborted:
    """End requests now; their clients get what there is, with `finish_reason` abort."""
    if body.all == (body.request_ids is not None):
        raise BadRequestError('Give either `request_ids` or `"all": true`.', "request_ids")
    given = body.request_ids or ()
    ids = None if body.all else {prefix + one for one in given for prefix in _ID_PREFIXES}
    return Aborted(aborted=await service.engine.abort_everywhere(ids, "operator"))

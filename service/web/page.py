"""The start page, which shows the models. Its links are relative, for use behind proxies."""

from __future__ import annotations

from html import escape
from math import prod
from pathlib import Path
from string import Template

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse

from model_store.vae.family import Operation
from model_store.vae.sentences import shape_text

from ..http.state import CurrentState
from ..inference.served_model import ServedModel

router = APIRouter(include_in_schema=False)

_PAGE = Template((Path(__file__).parent / "page.html").read_text(encoding="utf-8"))
_KEY_FORM = (Path(__file__).parent / "key_form.html").read_text(encoding="utf-8")
_SAMPLE = "sample?n=16&amp;seed=7&amp;format=png"
_TRAVERSE = Template("traverse?dims=$dims&amp;steps=4&amp;span=1&amp;format=png")
_MADE = Template('<img src="v1/models/$name/$address" alt="images that $name makes">')
_MODEL = Template(
    '<article>$images_made<div><h2><a href="v1/models/$name">$name</a></h2>'
    "<p>${default}images $images, latents $latents, $parameters parameters</p>$warnings</div></article>"
)


@router.head("/")
@router.get("/")
async def page(request: Request, state: CurrentState) -> HTMLResponse:
    """The start page: links, example commands, and images of each model; without a key, where one is needed, a form.

    The form's script gets the page again with the key. A browser cannot send a key when it opens a page or a picture.
    """
    models = ""
    if state.may_know_names(request.scope):
        default = state.registry.default
        articles = [article(served, is_default=served is default) for served in state.registry.served]
        models = "\n".join(articles) or "<p>No models yet.</p>"
    form = "" if state.keys.admit(request.scope["headers"]) else _KEY_FORM
    key = " -H 'Authorization: Bearer KEY'" if form else ""
    address = escape(str(request.base_url).rstrip("/"))
    return HTMLResponse(_PAGE.substitute(form=form, models=models, address=address, key=key))


def article(served: ServedModel, *, is_default: bool) -> str:
    """A model and sixteen images that it makes: samples, or steps along its latents if it has no prior to draw from.

    A model that others trained for photographs can make none of nothing.
    """
    config = served.card.model
    dims = ",".join(map(str, range(min(4, prod(config.example_latent_shape)))))
    return _MODEL.substitute(
        name=escape(str(served.version)),
        images_made=_made_by(served, "sample", _SAMPLE)
        or _made_by(served, "traverse", _TRAVERSE.substitute(dims=dims)),
        default="the default model; " if is_default else "",
        images=shape_text(config.image_shape),
        latents=shape_text(config.latent_shape),
        parameters=f"{served.card.weights.parameters:,}",
        warnings="".join(f'<p class="warning">Warning: {escape(text)}</p>' for text in served.card.warnings),
    )


def _made_by(served: ServedModel, operation: Operation, address: str) -> str:
    """The images that a model makes of nothing, if it can do the operation."""
    if operation not in served.card.model.can:
        return ""
    return _MADE.substitute(name=escape(str(served.version)), address=address)

"""The API's own documentation page: no script from elsewhere, it works without the internet."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, RedirectResponse, Response

from dashboard.parts import signed_in
from dashboard.problems import Problem

router = APIRouter(include_in_schema=False)

PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Watchroom API</title>
<meta name="viewport" content="width=device-width"><link rel="stylesheet" href="/api/docs/style.css">
</head><body><h1>Watchroom API</h1><p id="about"></p>
<p>Machine-readable: <a href="/api/openapi.json">/api/openapi.json</a></p><main id="paths"></main>
<script src="/api/docs/script.js"></script></body></html>
"""
STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:64rem;margin:2rem auto;padding:0 1rem;color:#1b1f22}
details{border:1px solid #bcc0c3;border-radius:4px;margin:.4rem 0;padding:.3rem .7rem}
summary{cursor:pointer}code,pre{font-family:ui-monospace,monospace;font-size:13px}
pre{background:#eeeff0;padding:.6rem;overflow:auto}.method{display:inline-block;width:4.5rem;font-weight:650}
td,th{text-align:left;padding:.1rem .8rem .1rem 0;vertical-align:top}
@media (prefers-color-scheme:dark){body{background:#1b1d1f;color:#e2e4e6}pre{background:#2c3033}a{color:#7db7ef}}
"""
SCRIPT = """'use strict'
const make = (name, text = '', cls = '') => {
  const node = document.createElement(name)
  node.textContent = text
  if (cls) node.className = cls
  return node
}
const resolve = (spec, schema, depth = 0) => {
  if (!schema || depth > 6) return schema
  if (schema.$ref) return resolve(spec, spec.components.schemas[schema.$ref.split('/').pop()], depth + 1)
  if (schema.anyOf) return schema.anyOf.map((one) => resolve(spec, one, depth + 1))
  if (schema.type === 'array') return [resolve(spec, schema.items, depth + 1)]
  if (schema.properties) {
    const entries = Object.entries(schema.properties)
    return Object.fromEntries(entries.map(([key, one]) => [key, resolve(spec, one, depth + 1)]))
  }
  return schema.enum ? schema.enum.join(' | ') : schema.const ?? schema.type ?? 'any'
}
const body = (spec, title, content) => {
  const schema = content?.['application/json']?.schema
  return schema ? [make('h4', title), make('pre', JSON.stringify(resolve(spec, schema), null, 1))] : []
}
const operation = (spec, path, method, item) => {
  const box = make('details')
  const head = make('summary')
  head.append(make('span', method.toUpperCase(), 'method'), make('code', path), ' ', item.summary ?? '')
  box.append(head, make('p', item.description ?? ''))
  if (item.parameters?.length) {
    const table = make('table')
    for (const one of item.parameters) {
      const row = make('tr')
      row.append(make('td', one.name), make('td', one.in), make('td', one.description ?? ''))
      table.append(row)
    }
    box.append(table)
  }
  box.append(...body(spec, 'Request', item.requestBody?.content))
  for (const [status, reply] of Object.entries(item.responses ?? {})) {
    box.append(...body(spec, `Answer ${status}`, reply.content))
  }
  return box
}
const show = (spec) => {
  document.getElementById('about').textContent = `${spec.info.description ?? ''} Version ${spec.info.version}.`
  const place = document.getElementById('paths')
  for (const [path, methods] of Object.entries(spec.paths)) {
    for (const [method, item] of Object.entries(methods)) place.append(operation(spec, path, method, item))
  }
}
fetch('/api/openapi.json').then((reply) => reply.json()).then(show)
"""


@router.get("/api/docs")
async def page(request: Request) -> Response:
    """Return the page; a browser that is not signed in is sent to sign in."""
    try:
        await signed_in(request)
    except Problem:
        if "text/html" in request.headers.get("accept", ""):
            return RedirectResponse("/", 303)
        raise
    return Response(PAGE, media_type="text/html")


@router.get("/api/docs/style.css")
async def style() -> Response:
    """Return its style."""
    return Response(STYLE, media_type="text/css")


@router.get("/api/docs/script.js")
async def script() -> Response:
    """Return its script."""
    return Response(SCRIPT, media_type="text/javascript")


@router.get("/api/openapi.json")
async def schema(request: Request) -> Response:
    """Return the OpenAPI description."""
    await signed_in(request)
    return JSONResponse(request.app.openapi())

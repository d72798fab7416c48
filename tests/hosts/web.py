"""The shop behind HTTP, for each kind of web server."""

from __future__ import annotations

import fastapi
import flask
import shop

asgi = fastapi.FastAPI()
asgi.post("/orders/{order_id}")(shop.charge_async)
wsgi = flask.Flask("shop")
wsgi.post("/orders/<order_id>")(shop.charge)

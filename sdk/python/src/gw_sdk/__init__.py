"""What a plugin in Python is written against: a request in, a response out, models by name.

>>> from gw_sdk import HttpError, Request, handler
>>> @handler
... def hello(request: Request) -> dict:
...     return {"hello": request.path}

- `handler`, `init`: what makes a plugin of a module.
- `pre`, `post`, `Infer`, `Pass`, `Watch`, `Answer`: hooks, before and after a model.
- `Request`, `Response`, `HttpError`: what comes in, goes out, and says what is wrong.
- `Graph`, `Tensor`, `ModelError`: models and what they take and give.
- `config`, `keyvalue`, `fetch`: what ``gw.toml`` grants.

The standard module ``logging`` writes to the node's log. Graphs and what ``gw.toml`` grants need the
host; all else imports natively too, for tests.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .errors import HttpError
from .hooks import Answer, Infer, Pass, Watch, post, pre
from .http import Request, Response
from .outputs import ModelError, Outputs
from .registry import handler, init
from .tensor import Tensor

if TYPE_CHECKING:
    from . import config, keyvalue
    from .grants import GrantError
    from .nn import Context, Graph
    from .outbound import FetchError, fetch

__all__ = [
    "Answer",
    "Context",
    "FetchError",
    "GrantError",
    "Graph",
    "HttpError",
    "Infer",
    "ModelError",
    "Outputs",
    "Pass",
    "Request",
    "Response",
    "Tensor",
    "Watch",
    "config",
    "fetch",
    "handler",
    "init",
    "keyvalue",
    "post",
    "pre",
]

# What needs an interface of the host, by its module: loaded when it is named first, so that a
# plugin imports no more of the host than it uses.
_LAZY = {
    "Context": "nn",
    "FetchError": "outbound",
    "GrantError": "grants",
    "Graph": "nn",
    "config": "config",
    "fetch": "outbound",
    "keyvalue": "keyvalue",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'gw_sdk' has no attribute {name!r}")
    module = import_module(f".{_LAZY[name]}", __name__)
    return module if name == _LAZY[name] else getattr(module, name)

"""The values of ``config`` and the secrets that ``secrets`` names in gw.toml."""

from componentize_py_types import Err
from wit_world.imports import wasi_config_store_0_2_0_rc_1 as wit_config

from .grants import GrantError


def get(key: str) -> str | None:
    """A value or a secret, or ``None``. Raises `GrantError` where the plugin is granted neither."""
    try:
        return wit_config.get(key)
    except Err as error:
        raise GrantError("the configuration", error) from None


def get_all() -> dict[str, str]:
    """All values, without secrets."""
    try:
        return dict(wit_config.get_all())
    except Err as error:
        raise GrantError("the configuration", error) from None

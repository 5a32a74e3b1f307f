"""Every setting of the tap: from the command line, else from the environment, else its default."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from . import __version__


class Mistake(Exception):
    """A setting that cannot be used; the text says which, and what to do."""


@dataclass(frozen=True)
class Settings:
    """How this tap runs."""

    script: Path
    script_arguments: list[str]
    #: Base URL of the voicebus ingress.
    ingress: str
    #: Opens the ingress's doors for events.
    event_token: str | None
    #: Opens the tap's own routes, and what ``protect`` closes.
    token: str | None
    #: Whether the server's own routes that dial or read calls need the token too.
    protect: bool
    data_dir: Path
    #: How much may wait on disk before new events are dropped, in bytes.
    buffer_bytes_max: int
    #: How long the end of the process may be held up to deliver what waits, in seconds.
    flush_seconds: float
    #: Base URLs of the vendors, for what the tap itself asks of them.
    twilio_url: str
    openai_url: str
    #: Whether to listen to calls whose server does not.
    sideband: bool
    #: With which model the caller of a SIP call is to be transcribed, where the server does not ask.
    transcribe: str | None
    twilio_account: str | None
    twilio_auth: str | None
    openai_key: str | None


def read(arguments: Sequence[str], environment: Mapping[str, str]) -> Settings:
    """Reads the settings.

    Raises ``Mistake`` when one cannot be used; argparse itself leaves with 2 on a bad command line.
    """
    parser = _parser(environment)
    given = parser.parse_args(arguments)
    script = Path(given.script)
    if not script.is_file():
        raise Mistake(f"there is no script at {script}; name the voice server's own file")
    for name in ("ingress", "twilio_url", "openai_url"):
        parts = urlsplit(getattr(given, name))
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise Mistake(f"--{name.replace('_', '-')} must be an http:// or https:// address")
    token = _secret("VOICEBUS_TAP_TOKEN", environment)
    protect = token is not None if given.protect is None else given.protect
    if protect and token is None:
        raise Mistake("--protect needs a token: set VOICEBUS_TAP_TOKEN or VOICEBUS_TAP_TOKEN_FILE")
    if given.buffer_mib < 1 or given.flush_seconds < 0:
        raise Mistake("--buffer-mib must be at least 1 and --flush-seconds at least 0")
    return Settings(
        script=script,
        script_arguments=given.arguments,
        ingress=given.ingress.rstrip("/"),
        event_token=_secret("VOICEBUS_EVENT_TOKEN", environment),
        token=token,
        protect=protect,
        data_dir=Path(given.data_dir),
        buffer_bytes_max=given.buffer_mib * 1024 * 1024,
        flush_seconds=given.flush_seconds,
        twilio_url=given.twilio_url.rstrip("/"),
        openai_url=given.openai_url.rstrip("/"),
        sideband=given.sideband,
        transcribe=given.transcribe,
        twilio_account=environment.get("TWILIO_ACCOUNT_SID") or None,
        twilio_auth=environment.get("TWILIO_AUTH_TOKEN") or None,
        openai_key=environment.get("OPENAI_API_KEY") or None,
    )


def _parser(environment: Mapping[str, str]) -> argparse.ArgumentParser:
    def default(name: str, otherwise: str) -> str:
        return environment.get(name) or otherwise

    parser = argparse.ArgumentParser(
        prog="python -m voicebus_tap",
        description="Runs a phone-call server's script unchanged and tells voicebus what happens in it.",
        epilog="Secrets come from the environment, or from a file named by the same name with _FILE "
        "behind it: VOICEBUS_TAP_TOKEN opens the tap's own routes, VOICEBUS_EVENT_TOKEN the ingress.",
    )
    parser.add_argument("--version", action="version", version=f"voicebus-tap {__version__}")
    parser.add_argument(
        "--ingress", metavar="URL", default=default("VOICEBUS_INGRESS", "http://127.0.0.1:8082"),
        help="the voicebus ingress (default: %(default)s)",
    )
    parser.add_argument(
        "--data-dir", metavar="DIR", default=default("VOICEBUS_TAP_DATA_DIR", ".voicebus-tap"),
        help="where events and intents are kept; one for each server (default: %(default)s)",
    )
    parser.add_argument(
        "--protect", action=argparse.BooleanOptionalAction, default=None,
        help="let POST and DELETE /call, /calls and /history answer only with the token "
        "(default: when there is a token)",
    )
    # 256 MiB are some 400,000 events: a day of a hundred calls at a time.
    parser.add_argument("--buffer-mib", type=int, metavar="MIB", default=256,
                        help="how much may wait on disk for the ingress (default: %(default)s)")
    parser.add_argument("--flush-seconds", type=float, metavar="S", default=5.0,
                        help="how long the end may be held up to deliver (default: %(default)s)")
    parser.add_argument("--twilio-url", metavar="URL",
                        default=default("VOICEBUS_TAP_TWILIO_URL", "https://api.twilio.com"),
                        help="Twilio's REST API (default: %(default)s)")
    parser.add_argument("--openai-url", metavar="URL",
                        default=default("VOICEBUS_TAP_OPENAI_URL", "https://api.openai.com"),
                        help="OpenAI's API (default: %(default)s)")
    parser.add_argument(
        "--sideband", action=argparse.BooleanOptionalAction, default=True,
        help="listen to SIP calls whose server opens no connection of its own (default: yes)",
    )
    parser.add_argument(
        "--transcribe", metavar="MODEL", default=environment.get("VOICEBUS_TAP_TRANSCRIBE") or None,
        help="have OpenAI transcribe the caller of SIP calls with this model, such as gpt-4o-mini-transcribe, "
        "where the server does not (default: leave the session as it is)",
    )
    parser.add_argument("script", help="the voice server's script, such as webhook-server.py")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="its arguments")
    return parser


def _secret(name: str, environment: Mapping[str, str]) -> str | None:
    value = environment.get(name)
    file = environment.get(f"{name}_FILE")
    if value and file:
        raise Mistake(f"{name} and {name}_FILE are both set; keep one")
    if file:
        try:
            value = Path(file).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise Mistake(f"the file named by {name}_FILE cannot be read: {type(error).__name__}") from None
    value = (value or "").strip()
    if file and not value:
        raise Mistake(f"the file named by {name}_FILE is empty")
    if any(c in value for c in "\r\n,") or not value.isascii():
        raise Mistake(f"{name} must be one token of visible ASCII")
    return value or None


def environment() -> Mapping[str, str]:
    """The process's own environment."""
    return os.environ

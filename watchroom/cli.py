"""The command ``watchroom``. Imports the services lazily: each process loads only what it runs."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from watchroom import __version__
from watchroom.errors import ConfigError, WatchroomError
from watchroom.serve.fieldtools import add_field_tools
from watchroom.serve.tools import add_tools
from watchroom.settings import Settings

if TYPE_CHECKING:
    from gateway.config import GatewayConfig

Handler = Callable[[argparse.Namespace], int]
OUR_PACKAGES = frozenset({"watchroom", "gateway", "ingest", "alarms", "dashboard", "simulators"})
DEMO_MORNING_S = 7.5 * 3600
"""A demonstration begins when lifts, doors and pumps are busy, whatever the hour."""
DEMO_SITE = Path(__file__).parent.parent / "sites" / "spruce-court"


def main() -> NoReturn:
    """Run the command line and leave with its exit code: 0 well, 2 something to mend by hand, 1 other."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run one command and return the exit code."""
    options = _parser().parse_args(arguments)
    handler: Handler = options.handler
    try:
        return handler(options)
    except ConfigError as exc:
        print(f"watchroom: {exc}", file=sys.stderr)
        return 2
    except WatchroomError as exc:
        print(f"watchroom: {exc}", file=sys.stderr)
        return 1
    except ModuleNotFoundError as exc:
        if exc.name is None or exc.name.partition(".")[0] in OUR_PACKAGES:
            raise
        print(f"watchroom: {exc.name} is not installed: this command belongs to the centre", file=sys.stderr)
        print("  pip install 'watchroom[server]'", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="watchroom", description="Facility monitoring for residential compounds.")
    parser.add_argument("--version", action="version", version=f"watchroom {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _running(commands)
    _tools(commands)
    return parser


def _running(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    up = _command(commands, "up", _up, "run a whole simulated compound: broker, gateways, engine, pages")
    up.add_argument("site", nargs="?", type=Path, default=DEMO_SITE, help="site folder (default: the demo compound)")
    up.add_argument("--host", help="address of the pages (default 127.0.0.1)")
    up.add_argument("--port", type=int, help="port of the pages (default 8080)")
    _simulation(up)
    serve = _command(commands, "serve", _serve, "run the centre of a site: engine and pages")
    serve.add_argument("site", type=Path)
    serve.add_argument("--host", help="address of the pages (default 127.0.0.1)")
    serve.add_argument("--port", type=int, help="port of the pages (default 8080)")
    engine = _command(commands, "engine", _engine, "run one site's engine: ingest, alarms, history")
    engine.add_argument("site", type=Path)
    engine.add_argument("--health", type=int, metavar="PORT", help="serve /health and /metrics on this port")
    dashboard = _command(commands, "dashboard", _dashboard, "run one site's pages")
    dashboard.add_argument("site", type=Path)
    dashboard.add_argument("--host", help="address of the pages (default 127.0.0.1)")
    dashboard.add_argument("--port", type=int, help="port of the pages (default 8080)")
    gateway = _command(commands, "gateway", _gateway, "run one gateway, or several in one process")
    gateway.add_argument("files", nargs="+", type=Path, metavar="FILE")
    gateway.add_argument("--addresses", type=Path, help="JSON file that maps host:port in the files to others")
    gateway.add_argument("--health", type=int, metavar="PORT", help="serve /health and /metrics on this port")
    simulate = _command(commands, "simulate", _simulate, "run the simulated equipment of a site")
    simulate.add_argument("site", type=Path, nargs="?", help="site folder")
    simulate.add_argument("--from-config", type=Path, metavar="FILE", help="simulate the Modbus devices of this file")
    simulate.add_argument("--health", type=int, metavar="PORT", help="serve /health and /metrics on this port")
    simulate.add_argument("--addresses", type=Path, help="JSON file that maps host:port in the files to others")
    _simulation(simulate)
    broker = _command(commands, "broker", _broker, "run the embedded MQTT broker, this machine only")
    broker.add_argument("--port", type=int, default=1883)


def _tools(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    init = _command(commands, "init", _init, "write a small commented site to start from")
    init.add_argument("name", help="id of the site, for example maple-garden")
    init.add_argument("--folder", type=Path, help="where to write it (default: ./NAME)")
    _users(commands)
    _credentials(commands)
    add_tools(commands, _command, settings_of)
    add_field_tools(commands, _command, settings_of)
    _history(commands)
    check = _command(commands, "check", _check, "check a site folder or a gateway file")
    check.add_argument("path", type=Path)
    explain = _command(commands, "explain", _explain, "tell why a signal is, or is not, in alarm")
    explain.add_argument("signal", metavar="EQUIPMENT/SIGNAL")
    explain.add_argument("--json", action="store_true", help="everything, as JSON")
    explain.add_argument("--lang", choices=["zh", "en"], default="en")
    replay = _command(commands, "replay", _replay, "tell what other rules would have said about the stored journal")
    replay.add_argument("site", type=Path)
    replay.add_argument("--rules", type=Path, required=True, metavar="FILE", help="in place of the site's rules.yaml")
    replay.add_argument("--from", dest="start", metavar="TIME", help="2026-03-01 08:00 by the site's clock (a day ago)")
    replay.add_argument("--to", dest="end", metavar="TIME", help="end, not included (now)")
    replay.add_argument("--html", type=Path, metavar="FILE", help="write the table as a page, too")
    rules = commands.add_parser("rules", help="alarm rules of a site", description="Alarm rules of a site.")
    tools = rules.add_subparsers(metavar="COMMAND", required=True)
    checked = _command(tools, "check", _rules_check, "check the rules of a site")
    checked.add_argument("site", type=Path)
    _command(tools, "reload", _rules_reload, "have the running engine take over rules.yaml, without a restart")
    _command(tools, "schema", _rules_schema, "print the JSON Schema of rules.yaml, for editors")
    plan = _command(commands, "plan", _plan, "print the exact requests of a gateway file")
    plan.add_argument("file", type=Path)
    probe = _command(commands, "probe", _probe, "read one device once: raw, decoded, in all byte orders")
    probe.add_argument("file", type=Path)
    probe.add_argument("device")
    probe.add_argument("--addresses", type=Path, help="JSON file that maps host:port in the file to others")


def _users(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    user = commands.add_parser("user", help="accounts of the pages", description="Accounts of the pages.")
    verbs = user.add_subparsers(metavar="COMMAND", required=True)
    _command(verbs, "list", _user_list, "list the accounts")
    for verb, handler, about in (
        ("password", _user_password, "give an account a new password"),
        ("disable", _user_switch, "switch an account off and sign it out"),
        ("enable", _user_switch, "switch an account on again"),
    ):
        changed = _command(verbs, verb, handler, about)
        changed.add_argument("name")
        changed.set_defaults(verb=verb)
    add = _command(verbs, "add", _user_add, "make an account")
    add.add_argument("name", help="name to sign in with")
    add.add_argument("--role", required=True, help="guard, leader, technician, contractor, manager, admin, ...")
    add.add_argument("--display", default="", help="name shown on the pages (default: NAME)")
    add.add_argument("--lang", choices=["zh", "en"], default="zh", help="language of the pages")


def _credentials(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    about = "cards and faces: who may pass, who must not"
    group = commands.add_parser("credentials", help=about, description=about[0].upper() + about[1:] + ".")
    actions = group.add_subparsers(metavar="COMMAND", required=True)
    import_ = _command(actions, "import", _credentials_import, "take over a CSV file: kind, number, owner, list, ...")
    import_.add_argument("file", type=Path)
    list_ = _command(actions, "list", _credentials_list, "print the registry, masked")
    list_.add_argument("--only", choices=["white", "black", "lost", "revoked"], help="only one list")
    revoke = _command(actions, "revoke", _credentials_revoke, "take a credential out, or report it lost")
    revoke.add_argument("number", help="its number, or its keyed hash as the list shows it")
    revoke.add_argument("--as", dest="standing", choices=["revoked", "lost", "black", "white"], default="revoked")
    for action in (import_, list_, revoke):
        action.add_argument("--site", type=Path, default=DEMO_SITE, help="site folder (default: the demo compound)")


def _history(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    history = commands.add_parser("history", help="history to files and back", description="History to files and back.")
    actions = history.add_subparsers(metavar="COMMAND", required=True)
    export = _command(actions, "export", _history_export, "write samples to a CSV or Parquet file")
    export.add_argument("file", metavar="FILE", help="NAME.csv or NAME.parquet")
    _history_range(export)
    import_ = _command(actions, "import", _history_import, "bring samples from CSV or Parquet files")
    import_.add_argument(
        "files", nargs="+", metavar="FILE", help="columns time, signal, value, quality; or one a signal"
    )
    import_.add_argument("--zone", help="time zone of times without an offset, for example Asia/Shanghai")
    import_.add_argument("--check", action="store_true", help="read everything, store nothing")
    import_.add_argument("--new-signals", action="store_true", help="take signals that the site does not have")

    verify = _command(actions, "verify", _history_verify, "compare journal, stored samples and roll-ups of a range")
    _history_time(verify)


def _history_time(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--start", metavar="TIME", help="such as 2026-03-01T00:00:00+08:00 (default: a day ago)")
    parser.add_argument("--end", metavar="TIME", help="end, not included (default: now)")
    parser.add_argument("--zone", help="time zone of times without an offset, and of the times written")


def _history_range(parser: argparse.ArgumentParser) -> None:
    _history_time(parser)
    parser.add_argument("--signal", action="append", metavar="KEY", help="one signal; may be repeated (default: all)")


def _command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], name: str, handler: Handler, about: str
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=about, description=about[0].upper() + about[1:] + ".")
    parser.set_defaults(handler=handler)
    parser.add_argument("--data", type=Path, help="folder for journal, databases and outboxes")
    parser.add_argument("--log", choices=["debug", "info", "warning", "error"], help="least severe level logged")
    return parser


def _simulation(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--scenario", default="normal_day", help="what happens to the simulated equipment")
    parser.add_argument("--seed", type=int, default=1, help="same seed, same day")
    parser.add_argument("--speed", type=float, default=1.0, help="how much faster than real time")
    parser.add_argument(
        "--day-from",
        type=_time_of_day,
        metavar="HH:MM",
        help="where the simulated day begins (up: 07:30; default: now)",
    )


def _time_of_day(text: str) -> float:
    hours, _, minutes = text.partition(":")
    if not (hours.isdigit() and minutes.isdigit() and int(hours) < 24 and int(minutes) < 60):
        raise argparse.ArgumentTypeError(f"{text!r} is not a time of day such as 07:30")
    return int(hours) * 3600.0 + int(minutes) * 60.0


def settings_of(options: argparse.Namespace) -> Settings:
    """Return the settings: command line over environment over default; logging starts here.

    Raises:
        ConfigError: If an environment variable holds something else than expected.
    """
    from pydantic import ValidationError

    from watchroom.logs import configure_logs

    try:
        settings = Settings()
    except ValidationError as exc:
        first = exc.errors()[0]
        name = "WATCHROOM_" + "__".join(str(part) for part in first["loc"]).upper()
        raise ConfigError(first["msg"], key=name) from exc
    given = vars(options)
    http = {key: given[key] for key in ("host", "port") if given.get(key) is not None}
    top = {key: given[key] for key in ("data", "log") if given.get(key) is not None}
    settings = settings.model_copy(update=top | {"http": settings.http.model_copy(update=http)})
    configure_logs(settings.log)
    # journal, databases, outboxes and quarantine hold who went through which door: for the owner alone
    os.umask(0o077)
    return settings


def _read_addresses(path: Path | None) -> Mapping[str, str]:
    if path is None:
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise ConfigError(f"cannot read the addresses: {exc}", path=path) from exc
    return {str(key): str(value) for key, value in content.items()}


def _up(options: argparse.Namespace) -> int:
    from watchroom.serve.up import Play, run_up

    settings = settings_of(options)
    play = Play(
        scenario=options.scenario,
        seed=options.seed,
        speed=options.speed,
        day_from_s=DEMO_MORNING_S if options.day_from is None else options.day_from,
    )
    return asyncio.run(run_up(options.site, settings, play))


def _serve(options: argparse.Namespace) -> int:
    from watchroom.serve.up import run_serve

    return asyncio.run(run_serve(options.site, settings_of(options)))


def _engine(options: argparse.Namespace) -> int:
    from watchroom.serve.engine import run_engine
    from watchroom.serve.ports import require_free

    settings = settings_of(options)
    if options.health:
        require_free("127.0.0.1", options.health, option="--health")
    asyncio.run(run_engine(options.site, settings, health_port=options.health))
    return 0


def _dashboard(options: argparse.Namespace) -> int:
    from dashboard.app import run_dashboard
    from watchroom.serve.ports import wait_for_free

    settings = settings_of(options)
    wait_for_free(settings.http.host, settings.http.port)
    asyncio.run(run_dashboard(options.site, settings))
    return 0


def _gateway(options: argparse.Namespace) -> int:
    from gateway.app import run_gateways
    from gateway.reload import Reload

    settings = settings_of(options)
    addresses = _read_addresses(options.addresses)

    def load() -> list[GatewayConfig]:
        return [_gateway_config(path, addresses) for path in options.files]

    asyncio.run(run_gateways(load(), settings, health_port=options.health, reload=Reload(load)))
    return 0


def _simulate(options: argparse.Namespace) -> int:
    from simulators.app import run_simulators
    from watchroom.site import load_site

    settings = settings_of(options)
    if (options.site is None) == (options.from_config is None):
        raise ConfigError("give either a site folder or --from-config FILE")
    if options.from_config is not None:
        from simulators.fromconfig import run_from_config

        addresses = _read_addresses(options.addresses)
        asyncio.run(run_from_config(_gateway_config(options.from_config, addresses), seed=options.seed))
        return 0
    asyncio.run(
        run_simulators(
            load_site(options.site),
            scenario=options.scenario,
            seed=options.seed,
            speed=options.speed,
            addresses=_read_addresses(options.addresses),
            mqtt=settings.mqtt,
            control=settings.data / "simulate.sock",
            health_port=options.health,
            time_of_day_s=options.day_from,
        )
    )
    return 0


def _broker(options: argparse.Namespace) -> int:
    from watchroom.serve.broker import run_broker
    from watchroom.serve.ports import wait_for_free

    settings_of(options)
    wait_for_free("127.0.0.1", options.port)
    asyncio.run(run_broker(options.port))
    return 0


def _init(options: argparse.Namespace) -> int:
    from gateway.scaffold import init_site

    folder = options.folder or Path(options.name)
    init_site(options.name, folder)
    print(f"Wrote {folder}. Next: edit gateways/first.yaml, then  watchroom check {folder}")
    return 0


def _user_add(options: argparse.Namespace) -> int:
    from watchroom.serve.users import ROLES, add_user

    if options.role not in ROLES:
        raise ConfigError(f"there is no role {options.role!r}", key="--role", hint=", ".join(ROLES))
    person = add_user(settings_of(options), options.name, role=options.role, display=options.display, lang=options.lang)
    print(f"Made the account {person.name} ({person.role})")
    return 0


def _credentials_import(options: argparse.Namespace) -> int:
    from watchroom.serve.credentials import import_file

    read, changed = import_file(settings_of(options), options.site, options.file)
    print(f"Read {read} credentials, {changed} new or changed")
    return 0


def _credentials_list(options: argparse.Namespace) -> int:
    from watchroom.serve.credentials import print_list

    print(f"{print_list(settings_of(options), options.site, standing=options.only)} credentials")
    return 0


def _credentials_revoke(options: argparse.Namespace) -> int:
    from watchroom.serve.credentials import revoke

    key = revoke(settings_of(options), options.site, options.number, standing=options.standing)
    print(f"{key} is {options.standing} from now on")
    return 0


def _history_export(options: argparse.Namespace) -> int:
    from watchroom.serve.history import run_export

    return run_export(options, settings_of(options))


def _history_import(options: argparse.Namespace) -> int:
    from watchroom.serve.history import run_import

    return run_import(options, settings_of(options))


def _history_verify(options: argparse.Namespace) -> int:
    from watchroom.serve.history_verify import run_verify

    return run_verify(options, settings_of(options))


def _user_list(options: argparse.Namespace) -> int:
    from watchroom.serve.users import list_users

    for row in list_users(settings_of(options)):
        print(f"{row['name']:<24} {row['role']:<12} {'' if row['is_enabled'] else 'off':<4} {row['display']}".rstrip())
    return 0


def _user_password(options: argparse.Namespace) -> int:
    from watchroom.serve.users import set_password

    set_password(settings_of(options), options.name)
    print(f"Changed the password of {options.name}; it is signed out everywhere")
    return 0


def _user_switch(options: argparse.Namespace) -> int:
    from watchroom.serve.users import set_enabled

    is_enabled = options.verb == "enable"
    set_enabled(settings_of(options), options.name, is_enabled=is_enabled)
    print(f"Switched the account {options.name} {'on' if is_enabled else 'off'}")
    return 0


def _check(options: argparse.Namespace) -> int:
    from watchroom.serve.check import check

    problems, summary = check(options.path)
    for line in problems:
        print(line, file=sys.stderr)
    for line in summary:
        print(line)
    return 2 if problems else 0


def _explain(options: argparse.Namespace) -> int:
    from watchroom.serve.rule_tools import run_explain

    return run_explain(options, settings_of(options))


def _replay(options: argparse.Namespace) -> int:
    from watchroom.serve.replay import run_replay

    return run_replay(options, settings_of(options))


def _rules_check(options: argparse.Namespace) -> int:
    from watchroom.serve.rule_tools import run_rules_check

    return run_rules_check(options.site)


def _rules_reload(options: argparse.Namespace) -> int:
    from watchroom.serve.rule_tools import run_reload

    return run_reload(settings_of(options))


def _rules_schema(_: argparse.Namespace) -> int:
    from watchroom.serve.rule_tools import run_schema

    return run_schema()


def _plan(options: argparse.Namespace) -> int:
    from gateway.check import plan_text

    print(plan_text(_gateway_config(options.file, {})))
    return 0


def _probe(options: argparse.Namespace) -> int:
    from gateway.probe import probe

    config = _gateway_config(options.file, _read_addresses(options.addresses))
    print(asyncio.run(probe(config, options.device)))
    return 0


def _gateway_config(path: Path, addresses: Mapping[str, str]) -> GatewayConfig:
    """Read one gateway file; a site's own device models stand beside its gateways folder."""
    from gateway.check import library_for
    from gateway.config import load_gateway

    return load_gateway(path, models=library_for(path.parent.parent), addresses=addresses)

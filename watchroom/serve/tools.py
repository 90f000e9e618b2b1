"""Commands that look into the data folder: ``watchroom journal`` and ``watchroom quarantine``."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from watchroom.settings import Settings

if TYPE_CHECKING:
    from watchroom.serve.quarantine_tool import QuarantineFolder

Handler = Callable[[argparse.Namespace], int]
SubParsers = argparse._SubParsersAction
AddCommand = Callable[..., argparse.ArgumentParser]
SettingsOf = Callable[[argparse.Namespace], Settings]
DAMAGED = 1


def add_tools(commands: SubParsers[argparse.ArgumentParser], add: AddCommand, settings_of: SettingsOf) -> None:
    """Add both commands to the command line.

    Args:
        commands: Where to add them.
        add: Makes one command, see ``watchroom.cli._command``.
        settings_of: Reads the settings of a call.
    """
    _journal(commands, add, settings_of)
    _quarantine(commands, add, settings_of)


def _journal(commands: SubParsers[argparse.ArgumentParser], add: AddCommand, settings_of: SettingsOf) -> None:
    def ls(options: argparse.Namespace) -> int:
        from watchroom.serve import journal_tool as tool

        _print(tool.list_lines(tool.open_journal(settings_of(options).data)))
        return 0

    def cat(options: argparse.Namespace) -> int:
        from watchroom.serve import journal_tool as tool

        journal = tool.open_journal(settings_of(options).data)
        site = tool.choose_site(journal, options.site)
        records = tool.records_of(journal, site, start=options.start, gateway=options.gateway, count=options.count)
        _print(tool.dump(tool.json_of(row)) if options.json else tool.line_of(row) for row in records)
        return 0

    def verify(options: argparse.Namespace) -> int:
        from watchroom.serve import journal_tool as tool

        journal = tool.open_journal(settings_of(options).data)
        sites = [tool.choose_site(journal, options.site)] if options.site else journal.sites()
        verdicts = [tool.verify_lines(journal, site) for site in sites]
        _print(line for lines, _ in verdicts for line in lines)
        return 0 if all(is_whole for _, is_whole in verdicts) else DAMAGED

    parser = commands.add_parser("journal", help="look into the journal", description="Look into the journal.")
    parts = parser.add_subparsers(metavar="COMMAND", required=True)
    add(parts, "ls", ls, "show records, size and readers of each site's journal")
    show = add(parts, "cat", cat, "print records of a journal")
    show.add_argument("--site", help="the site, if there are several")
    show.add_argument("--from", dest="start", type=int, help="first offset; negative: so many before the end")
    show.add_argument("--count", type=int, help="at most so many")
    show.add_argument("--gateway", help="only this gateway's; 'tick' for the centre's clock")
    show.add_argument("--json", action="store_true", help="whole content, one JSON object a line")
    check = add(parts, "verify", verify, "read a whole journal and name what is damaged (exit code 1)")
    check.add_argument("--site", help="only this site")


def _quarantine(commands: SubParsers[argparse.ArgumentParser], add: AddCommand, settings_of: SettingsOf) -> None:
    def ls(options: argparse.Namespace) -> int:
        _print(_folder(settings_of(options)).lines(options.reason))
        return 0

    def show(options: argparse.Namespace) -> int:
        _print(_folder(settings_of(options)).shown(options.id))
        return 0

    def retry(options: argparse.Namespace) -> int:
        folder = _folder(settings_of(options))
        asked = folder.ask(options.ids, reason=options.reason, everything=options.all)
        outcome = folder.outcome(asked, options.wait)
        _print(f"{count} {what}" for what, count in outcome.items() if count or what == "taken in")
        return 0 if outcome["taken in"] == len(asked) else 1

    about = "messages that ingest refused"
    parser = commands.add_parser("quarantine", help=about, description=about[0].upper() + about[1:] + ".")
    parts = parser.add_subparsers(metavar="COMMAND", required=True)
    add(parts, "list", ls, "list them").add_argument("--reason", help="only those refused for this")
    add(parts, "show", show, "show one of them").add_argument("id", help="its id, or the beginning of it")
    again = add(parts, "retry", retry, "let the engine try some of them again, now or when it starts")
    again.add_argument("ids", nargs="*", metavar="ID")
    again.add_argument("--reason", help="all that were refused for this")
    again.add_argument("--all", action="store_true", help="all of them")
    again.add_argument("--wait", type=float, default=5.0, metavar="SECONDS", help="how long to wait for the outcome")


def _folder(settings: Settings) -> QuarantineFolder:
    # a gateway's command line must not load the centre's packages
    from watchroom.serve.quarantine_tool import QuarantineFolder

    return QuarantineFolder(settings.data)


def _print(lines: Iterable[str]) -> None:
    for line in lines:
        print(line)

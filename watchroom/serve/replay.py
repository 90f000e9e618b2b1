"""``watchroom replay``: what other rules would have said about the journal that is stored."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from alarms.evaluator import Evaluator
from alarms.rules import compile_rules
from alarms.templates import load_templates
from alarms.whatif import compare, page, table
from watchroom.births import BirthStore
from watchroom.errors import ConfigError
from watchroom.journal import FileJournal, Journal, Record
from watchroom.serve.history import time_option, zone_option
from watchroom.settings import Settings
from watchroom.site import load_site
from watchroom.yamlfile import load_yaml

DAY_MS = 86_400_000


def run_replay(options: argparse.Namespace, settings: Settings) -> int:
    """Judge the stored journal by the site's rules and by others, and print the alarms of each rule before and after.

    The engine may run or not; nothing is changed. Everything the journal still holds before the stretch is judged
    too, so that delays and alarms stand as they did.

    Raises:
        ConfigError: If a rule, a time or the site is wrong, or there is no journal.
    """
    site = load_site(options.site)
    other = replace(site, rules_file=load_yaml(options.rules))
    templates = load_templates()
    old, new = compile_rules(site, templates), compile_rules(other, templates)
    zone, now_ms = zone_option(site.info.zone), int(time.time() * 1000)
    start_ms = time_option("--from", options.start, zone, default=now_ms - DAY_MS)
    end_ms = time_option("--to", options.end, zone, default=now_ms)
    if start_ms >= end_ms:
        raise ConfigError("the stretch ends before it begins", key="--from")
    folder = settings.data / "journal"
    if not (folder / site.id).exists():
        raise ConfigError(f"there is no journal of {site.id}", path=folder, hint="name its folder with --data")
    journal = FileJournal(folder, read_only=True, is_quiet=True)
    births = BirthStore(settings.data / "births")
    started = time.monotonic()
    lines, samples = compare(
        stretch(journal, site.id, end_ms=end_ms),
        Evaluator(old, births, site.id, site=site),
        Evaluator(new, births, site.id, site=other),
        start_ms=start_ms,
        end_ms=end_ms,
    )
    journal.close()
    seconds = time.monotonic() - started
    print(table(lines))
    print(f"{samples} samples judged twice in {seconds:.1f} s; rules {old.version} and {new.version}")
    if options.html is not None:
        title = f"{site.info.name.en}: {options.rules.name} instead of the rules in force"
        Path(options.html).write_text(page(lines, title=title), encoding="utf-8")
        print(f"Wrote {options.html}")
    return 0


def stretch(journal: Journal, site: str, *, end_ms: int) -> Iterator[Record]:
    """Yield the records of a site from the begin of its journal to those that arrived at a time."""
    offset = journal.begin(site)
    while records := journal.read(site, offset):
        for record in records:
            if record.arrived_ms > end_ms:
                return
            yield record
        offset = records[-1].offset + 1

"""Shapes of the HTTP API; programs and pages may rely on them. Times are UTC milliseconds."""

from __future__ import annotations

from typing import Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from watchroom.site import Plan

Item = TypeVar("Item")
Point = tuple[float, float]
Role = Literal["guard", "leader", "technician", "contractor", "integrator", "manager", "committee", "kiosk", "admin"]


class Shape(BaseModel):
    """Base: a key too many is a mistake of ours."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)


class Words(Shape):
    """A text in both languages."""

    zh: str
    en: str


class Page(Shape, Generic[Item]):
    """A part of a list."""

    items: list[Item]
    next: str | None = Field(default=None, description="Give this as `cursor` to get the next part; null at the end")


class ProblemBody(BaseModel):
    """RFC 9457 problem details."""

    type: str
    title: str
    status: int
    detail: str
    code: str = Field(description="Stable word that both languages translate")
    errors: list[dict[str, str]] = []


class SignIn(Shape):
    """Name and password."""

    username: str = Field(min_length=1, max_length=64)
    password: str = Field(min_length=1, max_length=256)


class Setup(Shape):
    """The first account."""

    token: str = Field(min_length=1, max_length=128, description="What stands after # in the one-time link")
    username: str = Field(min_length=1, max_length=64)
    display: str = Field(default="", max_length=120)
    password: str = Field(min_length=1, max_length=256)


class User(Shape):
    """The person who signed in."""

    name: str
    display: str
    role: str
    lang: str


class SessionInfo(Shape):
    """Who is signed in, until when."""

    user: User
    expires_ms: int


class SessionOpened(SessionInfo):
    """A new session; the token is for programs, browsers use the cookie."""

    token: str


class NewAccount(Shape):
    """An account to make."""

    name: str = Field(min_length=1, max_length=32)
    display: str = Field(default="", max_length=120)
    role: Role
    password: str = Field(min_length=1, max_length=256)
    lang: Literal["zh", "en"] = "zh"


class AccountChange(Shape):
    """What to change of an account; what is not given stays. A new password or role, or switching off, signs it out."""

    display: str | None = Field(default=None, min_length=1, max_length=120)
    role: Role | None = None
    lang: Literal["zh", "en"] | None = None
    is_enabled: bool | None = None
    password: str | None = Field(default=None, min_length=1, max_length=256)


class PasswordChange(Shape):
    """A new password of one's own."""

    old: str = Field(min_length=1, max_length=256)
    new: str = Field(min_length=1, max_length=256)


class Account(Shape):
    """One account."""

    name: str
    display: str
    role: str
    lang: str
    is_enabled: bool
    created_ms: int
    locked_until_ms: int | None


class Scenario(Shape):
    """Something the simulators can play."""

    name: str
    title: Words


class Demo(Shape):
    """What a demo offers."""

    scenarios: list[Scenario]


class Floors(Shape):
    """Storeys of a building."""

    below: int
    above: int


class Place(Shape):
    """One place; coordinates in metres, origin south-west."""

    kind: str
    name: Words
    within: str | None = Field(alias="in")
    floors: Floors | None
    outline: list[Point] | None
    at: Point | None


class SiteInfo(Shape):
    """The compound."""

    id: str
    name: Words
    zone: str
    city_rescue_min: int
    homes: int
    is_simulated: bool
    demo: Demo | None
    places: dict[str, Place]
    plan: Plan
    version: str
    build: str = Field(description="Changes when the pages change")


class SignalInfo(Shape):
    """One signal as its equipment's template describes it."""

    key: str
    name: Words
    unit: str
    kind: str
    texts: dict[str, Words]
    normal: tuple[float, float] | None
    limits: dict[str, float]
    index: int = Field(description="Number in live frames of the present index epoch")


class EquipmentInfo(Shape):
    """One piece of equipment."""

    id: str
    type: str
    name: Words
    place: str
    place_name: Words
    gateway: str | None = Field(description="Gateway that reads it, once it has reported")
    rated: dict[str, float]
    contractor: str | None
    extra: dict[str, Any]
    signals: list[SignalInfo]


class Sample(Shape):
    """The newest value of one signal."""

    key: str
    index: int
    value: float | None
    time_ms: int | None
    quality: int = Field(description="0 good, 1 no communication, 2 invalid, 3 sensor fault, 4 clock doubtful, ...")
    gateway: str | None
    is_stale: bool


class LiveIndex(Shape):
    """Signal keys by index."""

    epoch: int
    keys: list[str]


class Explanation(Shape):
    """Why a signal is, or is not, in alarm."""

    signal: dict[str, Any] = Field(description="value, quality, time_ms, is_stale, gateway, measured_ms")
    offset: int = Field(description="Journal record up to which this holds")
    rules: list[dict[str, Any]] = Field(
        description="Rules that look at the signal: conditions with limit, reason, delay left and guard; state, events"
    )


class Series(Shape):
    """History of one signal in buckets of equal width; empty buckets are left out."""

    key: str
    t: list[int]
    min: list[float | None]
    max: list[float | None]
    mean: list[float | None]
    last: list[float | None]
    count: list[int]


class RawSamples(Shape):
    """Samples of one signal as they were stored, by rising time."""

    key: str
    t: list[int] = Field(description="UTC ms")
    value: list[float | None] = Field(description="null where there was none")
    quality: list[int]
    next: str | None = Field(description="cursor of the next page")


class StateTime(Shape):
    """Time at one value."""

    value: float
    ms: int


class StateTimes(Shape):
    """How long a signal stood at each value, longest first."""

    key: str
    start: int
    end: int
    states: list[StateTime]
    bad_ms: int = Field(description="Time whose newest sample was not usable")
    unknown_ms: int = Field(description="Time without a sample that still holds")
    changes: int


class CounterIncrease(Shape):
    """How much a counter grew."""

    key: str
    start: int
    end: int
    increase: float
    restarts: int = Field(description="Times it began at 0 again")
    roll_overs: int
    count: int = Field(description="Usable samples")


class StoredSample(Shape):
    """One stored sample."""

    time_ms: int
    value: float | None
    quality: int


class Neighbours(Shape):
    """The samples beside a time."""

    key: str
    before: StoredSample | None
    after: StoredSample | None


class AlignedSeries(Shape):
    """Figures of one signal, one entry a row of the table."""

    min: list[float | None]
    max: list[float | None]
    mean: list[float | None]
    last: list[float | None]
    count: list[int]


class Aligned(Shape):
    """Several signals in the same buckets."""

    start: int
    end: int
    t: list[int] = Field(description="Begin of each bucket, UTC ms")
    series: dict[str, AlignedSeries]


class AlarmTicket(Shape):
    """A ticket that belongs to an alarm."""

    id: str
    number: str
    type: str
    state: str


class Guide(Shape):
    """What to know and do."""

    cause: str
    consequence: str
    do: list[str]
    respond_min: float | None


class Guidance(Shape):
    """In both languages."""

    zh: Guide
    en: Guide


class AlarmEvent(Shape):
    """One line of an alarm's journal."""

    kind: str
    event_ms: int
    user: str | None
    comment: str | None
    value: float | None
    is_accepted: bool
    reason: str | None


class OverlayPart(Shape):
    """Who put one overlay on a row, when and why."""

    by: str
    at_ms: int
    reason: str | None
    permit: str | None
    parent: str | None = Field(description="Row whose alarm explains this one")


class Overlay(Shape):
    """What lies over the row of an alarm."""

    shelf: Literal["timed", "once"] | None
    until_ms: int | None = Field(description="End of a timed shelf")
    is_suppressed: bool
    is_out: bool
    detail: dict[str, OverlayPart] = Field(description="For each of shelf, suppressed, out")


class CoveredRow(Overlay):
    """A rule row that something lies over, with or without an alarm."""

    row: str
    rule: str
    equipment: str
    equipment_name: Words


class Alarm(Shape):
    """One occurrence of an alarm."""

    id: str
    row: str
    rule: str
    equipment: str
    equipment_name: Words
    place: str | None
    place_name: Words | None
    instance: str
    signal: str | None
    priority: int
    class_: str = Field(alias="class")
    level: str
    state: str
    is_active: bool
    is_latching: bool
    is_late: bool
    is_simulated: bool
    raised_ms: int
    cleared_ms: int | None
    acked_ms: int | None
    acked_by: str | None
    value: float | None
    limit: float | None
    unit: str | None
    title: Words
    detail: Words
    overlay: Overlay | None
    group: str | None = Field(description="First-up group")
    cause: str | None = Field(description="Id of the alarm that came first in its group")
    realarms: int = Field(description="Times it has sounded again")
    is_chattering: bool
    guidance: Guidance | None
    tickets: list[AlarmTicket]


class AlarmWithEvents(Alarm):
    """One occurrence with its journal."""

    events: list[AlarmEvent]


class AlarmAction(Shape):
    """An acknowledgement or reset."""

    comment: str | None = Field(default=None, max_length=1000)


class Shelve(Shape):
    """Put an alarm on the shelf."""

    mode: Literal["timed", "once"] = "timed"
    minutes: int | None = Field(default=None, ge=1, le=10_080, description="For timed; the site sets the longest")
    reason: str = Field(min_length=1, max_length=500)


class OutOfService(Shape):
    """Take an alarm or a piece of equipment out of service."""

    permit: str = Field(min_length=1, max_length=64, description="Number of the work permit")
    reason: str = Field(min_length=1, max_length=500)


class BulkAck(Shape):
    """Alarms to acknowledge together."""

    ids: list[str] = Field(min_length=1, max_length=20)
    comment: str | None = Field(default=None, max_length=1000)


class BulkOutcome(Shape):
    """What became of each, and the alarms as they stand then."""

    outcomes: dict[str, str] = Field(description="Id -> done, pending, or why it was refused")
    items: list[Alarm]


class EquipmentOutcome(Shape):
    """What became of a command about a piece of equipment."""

    outcome: str = Field(description="done or pending")
    items: list[CoveredRow]


class Peak(Shape):
    """The busiest stretch of a length."""

    alarms: int
    end_ms: int | None


class FloodSpan(Shape):
    """One flood: more than 10 alarms in 10 min, until fewer than 5."""

    start_ms: int
    end_ms: int
    alarms: int
    peak: int


class Share(Shape):
    """A part of all alarms."""

    alarms: int
    share: float


class MeasuredRow(Shape):
    """One rule row in a list of measures."""

    row: str
    equipment: str
    equipment_name: Words
    title: Words
    alarms: int
    share: float | None = None
    bursts: int | None = Field(default=None, description="Times that three came within a minute")


class StandingAlarm(Shape):
    """An alarm whose condition has been true for more than a day."""

    row: str
    equipment: str
    equipment_name: Words
    title: Words
    priority: int
    raised_ms: int


class AckTimes(Shape):
    """Seconds from the alarm to its acknowledgement."""

    alarms: int
    p50_s: float | None
    p95_s: float | None


class Measures(Shape):
    """Performance measures of ISA-18.2 and EEMUA 191 over a period."""

    start_ms: int
    end_ms: int
    alarms: int
    per_hour: float
    per_day: float
    peak_10_min: Peak
    peak_hour: Peak
    above_target_share: float = Field(description="Share of ten-minute stretches with more than one alarm")
    floods: list[FloodSpan]
    flood_share: float = Field(description="Share of the time in flood")
    priorities: dict[str, Share]
    chattering: list[MeasuredRow]
    fleeting: int
    bad_actors: list[MeasuredRow] = Field(description="The ten rows with most alarms")
    acknowledged: dict[str, AckTimes] = Field(description="By priority")
    never_acknowledged: int
    realarms: int
    standing: list[StandingAlarm] = Field(description="Now, whatever the period")
    covered: list[CoveredRow] = Field(description="Shelved, suppressed and out of service now")


class TicketClock(Shape):
    """One time limit; what is left is for the reader to compute."""

    kind: str
    start_ms: int
    target_ms: int
    paused_ms: int
    pause_start_ms: int | None
    stop_ms: int | None
    breached_ms: int | None


class TicketAlarm(Shape):
    """An alarm that a ticket belongs to, as it stands now."""

    id: str
    title: Words
    priority: int
    state: str
    is_active: bool


class TicketEvent(Shape):
    """One line of a ticket's history."""

    step: str
    from_state: str | None
    to_state: str
    at_ms: int
    user: str | None
    comment: str | None
    fields: dict[str, Any]


class Ticket(Shape):
    """Work for a person."""

    id: str
    number: str
    type: str
    state: str
    priority: int
    equipment: str | None
    equipment_name: Words | None
    place: str | None
    place_name: Words | None
    title: Words
    detail: Words
    created_ms: int
    updated_ms: int
    closed_ms: int | None
    assignee: str | None
    worker: str | None
    held_until_ms: int | None
    rework: int
    is_repeat: bool
    is_simulated: bool
    version: int
    clocks: list[TicketClock]
    alarms: list[TicketAlarm] = Field(description="Every live one and the newest others")
    alarm_count: int
    steps: list[str] = Field(description="What the person who asks may do next")


class TicketWithEvents(Ticket):
    """A ticket with its history."""

    events: list[TicketEvent]


class TicketStep(Shape):
    """What a step may carry."""

    version: int | None = Field(default=None, description="Version the person saw; another one gives 409")
    comment: str | None = Field(default=None, max_length=2000)
    assignee: str | None = Field(default=None, max_length=64)
    reason: str | None = Field(default=None, max_length=200)
    until_ms: int | None = Field(default=None, ge=0)
    result: str | None = Field(default=None, max_length=2000)


class AccessEvent(Shape):
    """A card or face at a door."""

    seq: int
    equipment: str | None
    equipment_name: Words | None
    time_ms: int
    method: str | None
    person: str | None
    card: str | None
    result: str | None
    direction: str | None
    is_simulated: bool
    fields: dict[str, Any]


class OtherEvent(AccessEvent):
    """An event that is no passage: a text of a fire panel, an operation."""

    kind: str
    gateway: str
    seen_ms: int = Field(description="When the gateway saw it, UTC ms; time_ms is the equipment's own time")


class Gateway(Shape):
    """One gateway as it is now."""

    id: str
    equipment: str | None
    name: Words
    is_online: bool
    last_ms: int | None = Field(description="When it was heard last, the centre's clock")
    epoch: str | None = Field(description="16 hexadecimal digits: browsers cannot hold 64 bits in a number")
    latency_ms: int | None
    backlog: int | None
    beats: list[int] = Field(description="40 cells of 15 s, oldest first: 2 good, 1 late, 0 missing")
    signals: int
    stale: int
    reason: str | None


class StaffMember(Shape):
    """One member of staff."""

    id: str
    name: Words
    role: str


class FloodFacts(Shape):
    """Whether alarms come faster than one person can look at them."""

    is_flood: bool
    count: int = Field(description="Alarms that sounded in the last 10 min")
    since_ms: int | None
    peak: int = Field(description="Most in 10 min since the flood began")


class Stats(Shape):
    """Figures of the bar at the foot of the page."""

    samples_per_s: float
    alarm_scan_ms: float | None
    gateways_online: int
    gateways: int
    signals_good: int
    signals_stale: int
    data_age_ms: int | None
    access_today: int
    access_denied: int
    flood: FloodFacts | None = Field(description="Null while the engine does not answer")


class Played(Shape):
    """A scenario was started."""

    name: str

/** Shapes of /api/v1 and of the live connection. Times are UTC milliseconds. */

export type Lang = 'zh' | 'en'
export type Text = Record<Lang, string>
/** A text in both languages, or a word that has none. */
export type Words = Text | string | null | undefined
export type Priority = 1 | 2 | 3 | 4
export type Point = [number, number]

export interface Page<T> {
  items: T[]
  next: string | null
}

export interface User {
  name: string
  display: string
  role: string
  lang: Lang
}

export interface SessionReply {
  user: User
  token?: string
  expires_ms?: number
}

export interface Floors {
  below: number
  above: number
}

export interface Place {
  kind: string
  name: Words
  in?: string | null
  floors?: Floors | null
  outline?: Point[] | null
  at?: Point | null
}

export interface Plan {
  roads: Point[][]
  /** On foot. */
  paths?: Point[][]
  green: Point[][]
  water: Point[][]
  wall: Point[]
}

export interface Scenario {
  name: string
  title: Words
}

export interface Site {
  id: string
  name: Words
  zone: string
  homes: number
  is_simulated: boolean
  demo: { scenarios: Scenario[] } | null
  places: Record<string, Place>
  plan: Plan
  version: string
  build: string
}

export interface SignalInfo {
  key: string
  name: Words
  unit: string
  kind: string
  texts: Record<string, Text>
  normal: [number | null, number | null] | null
  limits: Record<string, number>
  index: number
}

export interface Equipment {
  id: string
  type: string
  name: Words
  place: string
  place_name: Words
  gateway: string | null
  rated: Record<string, number>
  contractor: string | null
  extra: Record<string, unknown>
  signals: SignalInfo[]
}

export interface Sample {
  key: string
  index: number
  value: number | null
  time_ms: number | null
  quality: number
  is_stale: boolean
}

export interface Series {
  key: string
  t: number[]
  min: (number | null)[]
  max: (number | null)[]
  mean: (number | null)[]
  last: (number | null)[]
  count: number[]
}

export type AlarmState = 'NORM' | 'UNACK' | 'ACKED' | 'RTNUN' | 'LUNACK' | 'LACKED' | 'SHLVD' | 'DSUPR' | 'OOSRV'

export interface Guidance {
  cause?: string
  consequence?: string
  do?: string[] | string
  respond_min?: number | null
}

export interface AlarmTicket {
  id: string
  number: string
  type: string
  state: TicketState
}

export interface AlarmEvent {
  kind: string
  event_ms: number
  user: string | null
  comment: string | null
  value: number | null
  is_accepted: boolean
  reason: string | null
}

export interface OverlayPart {
  by: string
  at_ms: number
  reason: string | null
  permit: string | null
  parent: string | null
}

/** What lies over the row of an alarm. */
export interface Overlay {
  shelf: 'timed' | 'once' | null
  until_ms: number | null
  is_suppressed: boolean
  is_out: boolean
  detail: Partial<Record<'shelf' | 'suppressed' | 'out', OverlayPart>>
}

export interface Alarm {
  id: string
  row: string
  rule: string
  equipment: string
  equipment_name: Words
  place: string | null
  place_name: Words
  instance: string
  signal: string | null
  priority: Priority
  class: string
  level: string
  state: AlarmState
  is_active: boolean
  is_latching: boolean
  is_late: boolean
  is_simulated: boolean
  raised_ms: number
  cleared_ms: number | null
  acked_ms: number | null
  acked_by: string | null
  value: number | null
  limit: number | null
  unit: string | null
  title: Words
  detail: Words
  overlay: Overlay | null
  group: string | null
  /** Id of the alarm that came first in its group. */
  cause: string | null
  realarms: number
  is_chattering: boolean
  guidance: Partial<Record<Lang, Guidance>> | null
  tickets: AlarmTicket[]
  events?: AlarmEvent[]
}

export type TicketState = 'NEW' | 'DISPATCHED' | 'ACCEPTED' | 'ARRIVED' | 'HOLD' | 'DONE' | 'CLOSED' | 'CANCELLED'
export type TicketStep =
  | 'dispatch' | 'accept' | 'decline' | 'arrive' | 'hold' | 'resume' | 'done' | 'close' | 'reject' | 'cancel' | 'reopen'

export interface TicketClock {
  kind: string
  start_ms: number
  target_ms: number
  paused_ms: number
  pause_start_ms: number | null
  stop_ms: number | null
  breached_ms: number | null
}

export interface TicketEvent {
  step: string
  from_state: TicketState | null
  to_state: TicketState
  at_ms: number
  user: string | null
  comment: string | null
  fields?: Record<string, unknown>
}

export interface TicketAlarm {
  id: string
  title: Words
  priority: Priority
  state: AlarmState
  is_active: boolean
}

export interface Ticket {
  id: string
  number: string
  type: string
  state: TicketState
  priority: Priority
  equipment: string | null
  equipment_name: Words
  place: string | null
  place_name: Words
  title: Words
  detail: Words
  created_ms: number
  updated_ms: number
  closed_ms: number | null
  assignee: string | null
  worker: string | null
  held_until_ms: number | null
  rework: number
  is_repeat: boolean
  is_simulated: boolean
  version: number
  clocks: TicketClock[]
  alarms: TicketAlarm[]
  alarm_count: number
  steps: TicketStep[]
  events?: TicketEvent[]
}

export interface StepFields {
  version?: number
  comment?: string
  assignee?: string
  reason?: string
  until_ms?: number
  result?: string
}

export interface AccessEvent {
  seq: number
  equipment: string | null
  equipment_name: Words
  time_ms: number
  method: string | null
  person: string | null
  card: string | null
  result: string | null
  direction: string | null
  fields: Record<string, unknown>
}

export interface Gateway {
  id: string
  equipment: string | null
  name: Words
  is_online: boolean
  last_ms: number | null
  epoch: string | number | null
  latency_ms: number | null
  backlog: number | null
  beats: number[]
  signals: number
  stale: number
  reason: string | null
}

export interface Person {
  id: string
  name: Words
  role: string
}

export interface MeasuredRow {
  row: string
  equipment: string
  equipment_name: Words
  title: Words
  alarms: number
  share: number | null
  bursts: number | null
}

/** Performance measures of the alarm system over a period. */
export interface Measures {
  start_ms: number
  end_ms: number
  alarms: number
  per_hour: number
  per_day: number
  peak_10_min: { alarms: number; end_ms: number | null }
  peak_hour: { alarms: number; end_ms: number | null }
  above_target_share: number
  floods: { start_ms: number; end_ms: number; alarms: number; peak: number }[]
  flood_share: number
  priorities: Partial<Record<Priority, { alarms: number; share: number }>>
  chattering: MeasuredRow[]
  fleeting: number
  bad_actors: MeasuredRow[]
  acknowledged: Partial<Record<Priority, { alarms: number; p50_s: number | null; p95_s: number | null }>>
  never_acknowledged: number
  realarms: number
  standing: { row: string; equipment: string; equipment_name: Words; title: Words; priority: Priority; raised_ms: number }[]
  covered: (Overlay & { row: string; rule: string; equipment: string; equipment_name: Words })[]
}

export interface Stats {
  samples_per_s: number
  alarm_scan_ms: number | null
  gateways_online: number
  gateways: number
  signals_good: number
  signals_stale: number
  data_age_ms: number | null
  access_today: number
  access_denied: number
  flood: { is_flood: boolean; count: number; since_ms: number | null; peak: number } | null
}

export interface Snapshot {
  type: 'snapshot'
  seq: number
  server_ms: number
  index_epoch: number
  alarms: Alarm[]
  tickets: Ticket[]
  access: AccessEvent[]
  gateways: Gateway[]
  stats: Partial<Stats>
}

export interface Change {
  type: 'change'
  seq: number
  /** It continues from here; more than what we have means that something is missing. */
  prev?: number
  server_ms: number
  alarms?: Alarm[]
  tickets?: Ticket[]
  access?: AccessEvent[]
}

export interface Tick {
  type: 'tick'
  server_ms: number
  seq: number
  build?: string
  stats?: Partial<Stats>
  gateways?: Gateway[]
}

export interface SignalsReset {
  type: 'signals_reset'
  index_epoch: number
}

/** The server slowed down for a screen that does not keep up. */
export interface Rate {
  type: 'rate'
  hz: number
}

export type LiveMessage = Snapshot | Change | Tick | SignalsReset | Rate

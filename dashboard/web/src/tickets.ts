/** Clocks and columns of the ticket board. Pure. */

import type { Ticket, TicketClock, TicketState, TicketStep } from '@/api/types'

export const COLUMNS: readonly TicketState[] = ['NEW', 'DISPATCHED', 'ACCEPTED', 'ARRIVED', 'HOLD', 'DONE']

export type ClockTone = 'done' | 'run' | 'near' | 'over' | 'pause' | 'wait'

export interface ClockView {
  kind: string
  tone: ClockTone
  /** Used share of the allowed time, 0 to 1. */
  share: number
  /** For done: time taken; run and near: time left; over: time beyond; wait: allowed time. */
  ms: number
  /** A clock that was missed keeps its red line for ever, also when it was met later. */
  isBreached: boolean
}

const ORDER = ['accept', 'arrive', 'restore', 'close']

/**
 * How one clock stands now. The server sends only timestamps; the browser counts.
 *
 * @param clock target_ms is the due time when it started; pauses push it back
 * @param isNext whether the clocks before it have stopped
 */
export function clockView(clock: TicketClock, nowMs: number, isNext: boolean): ClockView {
  const paused = clock.paused_ms + (clock.pause_start_ms === null ? 0 : Math.max(0, nowMs - clock.pause_start_ms))
  const due = clock.target_ms + paused
  const allowed = Math.max(1, clock.target_ms - clock.start_ms)
  const isBreached = clock.breached_ms !== null
  const base = { kind: clock.kind, isBreached }
  if (clock.stop_ms !== null) return { ...base, tone: 'done', share: 1, ms: clock.stop_ms - clock.start_ms }
  if (clock.pause_start_ms !== null) return { ...base, tone: 'pause', share: 0, ms: 0 }
  if (nowMs > due) return { ...base, tone: 'over', share: 1, ms: nowMs - due, isBreached: true }
  const share = Math.min(1, Math.max(0, (nowMs - clock.start_ms - paused) / allowed))
  if (!isNext) return { ...base, tone: 'wait', share, ms: allowed }
  return { ...base, tone: share >= 0.8 ? 'near' : 'run', share, ms: due - nowMs }
}

export function clockViews(clocks: readonly TicketClock[], nowMs: number): ClockView[] {
  const sorted = [...clocks].sort((a, b) => ORDER.indexOf(a.kind) - ORDER.indexOf(b.kind))
  const first = sorted.findIndex((clock) => clock.stop_ms === null)
  return sorted.map((clock, i) => clockView(clock, nowMs, i === first))
}

/** The clock that presses: the running one. */
export const pressing = (views: readonly ClockView[]): ClockView | undefined =>
  views.find((view) => view.tone === 'over' || view.tone === 'near' || view.tone === 'run')

const MAIN: readonly TicketStep[] = ['accept', 'arrive', 'resume', 'done', 'close', 'dispatch', 'reopen']

/** The one next step that gets the big button, and the others. */
export function splitSteps(steps: readonly TicketStep[]): { main: TicketStep | undefined; others: TicketStep[] } {
  const main = MAIN.find((step) => steps.includes(step))
  return { main, others: steps.filter((step) => step !== main) }
}

/** Which questions a step asks before it is sent. */
export function asks(step: TicketStep): { assignee: boolean; reason: boolean; until: boolean; result: boolean } {
  return {
    assignee: step === 'dispatch',
    reason: ['hold', 'decline', 'reject', 'cancel', 'reopen'].includes(step),
    until: step === 'hold',
    result: step === 'done',
  }
}

export const needsForm = (step: TicketStep): boolean => Object.values(asks(step)).some(Boolean)

export function find(ticket: Ticket, text: string, words: string): boolean {
  const wanted = text.trim().toLowerCase()
  return wanted === '' || `${ticket.number} ${ticket.equipment ?? ''} ${words}`.toLowerCase().includes(wanted)
}

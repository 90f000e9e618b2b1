import { createPinia, setActivePinia } from 'pinia'
import { beforeEach, describe, expect, it } from 'vitest'
import type { Ticket, TicketClock, TicketState } from '@/api/types'
import { useTickets } from '@/stores/tickets'
import { clockView, clockViews, needsForm, pressing, splitSteps } from '@/tickets'

const clock = (over: Partial<TicketClock> = {}): TicketClock => ({
  kind: 'accept', start_ms: 0, target_ms: 100_000, paused_ms: 0, pause_start_ms: null, stop_ms: null, breached_ms: null, ...over,
})
const ticket = (id: string, state: TicketState, version = 1, over: Partial<Ticket> = {}): Ticket => ({
  id, number: `WX-${id}`, type: 'repair', state, priority: 2, equipment: null, equipment_name: null, place: null, place_name: null,
  title: '', detail: '', created_ms: 0, updated_ms: 0, closed_ms: null, assignee: null, worker: null, held_until_ms: null, rework: 0,
  is_repeat: false, is_simulated: false, version, clocks: [], alarms: [], alarm_count: 0, steps: [], ...over,
})

describe('a ticket clock', () => {
  it('runs, warns at 80 percent, and tells by how much it is over', () => {
    expect(clockView(clock(), 30_000, true)).toMatchObject({ tone: 'run', share: 0.3, ms: 70_000 })
    expect(clockView(clock(), 80_000, true)).toMatchObject({ tone: 'near', ms: 20_000 })
    expect(clockView(clock(), 130_000, true)).toMatchObject({ tone: 'over', ms: 30_000, isBreached: true })
  })

  it('gets its pauses back', () => {
    expect(clockView(clock({ paused_ms: 60_000 }), 130_000, true)).toMatchObject({ tone: 'run', share: 0.7, ms: 30_000 })
    expect(clockView(clock({ pause_start_ms: 50_000 }), 900_000, true).tone).toBe('pause')
  })

  it('keeps its red line for ever when it was missed and met later', () => {
    expect(clockView(clock({ stop_ms: 150_000, breached_ms: 100_000 }), 999_999, true)).toMatchObject({ tone: 'done', ms: 150_000, isBreached: true })
  })

  it('waits while an earlier one runs, in the order accept, arrive, restore', () => {
    const views = clockViews([clock({ kind: 'restore' }), clock({ kind: 'arrive' }), clock({ kind: 'accept', stop_ms: 10 })], 1000)
    expect(views.map((view) => [view.kind, view.tone])).toEqual([['accept', 'done'], ['arrive', 'run'], ['restore', 'wait']])
    expect(pressing(views)?.kind).toBe('arrive')
  })
})

describe('steps', () => {
  it('give the next step on the road the big button', () => {
    expect(splitSteps(['hold', 'arrive', 'cancel'])).toEqual({ main: 'arrive', others: ['hold', 'cancel'] })
    expect(splitSteps(['reject', 'close'])).toEqual({ main: 'close', others: ['reject'] })
    expect(splitSteps([])).toEqual({ main: undefined, others: [] })
  })

  it('ask before they send only where something must be known', () => {
    expect((['accept', 'arrive', 'resume', 'close'] as const).some(needsForm)).toBe(false)
    expect((['dispatch', 'hold', 'done', 'decline', 'reject', 'cancel', 'reopen'] as const).every(needsForm)).toBe(true)
  })
})

describe('the tickets', () => {
  beforeEach(() => setActivePinia(createPinia()))

  it('never go back to an older version, whichever message comes first', () => {
    const store = useTickets()
    store.change([ticket('1', 'ARRIVED', 3)])
    store.change([ticket('1', 'ACCEPTED', 2)])
    expect(store.known.get('1')?.state).toBe('ARRIVED')
  })

  it('keep closed ones through a snapshot, which holds only the open ones', () => {
    const store = useTickets()
    store.change([ticket('1', 'CLOSED', 5), ticket('2', 'NEW')])
    store.replace([ticket('3', 'NEW')])
    expect([...store.known.keys()].sort()).toEqual(['1', '3'])
    expect(store.open.map((one) => one.id)).toEqual(['3'])
  })

  it('keep their history when a list item without it arrives', () => {
    const store = useTickets()
    store.change([ticket('1', 'NEW', 1, { events: [] })])
    store.change([ticket('1', 'DISPATCHED', 2)])
    expect(store.known.get('1')).toMatchObject({ state: 'DISPATCHED', events: [] })
  })
})

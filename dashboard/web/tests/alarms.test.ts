import { createPinia, setActivePinia } from 'pinia'
import { beforeEach, describe, expect, it } from 'vitest'
import { blocksOf, heldOrder, matches, mayTick, stepsOf } from '@/alarms'
import type { Alarm, AlarmState, Priority } from '@/api/types'
import { byUrgency, isUnacked, useAlarms } from '@/stores/alarms'

export function alarm(id: string, priority: Priority, state: AlarmState, raised: number, over: Partial<Alarm> = {}): Alarm {
  return {
    id, row: `r|${id}|`, rule: 'r', equipment: 'WP-01', equipment_name: { zh: '泵', en: 'Pump' }, place: 'PUMPS', place_name: null,
    instance: '', signal: null, priority, class: 'equipment', level: '', state, is_active: state === 'UNACK' || state === 'ACKED',
    is_latching: false, is_late: false, is_simulated: false, raised_ms: raised, cleared_ms: null, acked_ms: null, acked_by: null,
    value: null, limit: null, unit: null, title: { zh: '低', en: 'low' }, detail: { zh: '', en: '' }, overlay: null, group: null, cause: null, realarms: 0, is_chattering: false, guidance: null, tickets: [], ...over,
  }
}
const ids = (list: readonly Alarm[]): string => list.map((one) => one.id).join('')

beforeEach(() => setActivePinia(createPinia()))

describe('order of alarms', () => {
  it('is priority, then unacknowledged first, then newest', () => {
    const list = [alarm('a', 2, 'ACKED', 9), alarm('b', 1, 'ACKED', 1), alarm('c', 2, 'UNACK', 3), alarm('d', 2, 'RTNUN', 5), alarm('e', 2, 'ACKED', 10)]
    expect(ids([...list].sort(byUrgency))).toBe('bdcea')
  })

  it('does not move under the reader’s hand: known rows stay, new ones come last, gone ones leave', () => {
    expect(heldOrder(['c', 'a', 'b'], ['n', 'a', 'c'], true)).toEqual(['c', 'a', 'n'])
    expect(heldOrder(['c', 'a', 'b'], ['n', 'a', 'c'], false)).toEqual(['n', 'a', 'c'])
  })

  it('keeps every alarm exactly once, held or not', () => {
    const sorted = ['q', 'w', 'e', 'r']
    for (const isHeld of [true, false]) expect([...heldOrder(['r', 'x', 'q'], sorted, isHeld)].sort()).toEqual([...sorted].sort())
  })
})

describe('filters', () => {
  const everything = { tab: 'live' as const, priorities: new Set<Priority>([1, 2, 3, 4]), type: '', text: '' }
  const typeOf = () => 'booster_set'
  const words = (one: Alarm) => `${one.equipment} outlet`
  it('show returned alarms only in their tab, and find text whatever its case', () => {
    const returned = alarm('a', 2, 'RTNUN', 1)
    expect(matches(returned, { ...everything, tab: 'returned' }, typeOf, words)).toBe(true)
    expect(matches(alarm('b', 2, 'UNACK', 1), { ...everything, tab: 'returned' }, typeOf, words)).toBe(false)
    expect(matches(returned, { ...everything, text: 'wp-01' }, typeOf, words)).toBe(true)
    expect(matches(returned, { ...everything, text: 'lift' }, typeOf, words)).toBe(false)
    expect(matches(returned, { ...everything, priorities: new Set<Priority>([1]) }, typeOf, words)).toBe(false)
    expect(matches(returned, { ...everything, type: 'elevator' }, typeOf, words)).toBe(false)
  })
})

describe('the live alarms', () => {
  it('forget an alarm that is normal again, and remember it as the last one that returned', () => {
    const store = useAlarms()
    store.replace([alarm('a', 2, 'ACKED', 1), alarm('b', 3, 'UNACK', 2)])
    store.change([alarm('a', 2, 'NORM', 1)])
    expect(ids(store.sorted)).toBe('b')
    expect(store.lastReturned?.id).toBe('a')
  })

  it('are replaced by a snapshot as a whole', () => {
    const store = useAlarms()
    store.replace([alarm('a', 2, 'ACKED', 1)])
    store.replace([alarm('c', 1, 'UNACK', 1), alarm('n', 1, 'NORM', 1)])
    expect(ids(store.sorted)).toBe('c')
  })

  it('put the most urgent unseen alarm of the highest priority into the banner', () => {
    const store = useAlarms()
    store.replace([alarm('a', 1, 'ACKED', 9), alarm('b', 1, 'UNACK', 1), alarm('c', 2, 'UNACK', 5)])
    expect(store.top?.id).toBe('b')
    store.change([alarm('b', 1, 'ACKED', 1)])
    expect(store.top?.id).toBe('a')
  })

  it('keep the selection on its occurrence when the order changes', () => {
    const store = useAlarms()
    store.replace([alarm('a', 3, 'UNACK', 1)])
    store.selectedId = 'a'
    store.change([alarm('b', 1, 'UNACK', 2)])
    expect(store.selected?.id).toBe('a')
  })

  it('count as unseen while nobody acknowledged them, also after they returned', () => {
    const unseen = (['NORM', 'UNACK', 'ACKED', 'RTNUN', 'LUNACK', 'LACKED'] as const).filter((state) => isUnacked({ state }))
    expect(unseen).toEqual(['UNACK', 'RTNUN', 'LUNACK'])
  })
})

describe('guidance', () => {
  it('is a list of steps or a text with a step a line', () => {
    expect(stepsOf(['a', ' b '])).toEqual(['a', 'b'])
    expect(stepsOf('a\n\nb')).toEqual(['a', 'b'])
    expect(stepsOf(undefined)).toEqual([])
  })
})

describe('what is hidden', () => {
  it('is no news: neither list, counts nor banner show it, its own lists do', () => {
    const store = useAlarms()
    store.replace([alarm('a', 1, 'OOSRV', 1), alarm('b', 2, 'SHLVD', 2), alarm('c', 3, 'DSUPR', 3), alarm('d', 4, 'UNACK', 4)])
    expect(ids(store.sorted)).toBe('d')
    expect(store.counts).toEqual({ 1: 0, 2: 0, 3: 0, 4: 1 })
    expect(store.top?.id).toBe('d')
    expect(ids(store.hidden)).toBe('abc')
    expect(store.byEquipment.get('WP-01')?.length).toBe(1)
  })

  it('stands in its own tab only', () => {
    const filter = (tab: 'shelved' | 'suppressed' | 'out') => ({ tab, priorities: new Set<Priority>([1, 2, 3, 4]), type: '', text: '' })
    const states: AlarmState[] = ['SHLVD', 'DSUPR', 'OOSRV']
    for (const [i, tab] of (['shelved', 'suppressed', 'out'] as const).entries()) {
      expect(states.map((state) => matches(alarm('a', 2, state, 1), filter(tab), () => '', () => ''))).toEqual(states.map((_, at) => at === i))
    }
  })
})

describe('groups', () => {
  const rows = [alarm('u', 1, 'UNACK', 9, { cause: 'x' }), alarm('b', 2, 'UNACK', 5, { cause: 'x' }), alarm('l', 2, 'ACKED', 4), alarm('x', 3, 'RTNUN', 1, { cause: 'x' })]

  it('stand where their most urgent row stands, the cause first; priority 1 stands for itself', () => {
    const blocks = blocksOf(rows, 'cause')
    expect(blocks.map((block) => ids(block.alarms))).toEqual(['u', 'xb', 'l'])
    expect(blocks.map((block) => block.head?.id ?? null)).toEqual([null, 'x', null])
  })

  it('lose and double no row, whatever they are grouped by', () => {
    for (const by of ['none', 'equipment', 'cause'] as const) {
      expect(blocksOf(rows, by).flatMap((block) => block.alarms.map((one) => one.id)).sort()).toEqual(['b', 'l', 'u', 'x'])
    }
  })

  it('are named after the earliest row when the cause has gone', () => {
    const left = [alarm('b', 2, 'UNACK', 5, { cause: 'gone' }), alarm('c', 2, 'UNACK', 3, { cause: 'gone' })]
    expect(blocksOf(left, 'cause')[0]!.head?.id).toBe('c')
  })
})

it('bulk acknowledge never takes priority 1, nor what waits for nobody', () => {
  expect([alarm('a', 1, 'UNACK', 1), alarm('b', 2, 'UNACK', 1), alarm('c', 2, 'ACKED', 1), alarm('d', 3, 'RTNUN', 1), alarm('e', 3, 'SHLVD', 1)].map(mayTick)).toEqual([false, true, false, true, false])
})

/** The order of the alarm list under a reader's hand, and its filters. Pure. */

import type { Alarm, Priority } from '@/api/types'
import { isUnacked } from '@/stores/alarms'

export type AlarmTab = 'live' | 'returned' | 'shelved' | 'suppressed' | 'out' | 'journal'
export type Grouping = 'none' | 'equipment' | 'cause'

const STATES: Partial<Record<AlarmTab, readonly string[]>> = { returned: ['RTNUN', 'LUNACK'], shelved: ['SHLVD'], suppressed: ['DSUPR'], out: ['OOSRV'] }

export interface AlarmFilter {
  tab: AlarmTab
  priorities: ReadonlySet<Priority>
  type: string
  place?: string
  text: string
}

/**
 * Order of ids to draw. While somebody works in the list no row may move: known rows keep their place,
 * new ones come at the end, and only what is gone leaves.
 */
export function heldOrder(before: readonly string[], sorted: readonly string[], isHeld: boolean): string[] {
  if (!isHeld) return [...sorted]
  const present = new Set(sorted), known = new Set(before)
  return [...before.filter((id) => present.has(id)), ...sorted.filter((id) => !known.has(id))]
}

export function matches(alarm: Alarm, filter: AlarmFilter, typeOf: (equipment: string) => string | undefined, words: (alarm: Alarm) => string): boolean {
  const states = STATES[filter.tab]
  if (states && !states.includes(alarm.state)) return false
  if (filter.place && alarm.place !== filter.place) return false
  if (!filter.priorities.has(alarm.priority)) return false
  if (filter.type !== '' && typeOf(alarm.equipment) !== filter.type) return false
  const wanted = filter.text.trim().toLowerCase()
  return wanted === '' || words(alarm).toLowerCase().includes(wanted)
}

/** Steps of a guidance: a list, or one text with a step on each line. */
export function stepsOf(steps: string[] | string | undefined): string[] {
  if (steps === undefined) return []
  return (Array.isArray(steps) ? steps : steps.split('\n')).map((step) => step.trim()).filter(Boolean)
}

export interface Block {
  key: string
  /** The alarm that came first, for a group with more than one row. */
  head: Alarm | null
  alarms: Alarm[]
}

/**
 * Rows in their groups, each group where its most urgent row stands; alone is no group, and priority 1 always
 * stands for itself. Within a group the cause comes first.
 */
export function blocksOf(rows: readonly Alarm[], by: Grouping): Block[] {
  const blocks: Block[] = [], known = new Map<string, Block>()
  for (const alarm of rows) {
    const key = by === 'none' || alarm.priority === 1 ? null : by === 'cause' ? alarm.cause : alarm.equipment
    const block = key === null ? undefined : known.get(key)
    if (block) block.alarms.push(alarm)
    else {
      const made: Block = { key: key ?? alarm.id, head: null, alarms: [alarm] }
      blocks.push(made)
      if (key !== null) known.set(key, made)
    }
  }
  for (const block of blocks) {
    if (block.alarms.length < 2) continue
    const first = block.alarms.find((a) => a.id === a.cause) ?? block.alarms.reduce((a, b) => (b.raised_ms < a.raised_ms ? b : a))
    block.head = first
    block.alarms = [first, ...block.alarms.filter((a) => a !== first)]
  }
  return blocks
}

/** What bulk acknowledge takes: seen, not urgent, waiting for somebody. */
export const mayTick = (alarm: Alarm): boolean => alarm.priority !== 1 && isUnacked(alarm)
export const MOST_TICKED = 20

/** The order of the alarm list under a reader's hand, and its filters. Pure. */

import type { Alarm, Priority } from '@/api/types'
import { isUnacked } from '@/stores/alarms'

export type AlarmTab = 'live' | 'unacked' | 'returned' | 'journal'

export interface AlarmFilter {
  tab: AlarmTab
  priorities: ReadonlySet<Priority>
  type: string
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
  if (filter.tab === 'unacked' && !isUnacked(alarm)) return false
  if (filter.tab === 'returned' && alarm.state !== 'RTNUN' && alarm.state !== 'LUNACK') return false
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

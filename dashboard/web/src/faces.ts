/** Which signals of an equipment deserve a trend, in lanes. Pure. */

import type { Equipment, SignalInfo, Words } from '@/api/types'
import type { Lane } from '@/components/TrendPanel.vue'

const LANES: Record<string, string[][]> = {
  booster_set: [['outlet_pressure'], ['p1_frequency', 'p2_frequency', 'p3_frequency'], ['flow']],
  elevator: [['floor'], ['speed'], ['door']],
  tank: [['level']],
  sump: [['level'], ['p1_state']],
  fire_panel: [['fire'], ['sprinkler_pressure', 'hydrant_pressure']],
  meter: [['power'], ['voltage_a', 'voltage_b', 'voltage_c']],
  door: [['contact'], ['lock']],
  gateway: [['outbox_frames'], ['links_down']],
  centre: [['disk_use'], ['refused_rate']],
}

export function lanesOf(item: Equipment, height: number, say: (words: Words) => string): Lane[] {
  const byName = new Map(item.signals.map((signal) => [signal.key.slice(item.id.length + 1), signal]))
  const named = (LANES[item.type] ?? []).map((names) => names.flatMap((name) => byName.get(name) ?? [])).filter((lane) => lane.length > 0)
  const groups: SignalInfo[][] = named.length > 0 ? named : fallback(item)
  const share = Math.max(64, Math.floor((height - groups.length * 26 - 26) / Math.max(1, groups.length)))
  return groups.map((signals, i) => ({
    lines: signals.map((signal) => ({ key: signal.key, label: say(signal.name) })),
    height: share + (i === groups.length - 1 ? 26 : 0),
    isStep: signals[0]!.kind === 'state',
  }))
}

function fallback(item: Equipment): SignalInfo[][] {
  const measured = item.signals.filter((signal) => signal.kind === 'measure').slice(0, 3)
  return (measured.length > 0 ? measured : item.signals.slice(0, 2)).map((signal) => [signal])
}

/** Order of the equipment list: by system, as the layers of the plan. */
export const TYPE_ORDER = ['elevator', 'booster_set', 'tank', 'sump', 'fire_panel', 'meter', 'door', 'machine', 'gateway', 'centre']

export function typeRank(type: string): number {
  const at = TYPE_ORDER.indexOf(type)
  return at < 0 ? TYPE_ORDER.length : at
}

/** The most urgent live alarm of one equipment, for the colour of its symbol. */

import { computed, type ComputedRef, type MaybeRefOrGetter, toValue } from 'vue'
import type { Alarm } from '@/api/types'
import { useAlarms } from '@/stores/alarms'

export interface Hot {
  alarm: ComputedRef<Alarm | undefined>
  /** Stroke of the symbol, in the alarm's colour or the given grey. */
  line: (calm: string) => string
  fill: (calm: string) => string
  tint: ComputedRef<string>
}

export function useHot(equipment: MaybeRefOrGetter<string>): Hot {
  const alarms = useAlarms()
  const alarm = computed(() => alarms.byEquipment.get(toValue(equipment))?.find((one) => one.is_active))
  return {
    alarm,
    line: (calm) => (alarm.value ? `var(--p${alarm.value.priority}-line)` : calm),
    fill: (calm) => (alarm.value ? `var(--p${alarm.value.priority})` : calm),
    tint: computed(() => (alarm.value ? `var(--p${alarm.value.priority}-tint)` : 'none')),
  }
}

/** Which layer chip an equipment type belongs to. */
export const LAYERS = ['access', 'elevators', 'water', 'fire', 'power'] as const
export type Layer = (typeof LAYERS)[number]
const LAYER_OF: Record<string, Layer> = {
  door: 'access', elevator: 'elevators', booster_set: 'water', tank: 'water', sump: 'water', fire_panel: 'fire', meter: 'power',
}
export const layerOf = (type: string | undefined): Layer | undefined => (type === undefined ? undefined : LAYER_OF[type])

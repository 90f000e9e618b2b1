/** Live values for components: one shallow ref a signal, changed at most once a frame. */

import { type MaybeRefOrGetter, onScopeDispose, type ShallowRef, shallowRef, toValue, watch } from 'vue'
import { signals } from './connection'
import { NO_READING, type Reading } from './signals'

export function useReading(key: MaybeRefOrGetter<string | null | undefined>, hz = 2): ShallowRef<Reading> {
  const reading = shallowRef<Reading>(NO_READING)
  let stop: (() => void) | undefined
  watch(() => toValue(key), (name) => {
    stop?.()
    stop = undefined
    if (!name) {
      reading.value = NO_READING
      return
    }
    reading.value = signals.read(name)
    stop = signals.watch(name, (next) => (reading.value = next), hz)
  }, { immediate: true })
  onScopeDispose(() => stop?.())
  return reading
}

/** Several signals of one equipment by name. */
export function useReadings<N extends string>(
  equipment: MaybeRefOrGetter<string>, names: readonly N[], hz = 2,
): Record<N, ShallowRef<Reading>> {
  const made = {} as Record<N, ShallowRef<Reading>>
  for (const name of names) made[name] = useReading(() => `${toValue(equipment)}/${name}`, hz)
  return made
}

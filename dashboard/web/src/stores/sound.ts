/** The true state of the sound, and when it is silenced. */

import { defineStore } from 'pinia'
import { computed, ref, watch } from 'vue'
import type { Alarm } from '@/api/types'
import { Horn, type HornState } from '@/sound/horn'
import { useAlarms } from './alarms'
import { useLink } from './link'

export const SILENCE_MS = 120_000

export const useSound = defineStore('sound', () => {
  const alarms = useAlarms()
  const link = useLink()
  const state = ref<HornState>('off')
  const silencedUntilMs = ref(0)
  /** Alarms that were sounding when somebody silenced them; a new one sounds again. */
  const silenced = ref<ReadonlySet<string>>(new Set())
  const horn = new Horn((next) => (state.value = next))

  const isSilenced = computed(() => silencedUntilMs.value > link.nowMs)
  const wanted = computed<1 | 2 | null>(() => {
    const loud = alarms.unacked.filter((alarm) => sounds(alarm) && !(isSilenced.value && silenced.value.has(alarm.id)))
    return loud.length === 0 ? null : loud[0]!.priority === 1 ? 1 : 2
  })
  watch(wanted, (priority) => horn.sound(priority), { immediate: true })

  async function arm(): Promise<void> {
    await horn.arm()
    state.value = horn.state
  }

  function silence(): void {
    silencedUntilMs.value = link.nowMs + SILENCE_MS
    silenced.value = new Set(alarms.unacked.filter(sounds).map((alarm) => alarm.id))
  }

  return { state, silencedUntilMs, isSilenced, wanted, arm, silence, test: () => horn.test() }
})

/** A returned alarm is quiet, except a latching one: it keeps sounding until somebody has seen it. */
const sounds = (alarm: Alarm): boolean =>
  alarm.priority <= 2 && (alarm.state === 'UNACK' || alarm.state === 'LUNACK')

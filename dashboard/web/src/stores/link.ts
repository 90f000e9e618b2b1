/** The state of the live connection: the site's clock, freshness, gateways, figures of the service. */

import { defineStore } from 'pinia'
import { computed, ref, shallowRef } from 'vue'
import type { Gateway, Stats } from '@/api/types'
import type { LinkState } from '@/live/socket'

export const useLink = defineStore('link', () => {
  const state = ref<LinkState>('connecting')
  /** Server time minus the browser's. */
  const offsetMs = ref(0)
  /** Server time, moved once a second while the connection lives and frozen while it does not. */
  const nowMs = ref(Date.now())
  const heardMs = ref(0)
  const gateways = shallowRef<Gateway[]>([])
  const stats = shallowRef<Partial<Stats>>({})
  const build = ref('')

  const isTrusted = computed(() => state.value === 'live')
  const silentMs = computed(() => (heardMs.value === 0 ? 0 : Math.max(0, browserMs.value - heardMs.value)))
  const browserMs = ref(Date.now())

  function heard(serverMs: number): void {
    heardMs.value = Date.now()
    browserMs.value = heardMs.value
    offsetMs.value = serverMs - heardMs.value
    nowMs.value = serverMs
  }

  function gatewayOf(id: string | null): Gateway | undefined {
    return id === null ? undefined : gateways.value.find((g) => g.id === id || g.equipment === id)
  }

  setInterval(() => {
    browserMs.value = Date.now()
    if (state.value === 'live') nowMs.value = browserMs.value + offsetMs.value
  }, 500)

  return { state, offsetMs, nowMs, heardMs, silentMs, gateways, stats, build, isTrusted, heard, gatewayOf }
})
